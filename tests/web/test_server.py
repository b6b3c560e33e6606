"""Real sockets: addresses, deadlines, limits, bad requests, and the end."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from textwrap import dedent

import anyio
import pytest
from anyio.abc import SocketStream, TaskStatus
from starlette.types import Receive, Scope, Send

from watchbill.domain.errors import ListenError
from watchbill.web import Live, bind, serve_web, server
from watchbill.web.addresses import adopt, split_address

pytestmark = pytest.mark.anyio
HANG_GUARD_SECONDS = 20
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class App:
    """Answers ``ok``; ``/hang`` once ``release`` is set, ``/large`` and ``/once`` with more than any buffer holds."""

    def __init__(self) -> None:
        self.hanging = anyio.Event()
        self.release = anyio.Event()
        self.asked = 0
        self.errors: list[Exception] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        try:
            await self._answer(scope, send)
        except Exception as error:
            self.errors.append(error)
            raise

    async def _answer(self, scope: Scope, send: Send) -> None:
        if scope["path"] == "/hang":
            self.hanging.set()
            await self.release.wait()
        body = b"x" * (1 << 20) if scope["path"] == "/large" else b"ok"
        parts = 64 if scope["path"] == "/large" else 1
        if scope["path"] == "/once":
            body = b"x" * (64 << 20)
        length = str(len(body) * parts).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for part in range(parts):
            await send({"type": "http.response.body", "body": body, "more_body": part < parts - 1})


class Served:
    """A server on a free port."""

    def __init__(self, app: App, sockets: list[socket.socket]) -> None:
        self.app = app
        self.port = sockets[0].getsockname()[1]
        self.shutdown = anyio.Event()
        self.ended = anyio.Event()
        self.sockets = sockets

    async def connect(self) -> SocketStream:
        return await anyio.connect_tcp("127.0.0.1", self.port)

    async def ask(self, request: bytes = REQUEST) -> bytes:
        """Everything that comes back until the server closes."""
        async with await self.connect() as stream:
            await stream.send(request)
            return await rest_of(stream)


async def rest_of(stream: SocketStream) -> bytes:
    received = b""
    try:
        async for part in stream:
            received += part
    except anyio.BrokenResourceError:
        pass
    return received


async def answered(stream: SocketStream) -> bool:
    """Read up to the end of one small answer."""
    received = b""
    while not received.endswith(b"\r\n\r\nok"):
        received += await stream.receive()
    return received.startswith(b"HTTP/1.1 200")


@asynccontextmanager
async def serving(live: Live | None = None) -> AsyncIterator[Served]:
    served = Served(App(), bind(["127.0.0.1:0"]))

    async def run(*, task_status: TaskStatus[None]) -> None:
        await serve_web(
            served.app, served.sockets, shutdown=served.shutdown, live=live, task_status=task_status
        )
        served.ended.set()

    with anyio.fail_after(HANG_GUARD_SECONDS):
        async with anyio.create_task_group() as group:
            await group.start(run)
            yield served
            served.app.release.set()
            served.shutdown.set()


async def test_started_means_that_it_answers() -> None:
    async with serving() as served:
        answer = await served.ask(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok")
    assert b"\r\ndate: " in answer
    assert b"server:" not in answer.lower()


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with serving() as served, await served.connect() as stream:
        for _ in range(3):
            await stream.send(REQUEST)
            assert await answered(stream)


async def test_a_connection_that_has_ended_leaves_nothing_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        async with serving() as served:
            async with await served.connect() as stream:
                await stream.send(REQUEST)
                assert await answered(stream)
                assert protocols() == 1
            for path in (b"/hang", b"/large"):
                hanging = await served.connect()
                await hanging.send(REQUEST.replace(b"/", path, 1))
                await hanging.receive() if path == b"/large" else await served.app.hanging.wait()
                await hanging.aclose()
            served.app.release.set()
            while protocols():
                await anyio.sleep(0.001)
    finally:
        gc.enable()


def protocols() -> int:
    return sum(isinstance(found, server.Protocol) for found in gc.get_objects())


async def test_signals_stay_with_whoever_has_them() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with serving() as served:
        await served.ask(REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


async def test_the_end_waits_for_a_request_in_flight() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await served.app.hanging.wait()
        served.shutdown.set()
        await anyio.wait_all_tasks_blocked()
        served.app.release.set()
        assert (await rest_of(stream)).endswith(b"ok")
        await served.ended.wait()
    assert [each.fileno() for each in served.sockets] == [-1]


async def test_the_end_does_not_wait_for_a_request_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.2)
    async with serving() as served, await served.connect() as stream:
        await stream.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await served.app.hanging.wait()
        served.shutdown.set()
        await served.ended.wait()
        assert not (await rest_of(stream)).endswith(b"ok")


async def test_cancelling_closes_the_sockets() -> None:
    sockets = bind(["127.0.0.1:0"])
    with anyio.fail_after(HANG_GUARD_SECONDS):
        async with anyio.create_task_group() as group:

            async def run(*, task_status: TaskStatus[None]) -> None:
                await serve_web(App(), sockets, shutdown=anyio.Event(), task_status=task_status)

            await group.start(run)
            group.cancel_scope.cancel()
    assert sockets[0].fileno() == -1


# --- slow, idle and greedy clients --------------------------------------------------------------------


async def test_a_client_that_is_slow_to_ask_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    async with serving() as served:
        for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            assert await served.ask(sent) == b""


async def test_a_client_that_is_slow_to_ask_again_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    async with serving() as served, await served.connect() as stream:
        await stream.send(REQUEST)
        assert await answered(stream)
        await stream.send(b"GET / HT")
        assert await rest_of(stream) == b""


async def test_a_client_that_does_not_read_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RESPONSE_SECONDS", 0.5)
    async with serving() as served, await served.connect() as stream:
        await stream.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await anyio.sleep(1)
        received = await rest_of(stream)
    assert len(received) < 64 << 20


async def test_idle_connections_give_way_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 4)
    async with serving() as served:
        streams = [await served.connect() for _ in range(4)]
        await streams[3].send(REQUEST)
        assert await answered(streams[3])
        async with await served.connect() as fifth:
            await fifth.send(REQUEST)
            assert await answered(fifth)
            assert await rest_of(streams[0]) == b""
            for stream in streams[1:]:
                await stream.send(REQUEST)
                assert await answered(stream)
        for stream in streams:
            await stream.aclose()


async def test_busy_connections_give_way_only_where_all_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)
    async with serving() as served, await served.connect() as busy, await served.connect() as idle:
        await busy.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await served.app.hanging.wait()
        async with await served.connect() as third:
            await third.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await rest_of(idle) == b""
            assert (await served.ask(REQUEST.replace(b"1.1", b"1.0"))).endswith(b"ok")
            assert await rest_of(busy) == b""
            served.app.release.set()
            assert await answered(third)


async def test_a_client_that_leaves_a_finished_answer_lying_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "RESPONSE_SECONDS", 0.5)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 1)
    for version in (b"1.1", b"1.0"):
        async with serving() as served, await served.connect() as stream:
            await stream.send(b"GET /once HTTP/" + version + b"\r\nHost: x\r\n\r\n")
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
            await anyio.sleep(1)
            received = await rest_of(stream)
        assert len(received) < 64 << 20


async def test_a_body_and_its_head_may_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LARGEST_HEAD_BYTES", 1000)
    body = b"x" * 1000
    asked = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + body
    async with serving() as served, await served.connect() as stream:
        for _ in range(3):
            await stream.send(asked)
            assert await answered(stream)


@pytest.mark.parametrize(
    "flood",
    [
        b"GET / HTTP/1.1\r\n" + b"X-Flood: 1\r\n" * 40_000,
        b"GET / HTTP/1.1\r\nX-Flood: " + b"x" * 400_000,
        b"GET /" + b"x" * 400_000,
    ],
    ids=["many fields", "one field", "the address"],
)
async def test_an_endless_head_is_refused(flood: bytes) -> None:
    async with serving() as served, await served.connect() as stream:
        try:
            for start in range(0, len(flood), 16_384):
                await stream.send(flood[start : start + 16_384])
        except anyio.BrokenResourceError:
            pass  # refused while sending
        answer = await rest_of(stream)
        assert answer[:12] in {b"HTTP/1.1 431", b"HTTP/1.1 400", b""}
        assert b"200" not in answer[:12]
        assert (await served.ask(REQUEST.replace(b"1.1", b"1.0"))).endswith(b"ok")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_a_bad_request(request_bytes: bytes) -> None:
    async with serving() as served:
        assert (await served.ask(request_bytes)).startswith(b"HTTP/1.1 400")
        assert (await served.ask(REQUEST.replace(b"1.1", b"1.0"))).endswith(b"ok")


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"GET / HTTP/1.1\r\nHost: x\r\n"
REFUSED = {
    "no request": (b"GARBAGE\r\n\r\n", b"400"),
    "more fields than anybody needs": (PLAIN + b"X: 1\r\n" * 101 + b"\r\n", b"431"),
    "a long field": (PLAIN + b"X: " + b"x" * 200_000, b"431"),
    "trailers without end": (CHUNKED + b"0\r\n" + b"X: 1\r\n" * 50_000, b"431"),
    "framing without end": (CHUNKED + b"1;" + b"x" * 200_000, b"431"),
    "a body of single bytes": (CHUNKED + b"1\r\nx\r\n" * 20_000, b"413"),
    "a body without end": (CHUNKED + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 20, b"413"),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused_is_told_under_the_policy_of_every_response(sent: bytes, status: bytes) -> None:
    async with serving() as served, await served.connect() as stream:
        with suppress(anyio.BrokenResourceError):
            for start in range(0, len(sent), 16_384):
                await stream.send(sent[start : start + 16_384])
        received = await rest_of(stream)
    answers = received[max(received.find(b"HTTP/1.1 4"), 0) :]
    assert answers[:13] in {b"HTTP/1.1 " + status + b" ", b""}  # a reset may come first
    if answers:
        assert b"\r\nContent-Security-Policy: default-src 'none'" in answers
        assert b"\r\nX-Content-Type-Options: nosniff" in answers


async def test_requests_in_a_long_row_are_not_kept() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert not (await rest_of(stream)).endswith(b"ok")
        assert served.app.asked <= 1


async def test_a_request_behind_another_changes_nothing_about_how_long_that_one_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    armed: list[float] = []
    monkeypatch.setattr(server.Protocol, "_arm", lambda _, seconds: armed.append(seconds))
    async with serving() as served, await served.connect() as stream:
        await stream.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await served.app.hanging.wait()
        before = list(armed)
        await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not any(each.pipeline for each in gc.get_objects() if isinstance(each, server.Protocol)):
            await anyio.lowlevel.checkpoint()
        assert [seconds for seconds in armed[len(before) :] if seconds != server.HEAD_SECONDS] == []
        served.app.release.set()


async def test_nothing_is_written_into_a_response_that_has_begun() -> None:
    async with serving() as served, await served.connect() as stream:
        await stream.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        begun = await stream.receive()
        await stream.send(b"GARBAGE\r\n\r\n")
        rest = await rest_of(stream)
    assert begun.startswith(b"HTTP/1.1 200")
    assert rest.strip(b"x") == b""


async def test_an_answer_whose_connection_was_given_up_meanwhile_is_no_error() -> None:
    """It was to a request before the last one."""
    async with serving() as served, await served.connect() as stream:
        await stream.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GARBAGE\r\n\r\n")
        await served.app.hanging.wait()
        await rest_of(stream)
        served.app.release.set()
        await anyio.wait_all_tasks_blocked()
        assert served.app.asked == 1
        assert served.app.errors == []


EXHAUSTED = """
    import os, resource, socket
    import anyio
    from tests.web.test_server import App, REQUEST, bind, serve_web

    async def main():
        sockets, stop = bind(["127.0.0.1:0"]), anyio.Event()
        where = sockets[0].getsockname()

        async def run(*, task_status):
            await serve_web(App(), sockets, shutdown=stop, task_status=task_status)

        async def ask():
            async with await anyio.connect_tcp(*where) as stream:
                await stream.send(REQUEST)
                return await stream.receive()

        async with anyio.create_task_group() as group:
            await group.start(run)
            before = await ask()
            for _ in range(3):
                waiting = [socket.socket() for _ in range(5)]
                held, (soft, hard) = [], resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, hard))
                try:
                    while True:
                        held.append(os.open("/dev/null", os.O_RDONLY))
                except OSError as error:
                    print("out of descriptors:", error.errno)
                for each in waiting:
                    each.setblocking(False)
                    each.connect_ex(where)
                await anyio.sleep(0.3)
                for number in held:
                    os.close(number)
                for each in waiting:
                    each.close()
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            with anyio.fail_after(10):
                after = await ask()
            print("same answer:", before[-2:] == after[-2:] == b"ok")
            stop.set()

    anyio.run(main, backend_options={"use_uvloop": True})
