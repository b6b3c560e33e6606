"""Users, passwords, the rate limit, headers and the route prefix; and that guessing passwords delays nobody."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import anyio
import anyio.to_thread
import bcrypt
import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.web.running import site_with

from watchbill.domain.places import Places, places
from watchbill.domain.web import RateLimit, WebSettings
from watchbill.testing import inline
from watchbill.web import Backseat, Live, Passwords
from watchbill.web import passwords as module
from watchbill.web.access import HEALTH_PATHS, Admitted, Bucket, Prefixed
from watchbill.web.backseat import NICENESS
from watchbill.web.guard import Guarded
from watchbill.web.passwords import Verdict, credentials

pytestmark = pytest.mark.anyio


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode().replace("$2b$", "$2y$")


ALICE, BOB = hashed("open sesame"), hashed("pässword")
USERS = {"alice": ALICE, "bob": BOB}


def basic(user: str, password: str | bytes) -> str:
    raw = password if isinstance(password, bytes) else password.encode()
    return "Basic " + base64.b64encode(user.encode() + b":" + raw).decode()


class Counting:
    """An offload that counts what it was given, and can be held."""

    def __init__(self, hold: anyio.Event | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.running = self.most_running = 0
        self._hold = hold

    async def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        self.calls.append(args)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self._hold is not None:
                await self._hold.wait()
            return function(*args)
        finally:
            self.running -= 1


# --- one header ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        (basic("alice", "open sesame"), Verdict.RIGHT),
        (basic("bob", "pässword"), Verdict.RIGHT),
        (basic("alice", "open sesame").replace("Basic", "bASIC"), Verdict.RIGHT),
        (basic("bob", "pässword".encode("latin-1")), Verdict.WRONG),
        (basic("alice", "Open sesame"), Verdict.WRONG),
        (basic("alice", ""), Verdict.WRONG),
        (basic("Alice", "open sesame"), Verdict.WRONG),
        (basic("bob", "open sesame"), Verdict.WRONG),
        (basic("mallory", "open sesame"), Verdict.WRONG),
        (basic("", ""), Verdict.WRONG),
        ("", Verdict.WRONG),
        ("Basic", Verdict.WRONG),
        ("Basic !!!", Verdict.WRONG),
        ("Basic YWxpY2U=", Verdict.WRONG),
        ("Bearer " + base64.b64encode(b"alice:open sesame").decode(), Verdict.WRONG),
        ("Basic " + base64.b64encode(b"\xff\xfe:x").decode(), Verdict.WRONG),
    ],
)
async def test_only_a_user_with_its_own_password_is_right(header: str, verdict: Verdict) -> None:
    for _ in range(2):  # the second time from what is remembered
        judge = Passwords(b"k" * 32, inline)
        assert await judge.judge(USERS, header, address="a") is verdict
        assert await judge.judge(USERS, header, address="a") is verdict


@pytest.mark.parametrize("password", ["a:b:c", "x" * 72, "x" * 100, "nul\0inside"])
async def test_passwords_of_any_bytes_and_length_are_compared_as_bcrypt_does(password: str) -> None:
    stored = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    assert (
        await Passwords(b"k", inline).judge({"a": stored}, basic("a", password), address="") is Verdict.RIGHT
    )
    wrong = "y" + password[1:]
    assert await Passwords(b"k", inline).judge({"a": stored}, basic("a", wrong), address="") is Verdict.WRONG


def test_what_is_no_header_has_no_credentials() -> None:
    assert credentials("Basic " + base64.b64encode(b"a:b:c").decode()) == ("a", b"b:c")
    assert credentials("Digest x") is None


async def test_a_password_is_computed_once_and_kept_nowhere() -> None:
    offload = Counting()
    judge = Passwords(b"k" * 32, offload)
    for _ in range(3):
        assert await judge.judge(USERS, basic("alice", "open sesame"), address="a") is Verdict.RIGHT
        assert await judge.judge(USERS, basic("alice", "wrong guess"), address="a") is Verdict.WRONG
    assert len(offload.calls) == 2
    kept = repr([vars(each) for each in (judge, judge._right, judge._wrong)])
    assert "sesame" not in kept
    assert "guess" not in kept


async def test_a_changed_password_holds_from_the_next_request_on() -> None:
    judge = Passwords(b"k", inline)
    assert await judge.judge({"a": ALICE}, basic("a", "open sesame"), address="") is Verdict.RIGHT
    assert await judge.judge({"a": BOB}, basic("a", "open sesame"), address="") is Verdict.WRONG
    assert await judge.judge({"b": ALICE}, basic("a", "open sesame"), address="") is Verdict.WRONG


async def test_an_unknown_user_costs_what_a_known_one_does() -> None:
    users = {"cheap": hashed("x", 4), "dear": hashed("x", 6)}
    offload = Counting()
    judge = Passwords(b"k", offload)
    for number in range(40):
        await judge.judge(users, basic(f"unknown-{number}", "x"), address="")
        await judge.judge(users, basic(f"unknown-{number}", "y"), address="")
    costs = [stored[4:6] for _, stored in offload.calls]
    assert len(costs) == 80  # one hash each, never none
    assert set(costs) == {b"04", b"06"}
    assert costs[::2] == costs[1::2]  # and always the same for a name


async def test_wrong_guesses_do_not_push_out_what_was_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    offload = Counting()
    judge = Passwords(b"k", offload)
    await judge.judge(USERS, basic("alice", "open sesame"), address="")
    for number in range(10):
        await judge.judge(USERS, basic("alice", f"guess {number}"), address="")
    computed = len(offload.calls)
    assert await judge.judge(USERS, basic("alice", "open sesame"), address="") is Verdict.RIGHT
    assert len(offload.calls) == computed
    assert len(judge._wrong._digests) == 3


# --- many at once -------------------------------------------------------------------------------------


async def test_one_is_computed_at_a_time_and_a_flood_from_one_address_is_refused() -> None:
    hold = anyio.Event()
    offload = Counting(hold)
    judge = Passwords(b"k", offload)
    verdicts: list[Verdict] = []

    async def guess(number: int, address: str) -> None:
        verdicts.append(await judge.judge(USERS, basic("alice", f"guess {number}"), address=address))

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(guess, number, "flood")
        await anyio.wait_all_tasks_blocked()
        assert verdicts == [Verdict.BUSY] * (50 - module.MOST_WAITING_AN_ADDRESS)
        assert await judge.judge(USERS, "", address="flood") is Verdict.WRONG  # nothing to compute
        hold.set()
    assert verdicts.count(Verdict.WRONG) == module.MOST_WAITING_AN_ADDRESS
    assert offload.most_running == 1
    assert judge._turns == {}
    assert judge._waiting == 0


async def test_another_address_is_next_whatever_waits_for_the_first() -> None:
    hold, order = anyio.Event(), []
    judge = Passwords(b"k", Counting(hold))

    async def ask(name: str, password: str, address: str) -> None:
        await judge.judge(USERS, basic("alice", password), address=address)
        order.append(name)

    async with anyio.create_task_group() as group:
        for number in range(module.MOST_WAITING_AN_ADDRESS):
            group.start_soon(ask, "flood", f"guess {number}", "flood")
        await anyio.wait_all_tasks_blocked()
        group.start_soon(ask, "scraper", "open sesame", "prometheus")
        await anyio.wait_all_tasks_blocked()
        hold.set()
    assert order.index("scraper") <= 1


async def test_floods_from_everywhere_are_bounded_too() -> None:
    hold = anyio.Event()
    judge = Passwords(b"k", Counting(hold))
    verdicts: list[Verdict] = []

    async def guess(number: int) -> None:
        verdicts.append(await judge.judge(USERS, basic("alice", f"{number}"), address=f"{number}"))

    async with anyio.create_task_group() as group:
        for number in range(module.MOST_WAITING + 20):
            group.start_soon(guess, number)
        await anyio.wait_all_tasks_blocked()
        assert verdicts == [Verdict.BUSY] * 20
        assert len(judge._turns) <= module.MOST_WAITING
        hold.set()


class TestTheThread:
    @pytest.fixture(params=["asyncio", "uvloop"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
        return "asyncio", {"use_uvloop": request.param == "uvloop"}

    async def test_what_fails_there_fails_here_and_the_next_one_works(self) -> None:
        with closing(Backseat()) as backseat:
            with pytest.raises(ZeroDivisionError):
                await backseat(lambda: 1 // 0)
            assert await backseat(divmod, 7, 2) == (3, 1)

    async def test_who_gives_up_is_not_held_and_what_was_begun_is_ended_before_the_next(self) -> None:
        begun, release, ended = threading.Event(), threading.Event(), []

        def slow() -> None:
            begun.set()
            assert release.wait(20)
            ended.append("slow")

        with closing(Backseat()) as backseat, anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(backseat, slow)
                await anyio.to_thread.run_sync(begun.wait)
                group.cancel_scope.cancel()
            assert ended == []
            release.set()
            await backseat(ended.append, "next")
        assert ended == ["slow", "next"]


class TestTheLoop:
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, bool]]:
        return "asyncio", {"use_uvloop": True}

    async def test_a_flood_of_wrong_passwords_neither_holds_the_loop_nor_delays_health(self) -> None:
        """Ten hashes of 60 ms each are computed meanwhile; in the loop each would hold it for as long."""
        users = {"alice": hashed("open sesame", 10)}
        backseat = Backseat()
        app = Admitted(
            _says_path,
            live=Live(WebSettings(users=users)),
            passwords=Passwords(b"k", backseat),
            monotonic=time.monotonic,
        )
        turns: list[float] = []
        done = anyio.Event()

        async def pulse() -> None:
            while not done.is_set():
                before = time.monotonic()
                await anyio.sleep(0.001)
                turns.append(time.monotonic() - before)

        transport = httpx2.ASGITransport(app)
        async with (
            httpx2.AsyncClient(transport=transport, base_url="http://x", trust_env=False) as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(pulse)

            async def guess(number: int) -> None:
                await client.get("/metrics", headers={"Authorization": basic("alice", str(number))})

            async with anyio.create_task_group() as flood:
                for number in range(60):
                    flood.start_soon(guess, number)
                health = [(await client.get("/-/healthy")).status_code for _ in range(20)]
            done.set()
        niceness = await backseat(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        backseat.close()
        assert niceness - os.getpriority(os.PRIO_PROCESS, 0) == min(
            NICENESS, 19 - os.getpriority(os.PRIO_PROCESS, 0)
        )
        assert health == [200] * 20
        # However slow this machine is: the loop turned many times while eight hashes were computed, not once each.
        assert len(turns) > 40


async def _says_path(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(scope["path"])(scope, receive, send)


# --- requests -----------------------------------------------------------------------------------------


def _client(app: ASGIApp) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x", trust_env=False)


def _admitted(settings: WebSettings, now: Callable[[], float] = lambda: 0.0) -> ASGIApp:
    live = Live(settings)
    app = Admitted(_says_path, live=live, passwords=Passwords(b"k", inline), monotonic=now)
    return Guarded(app, configured=lambda: live.settings.headers)


async def test_without_a_password_nothing_but_health_is_told() -> None:
    async with _client(_admitted(WebSettings(users=USERS))) as client:
        for path in (
            "/",
            "/metrics",
            "/-/reload",
            "/api/v1/checks",
            "/nothing",
            "/-/healthy/",
            "//-/healthy",
        ):
            answer = await client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
            assert answer.text == "Unauthorized: a user and a password are needed.\n"
        for path in HEALTH_PATHS:
            assert (await client.get(path)).status_code == 200


async def test_the_right_password_opens_and_a_wrong_one_says_that_it_is() -> None:
    async with _client(_admitted(WebSettings(users=USERS))) as client:
        assert (await client.get("/metrics", auth=("alice", "open sesame"))).text == "/metrics"
        answer = await client.get("/metrics", auth=("alice", "x"))
    assert (answer.status_code, answer.text) == (401, "Unauthorized: this user or password is wrong.\n")


async def test_headers_of_the_web_configuration_replace_ours_on_every_answer() -> None:
    headers = {"X-Frame-Options": "sameorigin", "Strict-Transport-Security": "max-age=9"}
    async with _client(_admitted(WebSettings(users=USERS, headers=headers))) as client:
        for path in ("/metrics", "/-/healthy"):
            answer = await client.get(path)
            assert answer.headers["x-frame-options"] == "sameorigin"
            assert answer.headers["strict-transport-security"] == "max-age=9"
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_configured_policy_replaces_that_of_the_page_too() -> None:
    site = site_with(live=Live(WebSettings(headers={"Content-Security-Policy": "default-src 'self'"})))
    async with site.client() as client:
        assert (await client.get("/")).headers["content-security-policy"] == "default-src 'self'"


async def test_a_rate_limit_counts_everything_but_health_and_fills_again() -> None:
    now = [100.0]
    settings = WebSettings(rate_limit=RateLimit(2.0, 3))
    async with _client(_admitted(settings, lambda: now[0])) as client:
        codes = [(await client.get("/metrics")).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        assert (await client.get("/-/healthy")).status_code == 200
        now[0] += 2.0
        codes = [(await client.get("/metrics")).status_code for _ in range(2)]
        assert codes == [200, 429]
        now[0] += 1000.0
        codes = [(await client.get("/metrics")).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]


def test_a_changed_limit_begins_anew() -> None:
    bucket = Bucket(lambda: 0.0)
    assert [bucket.takes(RateLimit(1, 1)) for _ in range(2)] == [True, False]
    assert [bucket.takes(RateLimit(1, 2)) for _ in range(3)] == [True, True, False]


# --- prefixes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("external", "prefix", "expected"),
    [
        (None, None, Places()),
        ("", None, Places()),
        ("https://watch.example", None, Places("https://watch.example")),
        ("https://watch.example/", None, Places("https://watch.example")),
        ("https://watch.example:8443/a/b/", None, Places("https://watch.example:8443/a/b", "/a/b", "/a/b")),
        ("https://watch.example/wb", "/", Places("https://watch.example/wb", "", "/wb")),
        ("https://watch.example/wb", "", Places("https://watch.example/wb", "", "/wb")),
        ("https://watch.example/wb", "inner", Places("https://watch.example/wb", "/inner", "/wb")),
        (None, "/wb/", Places("", "/wb", "/wb")),
    ],
)
def test_the_prefix_is_the_path_of_the_external_url_unless_it_is_said(
    external: str | None, prefix: str | None, expected: Places
) -> None:
    assert places(external, prefix) == expected


@pytest.mark.parametrize(
    ("external", "prefix"),
    [
        ("watch.example", None), ("ftp://watch.example", None), ("https://", None), ("https://x/?a=b", None),
        ("https://x/#a", None), ("https://user:secret@x/", None), ("https://x:99999/", None), ("https://x/a b", None),
        ("https://x/a//b", None), (None, "/a/../b"), (None, '/"onload='), (None, "/ä"), (None, "/%2e"),
    ],
)  # fmt: skip
def test_what_is_no_url_or_path_says_how_one_looks(external: str | None, prefix: str | None) -> None:
    with pytest.raises(ValueError, match="such as") as error:
        places(external, prefix)
    assert "secret" not in str(error.value)


async def test_everything_lies_below_the_prefix_and_the_root_leads_there() -> None:
    async with _client(Prefixed(_says_path, prefix="/wb")) as client:
        for path in ("/", "/wb"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (302, "/wb/")
        assert (await client.post("/")).status_code == 404
        for path in ("/metrics", "/-/healthy", "/wbx/metrics", "/wb2"):
            assert (await client.get(path)).status_code == 404
        assert (await client.get("/wb/metrics")).status_code == 200


async def test_the_whole_site_works_below_a_prefix_and_its_links_lead_there() -> None:
    site = site_with(places=places("https://watch.example/wb"))
    async with site.client() as client:
        page = (await client.get("/wb/")).text
        links = [part.partition('"')[0] for part in page.split('href="')[1:]]
        assert len(links) > 5
        for link in links:
            assert link.startswith("/wb/")
            assert (await client.get(link.replace("&amp;", "&"))).status_code == 200, link
        for path in ("/wb/metrics", "/wb/-/ready", "/wb/health", "/wb/api/v1/checks/shop"):
            assert (await client.get(path)).status_code == 200, path
        assert (await client.post("/wb/-/reload")).status_code == 200
        described = (await client.get("/wb/api/v1/openapi.json")).json()
        assert described["servers"] == [{"url": "/wb"}]
    assert (
        "/metrics",
        "GET",
        200,
    ) in site.tally.statistics().requests  # a route is the same wherever it lies


async def test_behind_a_proxy_that_takes_the_path_away_links_keep_it() -> None:
    site = site_with(places=places("https://watch.example/wb", "/"))
    async with site.client() as client:
        page = (await client.get("/")).text
    assert 'href="/wb/metrics"' in page
    assert 'href="/metrics"' not in page


async def test_health_needs_no_password_below_a_prefix_either() -> None:
    site = site_with(places=places(None, "/wb"), live=Live(WebSettings(users=USERS)))
    async with site.client() as client:
        assert (await client.get("/wb/-/healthy")).status_code == 200
        assert (await client.get("/wb/metrics")).status_code == 401
        for outside in ("/-/healthy", "/", "/nothing"):
            assert (await client.get(outside)).status_code == 401  # nobody is told where things lie
        assert (await client.get("/-/healthy", auth=("bob", "pässword"))).status_code == 404
        assert (await client.get("/wb/metrics", auth=("bob", "pässword"))).status_code == 200
