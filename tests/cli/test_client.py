"""The client asks as the API wants to be asked, and every trouble is one line that says what to do."""

from __future__ import annotations

import hmac
import socket
from hashlib import sha256
from typing import Any

import pytest
from pydantic import SecretStr

from tests.cli.support import NOW, Exporter
from watchbill.client import (
    MOST_BYTES_PER_REQUEST,
    Client,
    Reload,
    ReloadRejectedError,
    ServerError,
    UnreachableError,
)
from watchbill.domain.units import SECOND

NONCE = b"n" * 16
COUNTS = {"added": 1, "changed": 1, "removed": 0, "moved": 1}
RELOADED = {
    **COUNTS,
    "digest": "d",
    "revision": "r",
    "checks": {
        "added": ["a"],
        "changed": [{"id": "b", "fields": ["url"]}],
        "removed": [],
        "moved": [{"id": "c", "moved_from": "d", "fields": []}],
    },
}


def test_nobody_there_says_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(UnreachableError) as caught:
        client.config()
    assert str(caught.value) == (
        f"no exporter answers at http://127.0.0.1:{port} (connection refused); "
        "start one with `watchbill run CONFIG`, or name another address"
    )


@pytest.mark.parametrize("server", ["", "ftp://x", "http://", "http://[::1", "http://x:99999", "http:// x"])
def test_an_address_that_is_none_is_refused_before_anything_is_sent(server: str) -> None:
    with pytest.raises(ServerError, match="not the address of an exporter, such as http"):
        Client(server)


def test_a_scheme_may_be_left_out() -> None:
    with Client("127.0.0.1:9876") as client:
        assert client.server == "http://127.0.0.1:9876"


def test_credentials_in_the_address_are_sent_and_never_shown(exporter: Exporter) -> None:
    exporter.answers["GET /api/v1/config"] = (401, {"error": "who are you?"})
    address = exporter.url.replace("http://", "http://bob:hunter2@")
    with Client(address) as client, pytest.raises(ServerError) as caught:
        client.config()
    assert str(caught.value) == (
        f"{exporter.url} wants another user or password; "
        "pass them as basic_auth in --http.config.file FILE, or as in https://USER:PASSWORD@HOST"
    )


@pytest.mark.parametrize("answer", ["<html>", [], {"checks": 1}, {"checks": {"a": {}}, "digest": ""}])
def test_another_program_on_the_port_is_told_from_an_exporter(exporter: Exporter, answer: Any) -> None:
    exporter.answers["GET /api/v1/config"] = (200, answer)
    with Client(exporter.url) as client, pytest.raises(ServerError, match="but not as a Watchbill exporter"):
        client.config()


def test_what_runs_is_read_with_its_settings(exporter: Exporter) -> None:
    exporter.answers["GET /api/v1/config"] = (
        200,
        {
            "digest": "d",
            "revision": "r",
            "location": "eu",
            "checks": {"a": {"spec": {"type": "icmp", "host": "x", "enabled": False}, "interval_us": SECOND}},
            "moved": {"b": "a"},
            "services": {"shop": {"owner": "me"}},
        },
    )
    with Client(exporter.url) as client:
        found = client.config()
    assert (found.digest, found.revision, found.location) == ("d", "r", "eu")
    assert found.specs["a"].fields == {"type": "icmp", "host": "x", "enabled": False}
    assert (found.specs["a"].interval, found.specs["a"].enabled) == (SECOND, False)
    assert found.moved == {"b": "a"}
    assert found.settings == {"services": {"shop": {"owner": "me"}}}


def test_secrets_are_compared_by_hmac_under_the_nonce(exporter: Exporter) -> None:
    exporter.answers["POST /api/v1/config/compare"] = (200, {"differ": {"a": ["headers.X"]}})
    with Client(exporter.url) as client:
        differ = client.compare({"a": {"headers.X": SecretStr("s3cret")}}, nonce=NONCE, wait=_never)
    digest = hmac.new(NONCE, b"s3cret", sha256).hexdigest()
    sent = exporter.asked[0][2]
    assert sent == {"nonce": NONCE.hex(), "digests": {"a": {"headers.X": digest}}}
    assert differ == {"a": frozenset({"headers.X"})}


