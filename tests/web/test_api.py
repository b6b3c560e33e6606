"""The API: what runs, what was found, and what jobs say; never a secret."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

import anyio
import httpx2
import pytest
from tests.metrics.states import START, declare, probe_of, refused
from tests.web.running import FakeStorage, Site, site_with

from watchbill.domain.checks import Check, parse_check
from watchbill.domain.errors import StorageError
from watchbill.domain.history import Coverage, StoredResult
from watchbill.domain.messages import RecordHeartbeat
from watchbill.domain.results import Failure, Outcome, Reason, Trigger
from watchbill.domain.units import SECOND
from watchbill.web.api import MOST_QUESTIONS
from watchbill.web.instants import parse_instant

pytestmark = pytest.mark.anyio
CANARY = "canary-0123456789"


def secretive() -> tuple[Check, ...]:
    """Checks with a secret in every place that can hold one."""
    http = parse_check(
        {
            "id": "http",
            "type": "http",
            "url": f"https://user:{CANARY}@shop.example/",
            "headers": {"X-Api-Key": CANARY, "Accept": "text/html"},
            "body": CANARY,
            "references": {"headers.X-Api-Key": "${API_KEY}"},
            "interpolated": [CANARY],
        }
    )
    bearer = declare("bearer", auth={"bearer": CANARY})
    tcp = declare("tcp", "tcp", send=CANARY)
    job = declare("job", "heartbeat", token=CANARY)
    return http, bearer, tcp, job


# --- configuration ------------------------------------------------------------------------------------


async def test_the_configuration_shows_specs_and_the_sections_beside_them() -> None:
    site = Site(location="eu-west")
    site.run(declare(service="web", interval="5s"), moved={"old": "shop"})
    async with site.client() as client:
        answer = (await client.get("/api/v1/config")).json()
    assert answer["checks"] == {
        "shop": {
            "spec": {
                "type": "http", "service": "web", "interval": "5s", "url": "https://shop.example/"
            },
            "interval_us": 5 * SECOND,
            "enabled": True,
            "service": "web",
        }
    }  # fmt: skip
    assert (answer["digest"], answer["revision"]) == (site.loaded.digest, "c0ffee")
    assert (answer["location"], answer["version"]) == ("eu-west", "1.2.3")
    assert answer["moved"] == {"old": "shop"}
    assert set(answer["services"]) == {"web"}
    assert answer["limits"]["mass_delete"] == "refuse"


async def test_the_configuration_is_the_new_one_after_a_reload() -> None:
    site = site_with(declare("before"))
    async with site.client() as client:
        before = (await client.get("/api/v1/config")).json()
        site.run(declare("after"))
        after = (await client.get("/api/v1/config")).json()
    assert list(before["checks"]) == ["before"]
    assert list(after["checks"]) == ["after"]


@pytest.mark.parametrize(
    "path",
    ["/", "/metrics", "/api/v1/config", "/api/v1/checks", "/api/v1/checks/http", "/api/v1/checks/job"],
)
async def test_no_answer_holds_a_secret_even_if_the_target_echoes_it(path: str) -> None:
    site = site_with(*secretive())
    for state in list(site.board.checks.values()):
        event = probe_of(state.check, facts={"certificate_subject": f"CN={CANARY}", "answers": [CANARY]})
        site.scene.found(event)
    async with site.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert "job" in answer.text or "shop.example" in answer.text
    assert CANARY not in answer.text


async def test_a_secret_is_shown_as_the_reference_it_came_from() -> None:
    site = site_with(*secretive())
    async with site.client() as client:
        checks = (await client.get("/api/v1/config")).json()["checks"]
    assert checks["http"]["spec"]["headers"] == {"X-Api-Key": "${API_KEY}", "Accept": "(secret)"}
    assert checks["job"]["spec"]["token"] == "(secret)"


# --- comparing secrets --------------------------------------------------------------------------------

NONCE = bytes(range(16))


def digest_of(secret: str, nonce: bytes = NONCE) -> str:
    return hmac.new(nonce, secret.encode(), "sha256").hexdigest()


async def test_comparing_names_the_secrets_that_differ_and_shows_none() -> None:
    site = site_with(*secretive())
    digests = {
        "http": {"body": digest_of(CANARY), "headers.X-Api-Key": digest_of("rotated"), "url": digest_of("x")},
        "job": {"token": digest_of("rotated")},
        "bearer": {"auth.bearer": digest_of(CANARY)},
        "unknown": {"token": digest_of("anything")},
    }
    async with site.client() as client:
        answer = await client.post("/api/v1/config/compare", json={"nonce": NONCE.hex(), "digests": digests})
    assert answer.json() == {"differ": {"http": ["headers.X-Api-Key"], "job": ["token"]}}
    assert CANARY not in answer.text


async def test_secrets_are_compared_once_a_second() -> None:
    site = site_with(*secretive())
    body = {"nonce": NONCE.hex(), "digests": {}}
    async with site.client() as client:
        codes = []
        for step in (0, SECOND - 1, 1):
            site.clock.instant += step
            codes.append(await client.post("/api/v1/config/compare", json=body))
    assert [answer.status_code for answer in codes] == [200, 429, 200]
    assert codes[1].headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"nonce": "", "digests": {}}',
        b'{"nonce": "zz", "digests": {}}',
        b'{"nonce": "00", "digests": {}}',
        b'{"nonce": "00112233445566778", "digests": {}}',
        b'{"nonce": "0011223344556677", "digests": []}',
        b'{"nonce": "0011223344556677", "digests": {"a": {"b": 1}}}',
        b'{"nonce": "0011223344556677", "digests": {}, "more": 1}',
        b"[" * 10_000,
    ],
)
async def test_a_body_that_compares_nothing_is_a_bad_request(body: bytes) -> None:
    async with site_with().client() as client:
        answer = await client.post("/api/v1/config/compare", content=body)
    assert answer.status_code == 400
    assert answer.json() == {"error": 'the body is {"nonce": hex, "digests": {id: {path: hex}}}'}


async def test_a_digest_that_is_no_digest_differs() -> None:
    site = site_with(*secretive())
    body = {"nonce": NONCE.hex(), "digests": {"job": {"token": "\u00e9\u2028"}}}
    async with site.client() as client:
        answer = await client.post("/api/v1/config/compare", json=body)
    assert answer.json() == {"differ": {"job": ["token"]}}


# --- checks -------------------------------------------------------------------------------------------


async def test_checks_stand_in_declared_order_with_status_slots_and_the_latest_result() -> None:
    site = site_with(declare("b", service="web", labels={"env": "prod"}), declare("a", enabled=False))
    check = site.board.checks["b"].check
    site.scene.found(*[probe_of(check) for _ in range(3)])
    latest = (Failure(Reason.LATENCY, "too slow"), Failure(Reason.STATUS, "status must be 2xx, got 500"))
    site.scene.found(probe_of(check, *latest, status_code=500))
    async with site.client() as client:
        answer = (await client.get("/api/v1/checks")).json()
    assert [each["id"] for each in answer["checks"]] == ["b", "a"]
    shown = answer["checks"][0]
    assert (shown["status"], shown["reason"], shown["service"]) == ("down", "status", "web")
    assert shown["labels"] == {"env": "prod"}
    assert (shown["slots"]["success"], shown["slots"]["failure"], shown["availability"]) == (3, 1, 0.75)
    assert [failure["reason"] for failure in shown["latest"]["failures"]] == ["status", "latency"]
    assert shown["latest"]["started_at"] == "2026-09-21T14:13:20.000000Z"
    assert answer["checks"][1]["latest"] is None
    assert answer["checks"][1]["availability"] is None
    assert answer["services"] == {"web": "down"}


async def test_one_check_shows_its_facts_and_what_was_declared() -> None:
    site = site_with()
    site.scene.found(probe_of(declare()))
    async with site.client() as client:
        answer = (await client.get("/api/v1/checks/shop")).json()
    assert answer["latest"]["facts"]["tls_version"] == "TLSv1.3"
    assert answer["spec"] == {"type": "http", "url": "https://shop.example/"}
    assert answer["registered_at"] == "2026-09-21T14:13:20.000000Z"


@pytest.mark.parametrize("path", ["/api/v1/checks/gone", "/api/v1/checks/gone/results"])
async def test_an_unknown_check_is_not_found(path: str) -> None:
    async with site_with().client() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (404, {"error": "there is no check 'gone'"})


# --- history ------------------------------------------------------------------------------------------


def stored(check_id: str = "shop") -> StoredResult:
    return StoredResult(
        check_id, "", START, Trigger.SCHEDULE, START + 1500, 0.25, "failure", "refused", "refused", None, {"connect": 0.25}
    )  # fmt: skip


async def test_results_are_asked_for_by_period_and_limit() -> None:
    site = site_with(storage=FakeStorage(rows=[stored()]))
    async with site.client() as client:
        answer = await client.get(
            "/api/v1/checks/shop/results?since=2026-09-21T14:00:00Z&until=1790001000.5&limit=7"
        )
    assert site.storage.asked == [("shop", 1_789_999_200 * SECOND, 1_790_001_000_500_000, 7)]
    assert answer.json()["results"] == [
        {
            "check_id": "shop",
            "location": "",
            "slot": "2026-09-21T14:13:20.000000Z",
            "trigger": "schedule",
            "started_at": "2026-09-21T14:13:20.001500Z",
            "duration_seconds": 0.25,
            "outcome": "failure",
            "reason": "refused",
            "message": "refused",
            "status_code": None,
            "phases": {"connect": 0.25},
            "stalled_seconds": None,
        }
    ]


async def test_results_are_of_the_last_day_unless_asked_otherwise() -> None:
    site = site_with()
    async with site.client() as client:
        await client.get("/api/v1/checks/shop/results")
        await client.get("/api/v1/report?since=1h")
    assert site.storage.asked == [
        ("shop", START - 86_400 * SECOND, START, 100),
        (START - 3_600 * SECOND, START),
    ]


async def test_results_of_a_deleted_check_can_still_be_read() -> None:
    site = site_with(storage=FakeStorage(rows=[stored("gone")]))
    async with site.client() as client:
        answer = await client.get("/api/v1/checks/gone/results")
    assert [row["check_id"] for row in answer.json()["results"]] == ["gone"]


async def test_a_report_is_every_check_s_coverage() -> None:
    coverage = Coverage("shop", "", "web", "http", 10, 7, 1, 1, 1, 0, 0, 0, 0.1, 0.2, 0.3)
    site = site_with(storage=FakeStorage(coverages=[coverage]))
    async with site.client() as client:
        answer = (await client.get("/api/v1/report?since=10s&until=5s")).json()
    assert (answer["since"], answer["until"]) == (
        "2026-09-21T14:13:10.000000Z",
        "2026-09-21T14:13:15.000000Z",
    )
    (row,) = answer["checks"]
    assert (row["check_id"], row["expected"], row["success"], row["unaccounted"]) == ("shop", 10, 7, 0)
    assert (row["latency_p50"], row["latency_p95"], row["latency_p99"]) == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("path", ["/api/v1/checks/shop/results", "/api/v1/report"])
async def test_a_store_in_trouble_is_unavailable_and_says_why(path: str) -> None:
    site = site_with(storage=FakeStorage(error=StorageError("no space left on the device")))
    async with site.client() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (
        503,
        {"error": "history cannot be read now: no space left on the device"},
    )


class SlowStorage(FakeStorage):
    """Answers once it is released."""

    release: anyio.Event

    async def coverage(self, *, since: int, until: int) -> Sequence[Coverage]:
        self.asked.append((since, until))
        await self.release.wait()
        return ()


async def test_questions_to_history_do_not_pile_up() -> None:
    storage = SlowStorage()
    storage.release = anyio.Event()
    codes: list[int] = []

    async def ask(client: httpx2.AsyncClient) -> None:
        codes.append((await client.get("/api/v1/report")).status_code)

    with anyio.fail_after(20):
        async with site_with(storage=storage).client() as client, anyio.create_task_group() as group:
            for _ in range(MOST_QUESTIONS):
                group.start_soon(ask, client)
            await anyio.wait_all_tasks_blocked()
            refused_one = await client.get("/api/v1/checks/shop/results")
            assert (refused_one.status_code, refused_one.headers["retry-after"]) == (503, "5")
            assert (await client.get("/-/healthy")).status_code == 200
            storage.release.set()
    assert codes == [200] * MOST_QUESTIONS
    assert len(storage.asked) == MOST_QUESTIONS


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("since=yesterday", "a duration is a number with a unit"),
        ("since=2026-13-45T00:00:00Z", "an instant is RFC 3339"),
        ("since=-5", "an instant is RFC 3339"),
        ("since=1e400", "an instant is RFC 3339"),
        ("since=99999999999", "since must be before until"),
        ("since=1h&until=2h", "since must be before until"),
        ("until=%00", "an instant is RFC 3339"),
        ("since=0001-01-01T00:00:00%2B14:00", "the years 1 to 9999"),
        ("until=9999-12-31T23:59:59-12:00", "the years 1 to 9999"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/checks/shop/results", "/api/v1/report"])
async def test_a_period_that_is_none_is_a_bad_request(path: str, query: str, said: str) -> None:
    site = site_with()
    async with site.client() as client:
        answer = await client.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert site.storage.asked == []


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "x", "1.5", "٣", "9" * 5000])
async def test_a_limit_is_a_number_up_to_ten_thousand(limit: str) -> None:
    async with site_with().client() as client:
        answer = await client.get("/api/v1/checks/shop/results", params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("limit is a number from 1 to 10000")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("0", 0),
        ("1790000000", START),
        ("1790000000.000001", START + 1),
        ("90s", START - 90 * SECOND),
        ("1d", START - 86_400 * SECOND),
        ("2026-09-21T14:13:20Z", START),
        ("2026-09-21T16:13:20+02:00", START),
        ("2026-09-21T16:13:20 02:00", START),
        ("2026-09-21T14:13:20", START),
        ("2026-09-21", 1_789_948_800 * SECOND),
    ],
)
async def test_an_instant_is_read_in_every_form(text: str, instant: int) -> None:
    assert parse_instant(text, now=START) == instant


# --- heartbeats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {CANARY}"},
        {"Authorization": f"bearer  {CANARY}"},
        {"X-Watchbill-Token": CANARY},
    ],
)
async def test_a_heartbeat_with_its_token_is_recorded(headers: dict[str, str]) -> None:
    site = site_with(*secretive())
    async with site.client() as client:
        answer = await client.post("/api/v1/heartbeats/job", headers=headers)
    assert answer.status_code == 202
    assert answer.json() == {"check": "job", "received_at": "2026-09-21T14:13:20.000000Z"}
    assert site.commands == [RecordHeartbeat("job")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {CANARY}"},
        {"Authorization": f"Bearer {CANARY}x"},
        {"X-Watchbill-Token": CANARY.upper()},
        {b"X-Watchbill-Token": "\u00e9\u00ff".encode("latin-1")},
        {"Authorization": "Bearer wrong", "X-Watchbill-Token": CANARY},
    ],
)
async def test_a_heartbeat_without_its_token_is_not_recorded(headers: dict[str, Any]) -> None:
    site = site_with(*secretive())
    async with site.client() as client:
        answer = await client.post("/api/v1/heartbeats/job", headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"error": "this heartbeat needs its token"})
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert site.commands == []


async def test_a_token_beyond_ascii_is_compared_by_its_bytes() -> None:
    site = site_with(declare("job", "heartbeat", token="schlüssel"))
    async with site.client() as client:
        answer = await client.post(
            "/api/v1/heartbeats/job", headers={b"X-Watchbill-Token": "schlüssel".encode()}
        )
    assert answer.status_code == 202


async def test_a_heartbeat_that_declares_no_token_needs_none() -> None:
    site = site_with(declare("job", "heartbeat"))
    async with site.client() as client:
        assert (await client.post("/api/v1/heartbeats/job", content=b"done")).status_code == 202
    assert site.commands == [RecordHeartbeat("job")]


@pytest.mark.parametrize("check_id", ["gone", "shop"])
async def test_only_heartbeat_checks_take_heartbeats(check_id: str) -> None:
    site = site_with()
    async with site.client() as client:
        answer = await client.post(f"/api/v1/heartbeats/{check_id}")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": f"there is no heartbeat check {check_id!r}"},
    )
    assert site.commands == []


async def test_a_heartbeat_is_a_post() -> None:
    site = site_with(declare("job", "heartbeat"))
    async with site.client() as client:
        answer = await client.get("/api/v1/heartbeats/job")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert site.commands == []


async def test_the_description_names_every_endpoint() -> None:
    async with site_with().client() as client:
        described = (await client.get("/api/v1/openapi.json")).json()
    assert {(path, method) for path, methods in described["paths"].items() for method in methods} == {
        ("/api/v1/config", "get"),
        ("/api/v1/config/compare", "post"),
        ("/api/v1/checks", "get"),
        ("/api/v1/checks/{check_id}", "get"),
        ("/api/v1/checks/{check_id}/results", "get"),
        ("/api/v1/report", "get"),
        ("/api/v1/targets/http_sd", "get"),
        ("/api/v1/heartbeats/{check_id}", "post"),
        ("/api/v1/backup", "post"),
    }


async def test_an_error_leaves_the_status_of_a_check_that_failed() -> None:
    site = site_with()
    site.scene.found(probe_of(declare(), refused()), probe_of(declare(), Failure(Reason.STALL, "stalled")))
    async with site.client() as client:
        answer = (await client.get("/api/v1/checks/shop")).json()
    assert (answer["status"], answer["reason"]) == ("down", "refused")
    assert answer["latest"]["outcome"] == Outcome.ERROR