"""


def test_running_out_of_descriptors_does_not_end_the_listening() -> None:
    run = subprocess.run(
        [sys.executable, "-c", dedent(EXHAUSTED)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == ""
    assert run.stdout == "out of descriptors: 24\n" * 3 + "same answer: True\n"


# --- addresses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "split"),
    [
        ("127.0.0.1:9876", ("127.0.0.1", 9876)),
        ("[::1]:9876", ("::1", 9876)),
        (":9876", ("", 9876)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_an_address_is_host_and_port(address: str, split: tuple[str, int]) -> None:
    assert split_address(address) == split


@pytest.mark.parametrize(
    "address", ["", "9876", "127.0.0.1", "::1:9876", "localhost:", "localhost:http", "x:65536", "x:-1", "x:٣"]
)
def test_what_is_no_address_says_how_one_looks(address: str) -> None:
    with pytest.raises(ListenError) as error:
        bind([address])
    assert str(error.value) == (
        f"cannot listen on {address!r}: write host:port, such as 127.0.0.1:9876, [::1]:9876 or :9876"
    )


def test_a_taken_port_says_what_to_do_and_gives_the_others_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        port = taken.getsockname()[1]
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
        probe.close()
        with pytest.raises(ListenError) as error:
            bind([f"127.0.0.1:{free}", f"127.0.0.1:{port}"])
        assert str(error.value) == (
            f"cannot listen on 127.0.0.1:{port}: another program listens there; stop it, "
            "or choose another port with --web.listen-address"
        )
        with socket.create_server(("127.0.0.1", free)):
            pass


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.1:9876", "no interface of this machine has that address"),
        ("no.such.host.invalid:9876", "no.such.host.invalid is no address of this machine"),
        ("a" * 70 + ".example:9876", "is no address of this machine"),
    ],
)
def test_an_address_that_is_not_ours_says_so(address: str, said: str) -> None:
    with pytest.raises(ListenError, match=said):
        bind([address])


def test_no_host_means_every_interface_and_several_addresses_are_taken() -> None:
    everywhere, loopback = bind([":0", "127.0.0.1:0"])
    with everywhere, loopback:
        for listener in (everywhere, loopback):
            with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5):
                pass


# --- sockets that are handed over ---------------------------------------------------------------------


def test_sockets_that_listen_are_adopted_whatever_their_family(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "web.sock"))
        unix.listen()
        descriptors = [os.dup(tcp.fileno()), os.dup(unix.fileno())]
        adopted = adopt([(descriptors[0], "web"), (descriptors[1], "local")])
        assert [each.family for each in adopted] == [socket.AF_INET, socket.AF_UNIX]
        assert [each.getsockname() for each in adopted] == [tcp.getsockname(), unix.getsockname()]
        for each in adopted:
            assert not each.get_inheritable()
            each.close()


def test_what_cannot_be_served_on_is_told_and_the_others_are_closed() -> None:
    with pytest.raises(ListenError, match="no socket was handed over"):
        adopt([])
    with (
        socket.create_server(("127.0.0.1", 0)) as good,
        socket.socket() as deaf,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        for bad in (deaf, udp):
            taken = os.dup(good.fileno())
            with pytest.raises(ListenError, match="the socket metrics does not listen for streams"):
                adopt([(taken, "web"), (os.dup(bad.fileno()), "metrics")])
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(taken)
    with open(os.devnull, "rb") as file, pytest.raises(ListenError, match=r"\(web\) is no socket"):
        adopt([(file.fileno(), "web")])


async def test_a_unix_socket_is_served_like_any_other(tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.setblocking(False)
    stop = anyio.Event()
    with anyio.fail_after(HANG_GUARD_SECONDS):
        async with anyio.create_task_group() as group:

            async def run(*, task_status: TaskStatus[None]) -> None:
                await serve_web(App(), [listener], shutdown=stop, task_status=task_status)

            await group.start(run)
            async with await anyio.connect_unix(path) as stream:
                await stream.send(REQUEST)
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
            stop.set()


async def test_who_has_connected_before_the_end_may_still_ask_once() -> None:
    async with serving() as served, await served.connect() as early, await served.connect() as idle:
        await idle.send(REQUEST)
        assert await answered(idle)
        served.shutdown.set()
        assert await rest_of(idle) == b""  # it had its turn
        await early.send(REQUEST)
        assert (await rest_of(early)).endswith(b"ok")
        await served.ended.wait()