def test_many_secrets_go_in_requests_below_the_limit(exporter: Exporter) -> None:
    exporter.answers["POST /api/v1/config/compare"] = lambda body: (
        200,
        {"differ": {check_id: list(paths) for check_id, paths in body["digests"].items()}},
    )
    secrets = {f"check-{n}": {"body": SecretStr("x"), "headers.A": SecretStr("y")} for n in range(500)}
    with Client(exporter.url) as client:
        differ = client.compare(secrets, nonce=NONCE, wait=_never)
    assert differ == {check_id: frozenset(paths) for check_id, paths in secrets.items()}
    assert len(exporter.asked) > 1
    assert all(len(str(body)) < MOST_BYTES_PER_REQUEST + 1024 for _, _, body in exporter.asked)


def test_a_busy_exporter_is_asked_again_after_a_second(exporter: Exporter) -> None:
    answers = iter([(429, {"error": "slowly"}), (429, {"error": "slowly"}), (200, {"differ": {}})])
    exporter.answers["POST /api/v1/config/compare"] = lambda _: next(answers)
    waited: list[float] = []
    with Client(exporter.url) as client:
        assert client.compare({"a": {"b": SecretStr("c")}}, nonce=NONCE, wait=waited.append) == {}
    assert waited == [1.1, 1.1]


def test_an_exporter_that_stays_busy_is_left_alone(exporter: Exporter) -> None:
    exporter.answers["POST /api/v1/config/compare"] = (429, {"error": "slowly"})
    with Client(exporter.url) as client, pytest.raises(ServerError, match="busy comparing secrets"):
        client.compare({"a": {"b": SecretStr("c")}}, nonce=NONCE, wait=lambda _: None)
    assert len(exporter.asked) == 5


def test_a_report_asks_for_the_period_in_utc(exporter: Exporter) -> None:
    exporter.answers["GET /api/v1/report"] = (200, {"checks": []})
    with Client(exporter.url) as client:
        assert client.report(since=NOW, until=NOW + SECOND) == ()
    assert exporter.asked[0][1] == (
        "/api/v1/report?since=2026-11-01T00%3A00%3A00.000Z&until=2026-11-01T00%3A00%3A01.000Z"
    )


def test_a_reload_tells_what_it_counted(exporter: Exporter) -> None:
    exporter.answers["POST /-/reload"] = (200, RELOADED)
    with Client(exporter.url) as client:
        assert client.reload() == Reload("d", "r", COUNTS, {"b": ("url",), "c": ()})
    assert exporter.asked[0][1] == "/-/reload"


def test_a_reload_may_allow_a_mass_delete(exporter: Exporter) -> None:
    exporter.answers["POST /-/reload"] = (200, RELOADED)
    with Client(exporter.url) as client:
        client.reload(allow_mass_delete=True)
    assert exporter.asked[0][1] == "/-/reload?allow_mass_delete=true"


@pytest.mark.parametrize("status", [403, 404, 405])
def test_a_reload_over_http_that_is_off_says_what_to_do(exporter: Exporter, status: int) -> None:
    exporter.answers["POST /-/reload"] = (status, {"error": "off"})
    with Client(exporter.url) as client, pytest.raises(ServerError, match="start it with --web"):
        client.reload()


@pytest.mark.parametrize(
    ("answer", "problems"),
    [
        (
            {"error": "2", "problems": ["a.yaml:1:2: no", "x"]},
            ("a.yaml:1:2: no", "x"),
        ),
        ({"error": "would delete 30 of 40 checks"}, ("would delete 30 of 40 checks",)),
        ("a.yaml:1:2: no\na.yaml:3:4: neither", ("a.yaml:1:2: no", "a.yaml:3:4: neither")),
        ("", ("the exporter refused the configuration and did not say why; its log does",)),
    ],
)
def test_a_refused_reload_lists_every_problem(
    exporter: Exporter, answer: Any, problems: tuple[str, ...]
) -> None:
    exporter.answers["POST /-/reload"] = (500, answer)
    with Client(exporter.url) as client, pytest.raises(ReloadRejectedError) as caught:
        client.reload()
    assert caught.value.problems == problems


def _never(_: float) -> None:
    raise AssertionError("there was nothing to wait for")
