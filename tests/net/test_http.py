"""Requests to servers that are no targets, against real ones on loopback; the fake keeps to the same contract."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509

from tests.servers import (
    LOOPBACK,
    Authority,
    Caller,
    Conversation,
    closed_port,
    full_listener,
    hang,
    header_of,
    http_server,
    no_socket_left,
    open_sockets,
    path_of,
    response,
    serving,
)
from watchbill.domain.credentials import TlsOptions
from watchbill.domain.results import Reason
from watchbill.fence import fenced
from watchbill.net import open_network
from watchbill.net.http import MOST_REDIRECTS, HttpRequests
from watchbill.ports import HttpClient, HttpError, NoHttp
from watchbill.testing import FakeHttp, HttpReply

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def client() -> AsyncIterator[HttpRequests]:
    async with no_socket_left(), open_network() as network:
        yield HttpRequests(network)


async def get(client: HttpClient, url: str, *, limit: int = 1 << 20, **how: Any) -> tuple[int, bytes]:
    async with client.open("GET", url, **{"timeout_seconds": 10, **how}) as answer:
        return answer.status, await answer.read(limit)


async def refusal(client: HttpClient, url: str, **how: Any) -> HttpError:
    with pytest.raises(HttpError) as caught:
        await get(client, url, **how)
    return caught.value


# --- the contract, of both ----------------------------------------------------------------------------

Serve = Callable[[HttpReply], AbstractAsyncContextManager[tuple[HttpClient, str]]]


@asynccontextmanager
async def _really(reply: HttpReply) -> AsyncIterator[tuple[HttpClient, str]]:
    async def conversation(caller: Caller) -> None:
        await caller.request()
        lines = [
            f"HTTP/1.1 {reply.status} Said",
            *(f"{key}: {value}" for key, value in reply.headers.items()),
        ]
        await caller.say("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode())
        for chunk in reply.body:
            await caller.say(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if reply.then is not None:
            caller.reset()
        else:
            await caller.say(b"0\r\n\r\n")

    async with serving(conversation) as server, open_network() as network:
        yield HttpRequests(network), server.url()


@asynccontextmanager
async def _fake(reply: HttpReply) -> AsyncIterator[tuple[HttpClient, str]]:
    yield FakeHttp(lambda _: reply), "http://fake.test/"


@pytest.fixture(params=[_really, _fake], ids=["real", "fake"])
def serve(request: pytest.FixtureRequest) -> Serve:
    chosen: Serve = request.param
    return chosen


async def test_status_headers_and_body_are_what_the_server_says(serve: Serve) -> None:
    reply = HttpReply(503, [b"try ", b"later"], {"Retry-After": "7", "X-One": "a"})
    async with (
        serve(reply) as (client, url),
        client.open("GET", url, timeout_seconds=10) as answer,
    ):
        assert answer.status == 503
        assert (answer.headers["retry-after"], answer.headers["x-one"]) == ("7", "a")
        assert await answer.read(100) == b"try later"


async def test_a_body_is_read_as_it_comes(serve: Serve) -> None:
    async with (
        serve(HttpReply(200, [b"one\n", b"two\n"])) as (client, url),
        client.open("GET", url, timeout_seconds=10) as answer,
    ):
        assert b"".join([chunk async for chunk in answer.chunks]) == b"one\ntwo\n"


async def test_a_body_past_the_limit_is_refused_and_one_of_that_length_is_not(serve: Serve) -> None:
    for limit, fits in ((10, True), (9, False)):
        async with (
            serve(HttpReply(200, [b"12345", b"67890"])) as (client, url),
            client.open("GET", url, timeout_seconds=10) as answer,
        ):
            if fits:
                assert len(await answer.read(limit)) == 10
                continue
            with pytest.raises(HttpError, match="at most 9 bytes") as caught:
                await answer.read(limit)
            assert caught.value.reason is Reason.TOO_LARGE


async def test_a_body_that_breaks_off_is_an_error_and_what_came_before_was_there(serve: Serve) -> None:
    reply = HttpReply(200, [b"part"], then=HttpError(Reason.RESET, "reset"))
    async with serve(reply) as (client, url), client.open("GET", url, timeout_seconds=10) as answer:
        assert await anext(answer.chunks) == b"part"
        with pytest.raises(HttpError):
            await anext(answer.chunks)


async def test_what_the_block_raises_passes(serve: Serve) -> None:
    with pytest.raises(ZeroDivisionError):
        async with (
            serve(HttpReply(200, [b"x"])) as (client, url),
            client.open("GET", url, timeout_seconds=10),
        ):
            raise ZeroDivisionError


async def test_a_block_may_end_in_the_middle_of_a_body(serve: Serve) -> None:
    async with (
        no_socket_left(),
        serve(HttpReply(200, [b"one", b"two", b"three"])) as (client, url),
        client.open("GET", url, timeout_seconds=10) as answer,
    ):
        assert await anext(answer.chunks)


# --- the real one -------------------------------------------------------------------------------------


async def test_an_announced_length_past_the_limit_is_refused_before_anything_is_read(
    client: HttpRequests,
) -> None:
    async with (
        http_server(response(b"", length=1 << 40)) as server,
        client.open("GET", server.url(), timeout_seconds=10) as answer,
    ):
        with pytest.raises(HttpError, match="at most 1000 bytes"):
            await answer.read(1000)


async def test_method_headers_and_body_are_sent_and_nothing_is_kept_or_coded(client: HttpRequests) -> None:
    async with http_server(response()) as server:
        async with client.open(
            "POST", server.url("/v1?x=1"), headers={"Content-Type": "application/json", "user-agent": "me"},
            body=b"{}", timeout_seconds=10,
        ) as answer:  # fmt: skip
            assert answer.status == 200
        (request,) = server.requests
        assert path_of(request) == "/v1?x=1"
        assert request.startswith(b"POST ")
        assert request.endswith(b"\r\n\r\n{}")
        sent = {
            name: header_of(request, name)
            for name in ("content-type", "user-agent", "accept-encoding", "connection")
        }
        assert sent == {
            "content-type": "application/json", "user-agent": "me", "accept-encoding": "identity", "connection": "close",
        }  # fmt: skip


async def test_user_and_password_of_the_url_are_sent_and_never_told(client: HttpRequests) -> None:
    async with http_server(response()) as server:
        url = f"http://ann:hunter2@{LOOPBACK}:{server.port}/secret-path?token=abc"
        assert (await get(client, url))[0] == 200
        assert header_of(server.requests[0], "authorization") == "Basic YW5uOmh1bnRlcjI="
    told = str(await refusal(client, url))
    assert told.startswith(f"http://{LOOPBACK}:{server.port}: connection refused")
    assert not any(word in told for word in ("hunter2", "ann", "secret-path", "token", "abc"))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
async def test_proxies_of_the_environment_are_not_used(
    client: HttpRequests, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with http_server(response(b"proxy")) as proxy, http_server(response(b"server")) as server:
        monkeypatch.setenv(name, proxy.url())
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await get(client, server.url()) == (200, b"server")
        assert proxy.accepted == 0


async def test_credentials_of_a_netrc_are_not_used(
    client: HttpRequests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text(f"machine {LOOPBACK} login ann password hunter2\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with http_server(response()) as server:
        await get(client, server.url())
        assert header_of(server.requests[0], "authorization") is None


# --- what goes wrong ----------------------------------------------------------------------------------


async def _reset(caller: Caller) -> None:
    await caller.request()
    caller.reset()


async def _hang_up(caller: Caller) -> None:
    await caller.request()


async def _nonsense(caller: Caller) -> None:
    await caller.request()
    await caller.say(b"220 smtp.test ESMTP\r\n")


async def _coded(caller: Caller) -> None:
    await caller.request()
    await caller.say(response(b"\x1f\x8b", headers=["Content-Encoding: gzip"]))


async def _cut_short(caller: Caller) -> None:
    await caller.request()
    await caller.say(response(b"half", length=8))


async def _endless_head(caller: Caller) -> None:
    await caller.request()
    await caller.say(b"HTTP/1.1 200 OK\r\n")
    while True:
        await caller.say(b"X-More: " + b"x" * 4000 + b"\r\n")


async def _only_interim(caller: Caller) -> None:
    await caller.request()
    while True:
        await caller.say(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


async def _endless_body(caller: Caller) -> None:
    await caller.request()
    await caller.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await caller.say(b"1\r\nx\r\n" * 20_000)


@pytest.mark.parametrize(
    ("conversation", "reason", "says"),
    [
        (_reset, Reason.RESET, "connection reset"),
        (_hang_up, Reason.PROTOCOL, "disconnected without sending"),
        (_nonsense, Reason.PROTOCOL, ""),
        (_coded, Reason.PROTOCOL, "content coding"),
        (_cut_short, Reason.PROTOCOL, "without sending complete message body"),
        (_endless_head, Reason.PROTOCOL, ""),
        (hang, Reason.TIMEOUT, "timeout after 0.3 s while waiting"),
        (_only_interim, Reason.TIMEOUT, "timeout after 0.3 s"),
    ],
)
async def test_an_answer_against_the_rules_has_a_reason(
    client: HttpRequests, conversation: Conversation, reason: Reason, says: str
) -> None:
    async with serving(conversation) as server:
        error = await refusal(client, server.url(), timeout_seconds=0.3)
        assert (error.reason, says in error.message) == (reason, True), error.message


async def test_nobody_there_has_a_reason(client: HttpRequests) -> None:
    assert (await refusal(client, f"http://{LOOPBACK}:{closed_port()}/")).reason is Reason.REFUSED
    with full_listener() as port:
        error = await refusal(client, f"http://{LOOPBACK}:{port}/", timeout_seconds=0.2)
        assert error.reason is Reason.CONNECT_TIMEOUT
        assert f"while connecting to {LOOPBACK}:{port}" in error.message


async def test_headers_that_are_not_ascii_are_sent_as_utf_8(client: HttpRequests) -> None:
    async with http_server(response()) as server:
        await get(client, server.url(), headers={"X-Team": "Müller", "Authorization": "Bearer 日"})
        assert "X-Team: Müller\r\n".lower() in server.requests[0].decode().lower()
        assert "Bearer 日\r\n" in server.requests[0].decode()


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/", "http://", "http://[::1", "127.0.0.1:80", "", "http://127.0.0.1:99999/"],
)
async def test_what_is_no_url_is_an_error_and_no_crash(client: HttpRequests, url: str) -> None:
    assert (await refusal(client, url)).reason in (Reason.PROTOCOL, Reason.DNS)


async def test_the_whole_timeout_holds_for_a_body_without_an_end(client: HttpRequests) -> None:
    async with serving(_endless_body) as server:
        with anyio.fail_after(20):
            error = await refusal(client, server.url(), timeout_seconds=0.3, limit=1 << 40)
        assert error.reason is Reason.TIMEOUT


async def test_the_idle_timeout_ends_a_stream_that_fell_silent_and_no_other(client: HttpRequests) -> None:
    go_on = asyncio.Event()

    async def stream(caller: Caller) -> None:
        await caller.request()
        await caller.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            await caller.say(b"1\r\nx\r\n")
            await go_on.wait()
        await hang(caller)

    async with serving(stream) as server:
        heard = []

        async def listen() -> None:
            async with client.open("GET", server.url(), timeout_seconds=None, idle_seconds=0.2) as answer:
                async for chunk in answer.chunks:
                    heard.append(chunk)
                    go_on.set()

        with pytest.raises(HttpError, match=r"timeout after 0.2 s of silence"):
            await listen()
        assert b"".join(heard) == b"xxxxx"


async def test_others_run_while_a_server_floods_with_the_smallest_chunks(client: HttpRequests) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0)

    async with serving(_endless_body) as server, anyio.create_task_group() as group:
        group.start_soon(count)
        async with client.open("GET", server.url(), timeout_seconds=10) as answer:
            size, run, most, last = 0, 0, 0, turns
            async for chunk in answer.chunks:
                size += len(chunk)
                run = run + 1 if turns == last else 0
                most = max(most, run)
                last = turns
                if size > 20_000:
                    break
        group.cancel_scope.cancel()
    assert most < 3000  # 8 KiB hold at most 1,366 of one byte, and the counter has every second turn


async def test_cancelling_leaves_nothing_behind(client: HttpRequests) -> None:
    async with no_socket_left(), serving(hang) as server:
        with anyio.move_on_after(0.05) as scope:
            await get(client, server.url())
        assert scope.cancelled_caught


async def test_cancelling_between_chunks_leaves_nothing_behind(client: HttpRequests) -> None:
    async def begin(caller: Caller) -> None:
        await caller.request()
        await caller.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await hang(caller)

    async with serving(begin) as server:
        before = open_sockets()
        with anyio.move_on_after(0.1) as scope:
            async with client.open("GET", server.url(), timeout_seconds=10) as answer:
                assert await anext(answer.chunks) == b"x"
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        with anyio.fail_after(5):
            while open_sockets() > before:
                await anyio.sleep(0.002)


# --- TLS ----------------------------------------------------------------------------------------------


async def test_a_certificate_is_judged_by_the_authority_that_is_named(
    client: HttpRequests, authority: Authority
) -> None:
    issued = authority.issue("localhost")
    async with http_server(response(), tls=issued.context()) as server:
        url = server.url(scheme="https", host="localhost")
        assert await get(client, url, tls=TlsOptions(ca_file=authority.ca_file)) == (200, b"ok")
        assert (await refusal(client, url)).reason is Reason.CERTIFICATE
        assert await get(client, url, tls=TlsOptions(skip_verification=True)) == (200, b"ok")
        assert len(server.requests) == 2  # nothing was sent to the one that was not trusted


async def test_a_certificate_for_another_name_is_refused(client: HttpRequests, authority: Authority) -> None:
    async with http_server(response(), tls=authority.issue("other.test").context()) as server:
        url = server.url(scheme="https", host="localhost")
        error = await refusal(client, url, tls=TlsOptions(ca_file=authority.ca_file))
        assert error.reason is Reason.CERTIFICATE
        assert "localhost" in error.message
        named = TlsOptions(ca_file=authority.ca_file, server_name="other.test")
        assert await get(client, url, tls=named) == (200, b"ok")


async def test_a_certificate_may_be_for_an_address(client: HttpRequests, authority: Authority) -> None:
    issued = authority.issue(x509.IPAddress(ipaddress.ip_address(LOOPBACK)))
    async with http_server(response(), tls=issued.context()) as server:
        tls = TlsOptions(ca_file=authority.ca_file)
        assert await get(client, server.url(scheme="https"), tls=tls) == (200, b"ok")


async def test_a_client_certificate_is_shown_where_it_is_asked_for(
    client: HttpRequests, authority: Authority
) -> None:
    issued, mine = authority.issue("localhost"), authority.issue("me", client=True)
    async with http_server(response(), tls=issued.context(client_ca=authority.ca_file)) as server:
        url = server.url(scheme="https", host="localhost")
        shown = TlsOptions(ca_file=authority.ca_file, cert_file=mine.cert_file, key_file=mine.key_file)
        assert await get(client, url, tls=shown) == (200, b"ok")
        without = await refusal(client, url, tls=TlsOptions(ca_file=authority.ca_file))
        assert without.reason in (Reason.TLS, Reason.RESET, Reason.PROTOCOL)


async def test_files_that_cannot_be_read_are_our_own_side_s_fault(
    client: HttpRequests, authority: Authority, tmp_path: Path
) -> None:
    async with http_server(response(), tls=authority.issue("localhost").context()) as server:
        url = server.url(scheme="https", host="localhost")
        error = await refusal(client, url, tls=TlsOptions(ca_file=str(tmp_path / "none.pem")))
        assert error.reason is Reason.INTERNAL


# --- redirects ----------------------------------------------------------------------------------------


def _to(location: str) -> bytes:
    return response(b"elsewhere", status="302 Found", headers=[f"Location: {location}"])


async def test_a_redirect_is_an_answer_unless_it_is_to_be_followed(client: HttpRequests) -> None:
    def respond(request: bytes) -> bytes:
        return _to("/there") if path_of(request) == "/" else response(b"there")

    async with http_server(respond) as server:
        assert (await get(client, server.url()))[0] == 302
        assert await get(client, server.url(), follow_redirects=True) == (200, b"there")


async def test_another_origin_is_shown_no_credentials(client: HttpRequests) -> None:
    async with http_server(response(b"there")) as other, http_server(_to(other.url())) as server:
        url = f"http://ann:hunter2@{LOOPBACK}:{server.port}/"
        secrets = {"Authorization": "Bearer x"}
        assert await get(client, url, follow_redirects=True) == (200, b"there")
        assert await get(client, server.url(), follow_redirects=True, headers=secrets) == (200, b"there")
        assert [header_of(request, "authorization") for request in other.requests] == [None, None]
        assert all(header_of(request, "authorization") for request in server.requests)


async def test_a_redirect_to_what_cannot_be_requested_is_an_error(client: HttpRequests) -> None:
    for location in ("ftp://127.0.0.1/", "http://127.0.0.1:99999/"):
        async with http_server(_to(location)) as server:
            error = await refusal(client, server.url(), follow_redirects=True)
            assert error.reason is Reason.PROTOCOL


async def test_redirects_in_a_circle_end(client: HttpRequests) -> None:
    async with http_server(_to("/")) as server:
        error = await refusal(client, server.url(), follow_redirects=True)
        assert error.reason is Reason.REDIRECT
        assert len(server.requests) == MOST_REDIRECTS + 1


async def test_link_local_addresses_take_a_word_and_redirects_never_get_there(client: HttpRequests) -> None:
    assert (await refusal(client, "http://169.254.169.254/")).reason is Reason.PERMISSION
    async with http_server(_to("http://169.254.169.254/")) as server:
        error = await refusal(client, server.url(), follow_redirects=True, allow_link_local=True)
        assert error.reason is Reason.PERMISSION


async def test_a_network_that_is_fenced_already_stays_so() -> None:
    async with open_network() as network:
        error = await refusal(HttpRequests(fenced(network)), "http://169.254.169.254/", allow_link_local=True)
        assert error.reason is Reason.PERMISSION


async def test_nobody_is_reached_where_no_client_was_handed_in() -> None:
    assert (await refusal(NoHttp(), "http://server.test/")).reason is Reason.INTERNAL
