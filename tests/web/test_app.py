"""Metrics, health and reload over HTTP, and what every request and response must be."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Mapping
from itertools import groupby

import anyio
import httpx2
import pytest
import trio
import trio.testing
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs
from tests.metrics.states import OPENMETRICS, FixedClock, declare, probe_of, series_of
from tests.web.running import site_with

from watchbill.board import CheckState
from watchbill.domain.errors import ConfigError, MassDeleteError, Problem
from watchbill.domain.messages import ReloadConfig
from watchbill.metrics.render import PATIENCE_SECONDS
from watchbill.web import api
from watchbill.web.answers import Json, check_answer
from watchbill.web.app import accepts_gzip
from watchbill.web.encoding import SLICE

pytestmark = pytest.mark.anyio


async def test_metrics_are_text_unless_openmetrics_is_asked_for() -> None:
    site = site_with()
    async with site.client() as client:
        text = await client.get("/metrics")
        openmetrics = await client.get("/metrics", headers={"Accept": OPENMETRICS})
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert series_of(text.text).keys() == series_of(openmetrics.text, openmetrics=True).keys()


async def test_metrics_are_packed_only_for_who_accepts_it() -> None:
    site = site_with()
    async with site.client() as client:
        request = client.build_request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        packed = await client.send(request, stream=True)
        raw = b"".join([part async for part in packed.aiter_raw()])
        plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(raw)
    assert series_of(gzip.decompress(raw).decode()).keys() == series_of(plain.text).keys()
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept, Accept-Encoding"
    assert int(plain.headers["content-length"]) == len(plain.content)


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", False), ("gzip", True), ("gzip;q=0", False), ("gzip; q=0.000", False), ("gzip;q=0.5", True),
        ("br, gzip", True), ("deflate", False), ("GZIP", True),
    ],
)  # fmt: skip
async def test_gzip_is_negotiated(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


async def test_a_scrape_shows_a_check_that_failed_a_moment_ago_and_never_asks_the_store() -> None:
    site = site_with()
    site.scene.found(probe_of(declare()))
    async with site.client() as client:
        answer = await client.get("/metrics")
    assert any(name == "probe_success" for name, _ in series_of(answer.text))
    assert site.storage.asked == []


@pytest.mark.parametrize("path", ["/-/healthy", "/health"])
async def test_healthy_fails_once_the_loop_has_stalled(path: str) -> None:
    site = site_with()
    async with site.client() as client:
        assert (await client.get(path)).status_code == 200
        site.is_healthy = False
        answer = await client.get(path)
    assert (answer.status_code, answer.text) == (503, "The event loop has stood still for 30 seconds.\n")


@pytest.mark.parametrize("path", ["/-/ready", "/health/ready"])
async def test_ready_fails_until_the_configuration_is_loaded(path: str) -> None:
    site = site_with(is_ready=False)
    async with site.client() as client:
        assert (await client.get(path)).status_code == 503
        site.is_ready = True
        assert (await client.get(path)).text == "Ready\n"


# --- reload -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_reload_says_what_changed(method: str) -> None:
    site = site_with()
    async with site.client() as client:
        answer = await client.request(method, "/-/reload")
    assert answer.status_code == 200
    assert answer.json() == {
        "added": 1,
        "changed": 1,
        "removed": 2,
        "moved": 1,
        "digest": site.loaded.digest,
        "revision": "c0ffee",
        "checks": {
            "added": ["a"],
            "changed": [{"id": "b", "fields": ["url"]}],
            "removed": ["c", "d"],
            "moved": [{"id": "new", "moved_from": "old", "fields": []}],
        },
    }
    assert site.commands == [ReloadConfig("http", allow_mass_delete=False)]


async def test_a_reload_may_allow_a_mass_delete() -> None:
    site = site_with()
    async with site.client() as client:
        await client.post("/-/reload?allow_mass_delete=true")
    assert site.commands == [ReloadConfig("http", allow_mass_delete=True)]


async def test_a_rejected_reload_lists_every_problem_in_both_forms() -> None:
    problems = (
        Problem("checks.yaml", 12, 5, "interval must be at least 1s"),
        Problem("a.yaml", 1, 1, "empty"),
    )
    site = site_with(rejection=ConfigError(problems))
    async with site.client() as client:
        json = await client.post("/-/reload")
        text = await client.post("/-/reload", headers={"Accept": "text/plain"})
    lines = ["a.yaml:1:1: empty", "checks.yaml:12:5: interval must be at least 1s"]
    assert (json.status_code, text.status_code) == (500, 500)
    assert json.json() == {"error": "the configuration is not valid: 2 problem(s)", "problems": lines}
    assert text.text.splitlines() == lines


async def test_a_refused_mass_delete_says_how_it_would_be_allowed() -> None:
    site = site_with(rejection=MassDeleteError("this would delete 20 of 21 checks"))
    async with site.client() as client:
        answer = await client.post("/-/reload")
    assert (answer.status_code, answer.json()) == (500, {"error": "this would delete 20 of 21 checks"})


async def test_a_client_that_leaves_within_its_request_is_no_error() -> None:
    site = site_with()
    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/config/compare", "headers": [], "query_string": b"",
    }  # fmt: skip

    async def left() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def nobody(_: object) -> None:
        """Reads it."""

    with capture_logs() as logs:
        await site.app(scope, left, nobody)
    assert logs == []
    assert site.tally.statistics().requests == {("/api/v1/config/compare", "POST", 499): 1}


async def test_without_the_lifecycle_flag_a_reload_says_what_to_do() -> None:
    site = site_with(lifecycle=False)
    async with site.client() as client:
        answer = await client.post("/-/reload")
    assert answer.status_code == 403
    assert "--web.enable-lifecycle" in answer.text
    assert site.commands == []


async def test_a_reload_is_never_a_get() -> None:
    site = site_with()
    async with site.client() as client:
        answer = await client.get("/-/reload")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"POST", "PUT"}
    assert site.commands == []


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://watchbill.test"}, False),
        ({"Origin": "http://watchbill.test"}, True),
        ({"Origin": "http://watchbill.test:81"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[junk"}, False),
    ],
)
@pytest.mark.parametrize("path", ["/-/reload", "/api/v1/heartbeats/job", "/api/v1/config/compare"])
async def test_a_page_of_another_site_can_change_nothing(
    path: str, headers: dict[str, str], allowed: bool
) -> None:
    site = site_with(declare("job", "heartbeat"))
    async with site.client() as client:
        answer = await client.post(path, headers=headers, json={"nonce": "00" * 16, "digests": {}})
    assert (answer.status_code != 403) is allowed
    assert allowed or answer.json() == {"error": "a page of another site may not do this"}
    assert allowed or site.commands == []


# --- every request and response -----------------------------------------------------------------------


ROUTES: dict[str, str] = {
    "/": "/",
    "/metrics": "/metrics",
    "/-/healthy": "/-/healthy",
    "/health": "/health",
    "/-/ready": "/-/ready",
    "/health/ready": "/health/ready",
    "/api/v1/config": "/api/v1/config",
    "/api/v1/checks": "/api/v1/checks",
    "/api/v1/checks/shop": "/api/v1/checks/{check_id}",
    "/api/v1/checks/no-such-check": "/api/v1/checks/{check_id}",
    "/api/v1/checks/shop/results": "/api/v1/checks/{check_id}/results",
    "/api/v1/report": "/api/v1/report",
    "/api/v1/targets/http_sd": "/api/v1/targets/http_sd",
    "/api/v1/heartbeats/shop": "/api/v1/heartbeats/{check_id}",
    "/-/reload": "/-/reload",
    "/no/such/page": "unmatched",
}


@pytest.mark.parametrize(("path", "template"), ROUTES.items())
async def test_every_answer_carries_the_headers_and_is_counted_by_its_template(
    path: str, template: str
) -> None:
    site = site_with()
    async with site.client() as client:
        answer = await client.get(path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    numbers = site.tally.statistics()
    assert numbers.requests == {(template, "GET", answer.status_code): 1}
    assert sum(numbers.durations[template].counts) == 1


async def test_no_route_is_missing_here() -> None:
    site = site_with()
    async with site.client() as client:
        described = (await client.get("/api/v1/openapi.json")).json()["paths"]
    assert set(described) <= {*ROUTES.values(), "/api/v1/config/compare", "/api/v1/backup"}
    assert len(described) == 9


async def test_an_unknown_method_cannot_swell_the_counters() -> None:
    site = site_with()
    async with site.client() as client:
        for method in ("BREW", "PROPFIND", "MKCOL"):
            assert (await client.request(method, "/metrics")).status_code == 405
    assert site.tally.statistics().requests == {("/metrics", "other", 405): 3}


async def test_an_unknown_page_is_a_json_error() -> None:
    async with site_with().client() as client:
        answer = await client.get("/nowhere")
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})


@pytest.mark.parametrize("path", ["/-/reload", "/api/v1/config/compare", "/no/such/page"])
async def test_a_large_body_is_refused_before_it_is_read(path: str) -> None:
    site = site_with()
    async with site.client() as client:
        answer = await client.post(path, content=b"x" * (64 * 1024 + 1))
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert site.commands == []


async def test_a_large_body_of_unknown_length_is_cut_off() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield b"x" * 1024

    async with site_with().client() as client:
        answer = await client.post("/api/v1/config/compare", content=endless())
    assert (answer.status_code, answer.json()) == (413, {"error": "a request body is at most 65536 bytes"})


async def test_a_defect_of_our_own_is_logged_and_shows_nothing() -> None:
    site = site_with(rejection=RuntimeError("canary-detail"))
    with capture_logs() as logs:
        async with site.client() as client:
            answer = await client.post("/-/reload")
    assert answer.status_code == 500
    assert answer.json() == {"error": "an error of our own; the log says more"}
    assert [entry["event"] for entry in logs] == ["http.failed"]
    assert site.tally.statistics().requests == {("/-/reload", "POST", 500): 1}


async def test_head_answers_as_get_does_without_a_body() -> None:
    site = site_with()
    async with site.client() as client:
        for path in ("/", "/metrics", "/-/healthy"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/api/v1/checks/%00", "/api/v1/checks/%ff%fe", "/api/v1/checks/a%2Fb", "/%2e%2e/etc/passwd"],
)
async def test_a_strange_path_is_not_found(path: str) -> None:
    async with site_with().client() as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


async def test_large_answers_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    makers: list[int] = []

    def noted(origins: Mapping[str, str], state: CheckState) -> Json:
        makers.append(anyio.get_current_task().id)
        return check_answer(origins, state)

    monkeypatch.setattr(api, "check_answer", noted)
    site = site_with(*(declare(f"check-{number}") for number in range(3 * SLICE)))
    async with site.client() as client, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.get, "/api/v1/checks")
    assert len(makers) == 3 * 3 * SLICE
    assert len(list(groupby(makers))) == 3


async def test_scrapes_are_made_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    site, running, most = site_with(), 0, 0
    expose = site.metrics.expose

    async def noted(accept: str, *, asked_at: float) -> tuple[str, list[bytes]]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await checkpoint()
        try:
            return await expose(accept, asked_at=asked_at)
        finally:
            running -= 1

    monkeypatch.setattr(site.metrics, "expose", noted)
    async with site.client() as client, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.get, "/metrics")
    assert (running, most) == (0, 1)


def test_scrapes_that_come_at_once_wait_for_late_slots_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the tenth would wait twenty seconds, and scrapers that gave up long ago would hold up the others."""
    answered: list[float] = []

    async def main() -> None:
        site, begun = site_with(), anyio.current_time()
        monkeypatch.setattr(site.metrics, "_slots_are_late", lambda: True)
        monkeypatch.setattr(FixedClock, "monotonic", lambda _: anyio.current_time())

        async def scrape(client: httpx2.AsyncClient) -> None:
            await client.get("/metrics")
            answered.append(anyio.current_time() - begun)

        async with site.client() as client, anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(scrape, client)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(answered) == 10
    assert max(answered) < PATIENCE_SECONDS + 0.1
