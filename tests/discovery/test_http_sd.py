"""Targets from a URL: only a 200 with a JSON list of groups is an answer."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import anyio.to_thread
import pytest
from pydantic import ValidationError

from tests.discovery.reports import Told, running
from watchbill.discovery.http_sd import http_sd
from watchbill.domain.discovery import HttpSd
from watchbill.domain.results import Reason
from watchbill.net import open_network
from watchbill.net.http import HttpRequests
from watchbill.ports import HttpError
from watchbill.testing import FakeHttp, HttpReply, HttpRequest, judge_inline

pytestmark = pytest.mark.anyio
URL = "https://inventory.example/targets"
JSON = {"Content-Type": "application/json"}
GROUPS = [{"targets": ["a:1"], "labels": {"env": "prod"}}]


def reply(document: Any = GROUPS, status: int = 200, kind: str = "application/json") -> HttpReply:
    return HttpReply(status, [json.dumps(document).encode()], {"Content-Type": kind})


async def asked(*replies: HttpReply | HttpError, **declared: Any) -> tuple[Told, FakeHttp]:
    """What is told of these answers, one after the other; the last one stays."""
    waiting = list(replies)
    http = FakeHttp(lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0])
    options = HttpSd.model_validate({"url": URL, "refresh": "1ms", **declared})
    told = Told()
    async with running(http_sd(options, http=http, judge=judge_inline), told):
        await told.until(lambda: len(told.all_found) + len(told.failures) >= len(replies))
    return told, http


async def test_groups_are_found_with_their_url() -> None:
    told, http = await asked(reply())
    assert told.targets() == {
        f"{URL}:0": [{"__address__": "a:1", "env": "prod", "__meta_url": URL}],
    }
    [request] = http.requests[:1]
    assert (request.method, request.url) == ("GET", URL)
    assert request.headers["Accept"] == "application/json"
    assert request.headers["X-Prometheus-Refresh-Interval-Seconds"] == "0.001"


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
async def test_json_is_taken_however_it_is_called(kind: str) -> None:
    assert (await asked(reply(kind=kind)))[0].addresses() == ["a:1"]


BAD = [
    (reply(status=500), "the answer must be 200, got 500"),
    (reply(status=204), "the answer must be 200, got 204"),
    (reply(status=304), "the answer must be 200, got 304"),
    (reply(kind="text/html"), "of the type application/json"),
    (reply(kind=""), "of the type application/json"),
    (reply({}), "a list of groups is due"),
    (reply(None), "a list of groups is due"),
    (reply([{"targets": [1]}]), "the targets of group 0"),
    (HttpReply(200, [b"[{"], JSON), "is not JSON"),
    (HttpReply(200, [b"[" * 1000] * 40_000, JSON), "at most 33554432 bytes"),
    (HttpReply(200, [b"["], JSON, then=HttpError(Reason.RESET, "the connection was cut")), "the connection was cut"),
    (HttpError(Reason.REFUSED, "inventory.example refused the connection"), "refused"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "why"), BAD, ids=[why for _, why in BAD])
async def test_anything_else_keeps_what_was_found_and_counts(bad: HttpReply | HttpError, why: str) -> None:
    told, _ = await asked(reply(), bad)
    assert told.addresses() == ["a:1"]
    assert why in told.failures[0]
    assert "\n" not in told.failures[0]


async def test_an_empty_list_is_an_answer() -> None:
    told, _ = await asked(reply(), reply([]))
    assert (told.addresses(), told.failures) == ([], [])


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"bearer": "t0ken"}, "Bearer t0ken"),
        ({"basic": {"username": "Aladdin", "password": "open sesame"}}, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
    ],
)
async def test_credentials_are_sent(auth: dict[str, Any], header: str) -> None:
    _, http = await asked(reply(), auth=auth, headers={"X-Team": "shop"})
    request: HttpRequest = http.requests[0]
    assert (request.headers["Authorization"], request.headers["X-Team"]) == (header, "shop")


@pytest.mark.parametrize(("headers", "followed"), [({}, True), ({"X-Api-Key": "secret"}, False)])
async def test_a_redirect_is_followed_where_it_shows_no_header_to_others(
    headers: dict[str, str], followed: bool
) -> None:
    class Noted(FakeHttp):
        def open(self, method: str, url: str, **options: Any) -> Any:
            asked_for.append(options["follow_redirects"])
            return super().open(method, url, **options)

    asked_for: list[bool] = []
    http = Noted(lambda _: reply())
    options = HttpSd.model_validate({"url": URL, "headers": headers})
    async with running(http_sd(options, http=http, judge=judge_inline)) as told:
        await told.until(lambda: bool(told.all_found))
    assert asked_for == [followed]


@pytest.mark.parametrize("url", ["ftp://a.example/", "https://", "https://me:pass@a.example/", "a.example"])
def test_a_url_that_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpSd.model_validate({"url": url})


async def test_a_real_server_is_asked_over_a_real_connection() -> None:
    """Up, broken, gone: what was found first stays."""
    seen: list[str] = []

    class Inventory(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            body = json.dumps(GROUPS).encode() if len(seen) == 1 else b"<html>"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Inventory)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    options = HttpSd.model_validate(
        {"url": f"http://127.0.0.1:{server.server_port}/", "refresh": "10ms", "auth": {"bearer": "t0ken"}}
    )
    async with (
        open_network() as network,
        running(http_sd(options, http=HttpRequests(network), judge=judge_inline)) as told,
    ):
        await told.until(lambda: len(told.failures) > 0)
        await anyio.to_thread.run_sync(server.shutdown)
        server.server_close()
        await told.until(lambda: "refused" in told.failures[-1])
    assert told.addresses() == ["a:1"]
    assert seen[0] == "Bearer t0ken"
    assert "is not JSON" in told.failures[0]
