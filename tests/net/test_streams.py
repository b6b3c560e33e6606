"""The TCP stream: bounded, abrupt when closed, and gone when cancelled."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import anyio
import pytest

from tests.servers import (
    LOOPBACK,
    Authority,
    Caller,
    closed_port,
    full_listener,
    hang,
    no_more_descriptors,
    no_socket_left,
    open_sockets,
    serving,
    shake_hands,
)
from watchbill.domain.credentials import TlsOptions
from watchbill.domain.results import Reason
from watchbill.net.streams import MOST_AT_ONCE, RECORDS_AT_ONCE, Stream, open_stream
from watchbill.net.tls import Contexts
from watchbill.ports import Connection, NetworkError

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


async def connect(port: int) -> Stream:
    return await open_stream(LOOPBACK, port, contexts=Contexts())


async def all_of(connection: Connection) -> bytes:
    parts = []
    while data := await connection.receive():
        parts.append(data)
    return b"".join(parts)


def test_a_stream_is_the_connection_that_probers_ask_for() -> None:
    assert_type: type[Connection] = Stream
    assert assert_type is Stream


async def test_what_is_sent_arrives_and_what_is_said_is_received() -> None:
    async def double(caller: Caller) -> None:
        data = await caller.reader.readexactly(5)
        await caller.say(data * 2)

    async with no_socket_left(), serving(double) as server:
        stream = await connect(server.port)
        await stream.send(b"hel")
        await stream.send(b"lo")
        assert await all_of(stream) == b"hellohello"
        assert await stream.receive() == b""
        await stream.close()


async def test_nagle_s_algorithm_is_off() -> None:
    async with serving(hang) as server:
        stream = await connect(server.port)
        sock = stream._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        await stream.close()


async def test_reading_waits_while_nobody_takes_what_has_come() -> None:
    sent = 0

    async def pour(caller: Caller) -> None:
        nonlocal sent
        while True:
            await caller.say(b"x" * 65_536)
            sent += 65_536

    async with no_socket_left(), serving(pour) as server:
        stream = await connect(server.port)
        before, quiet = -1, 0
        with anyio.fail_after(20):
            while quiet < 20:  # until the peer can send no more: every buffer between is full
                quiet = quiet + 1 if sent == before else 0
                before = sent
                await anyio.sleep(0.005)
        assert stream._buffered < 5 * MOST_AT_ONCE
        received = 0
        while received <= before:
            received += len(await stream.receive())
        assert sent > before
        await stream.close()


async def test_no_piece_is_larger_than_64_kib() -> None:
    async def pour(caller: Caller) -> None:
        await caller.say(b"x" * 1_000_000)

    async with serving(pour) as server:
        stream = await connect(server.port)
        sizes = []
        while data := await stream.receive():
            sizes.append(len(data))
        assert sum(sizes) == 1_000_000
        assert max(sizes) <= MOST_AT_ONCE
        await stream.close()


async def test_what_came_before_a_reset_is_received_before_it() -> None:
    async def crash(caller: Caller) -> None:
        await caller.say(b"last words")
        await caller.reader.readexactly(1)
        caller.reset()

    async with no_socket_left(), serving(crash) as server:
        stream = await connect(server.port)
        assert await stream.receive() == b"last words"
        await stream.send(b"!")
        with pytest.raises(NetworkError, match="connection reset by peer while talking to 127") as raised:
            await stream.receive()
        assert raised.value.reason is Reason.RESET
        with pytest.raises(NetworkError):
            await stream.send(b"anyone?")
        await stream.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_closed_connection_says_so_and_closes_again_quietly(
    secure: bool, authority: Authority
) -> None:
    context = authority.issue(LOOPBACK).context() if secure else None
    async with no_socket_left(), serving(hang, tls=context) as server:
        stream = await connect(server.port)
        if secure:
            await stream.start_tls(TlsOptions(), server_name=LOOPBACK)
        await stream.close()
        await stream.close()
        with pytest.raises(NetworkError) as raised:
            await stream.send(b"x")
        assert raised.value.reason is Reason.RESET
        await stream.close()


async def test_closing_does_not_wait_for_a_peer_that_reads_nothing() -> None:
    async def deaf(caller: Caller) -> None:
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await anyio.sleep_forever()

    async with no_socket_left(), serving(deaf) as server:
        stream = await connect(server.port)
        async with anyio.create_task_group() as group:
            group.start_soon(stream.send, b"x" * 50_000_000)
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()
        baseline = open_sockets()
        with anyio.fail_after(5):
            await stream.close()
            while open_sockets() >= baseline:
                await anyio.sleep(0.002)


@pytest.mark.parametrize(
    ("address", "reason", "message"),
    [
        (LOOPBACK, Reason.REFUSED, "connection refused while connecting to 127.0.0.1:{port}"),
        ("::1", Reason.REFUSED, "connection refused while connecting to [::1]:{port}"),
        (
            "255.255.255.255",
            Reason.NETWORK,
            "network is unreachable while connecting to 255.255.255.255:{port}",
        ),
    ],
)
async def test_a_connection_that_cannot_be_made_says_why(address: str, reason: Reason, message: str) -> None:
    port = closed_port()
    async with no_socket_left():
        with pytest.raises(NetworkError) as raised:
            await open_stream(address, port, contexts=Contexts())
    assert raised.value.reason is reason
    assert raised.value.message == message.format(port=port)


async def test_connecting_cancelled_leaves_no_socket() -> None:
    with full_listener() as port:
        async with no_socket_left():
            with anyio.move_on_after(0.05) as scope:
                await connect(port)
            assert scope.cancelled_caught


@pytest.mark.parametrize("turns", range(12))
async def test_connecting_cancelled_at_any_turn_leaves_no_socket(turns: int) -> None:
    opened: list[Stream] = []

    async def one(port: int) -> None:
        opened.append(await connect(port))

    async with no_socket_left(), serving(hang) as server:
        task = asyncio.create_task(one(server.port))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        for stream in opened:
            await stream.close()


# --- TLS ----------------------------------------------------------------------------------------------


async def test_bytes_go_through_tls_both_ways_and_the_end_is_said(authority: Authority) -> None:
    heard: list[bytes] = []

    async def conversation(caller: Caller) -> None:
        secure = await shake_hands(caller, authority.issue(LOOPBACK).context())
        heard.append(await secure.answer(b"y" * 300_000))
        heard.append(await secure.run(lambda: secure.tls.read(100)))  # b"" is the client's close_notify

    async with no_socket_left(), serving(conversation) as server:
        stream = await connect(server.port)
        session = await stream.start_tls(TlsOptions(ca_file=authority.ca_file), server_name=LOOPBACK)
        assert session.problem is None
        await stream.send(b"x" * 10_000)
        received = 0
        while received < 300_000:
            received += len(await stream.receive())
        await stream.close()
        with anyio.fail_after(5):
            while len(heard) < 2:
                await anyio.sleep(0.002)
    assert heard == [b"x" * 10_000, b""]


async def test_a_damaged_record_is_a_failure_of_tls(authority: Authority) -> None:
    async def conversation(caller: Caller) -> None:
        await shake_hands(caller, authority.issue(LOOPBACK).context())
        await caller.say(b"\x17\x03\x03\x00\x20" + b"garbage!" * 4)

    async with no_socket_left(), serving(conversation) as server:
        stream = await connect(server.port)
        await stream.start_tls(TlsOptions(), server_name=LOOPBACK)
        with pytest.raises(NetworkError, match="TLS failed while receiving: ") as raised:
            await stream.receive()
        assert raised.value.reason is Reason.TLS
        await stream.close()


async def test_a_peer_that_ends_without_close_notify_has_ended(authority: Authority) -> None:
    async def conversation(caller: Caller) -> None:
        secure = await shake_hands(caller, authority.issue(LOOPBACK).context())
        await secure.answer(b"all there is")

    async with no_socket_left(), serving(conversation) as server:
        stream = await connect(server.port)
        await stream.start_tls(TlsOptions(), server_name=LOOPBACK)
        await stream.send(b"?")
        assert await all_of(stream) == b"all there is"
        await stream.close()


@pytest.mark.parametrize(
    ("server_name", "declared", "asked_for"),
    [
        ("shop.test", None, "shop.test"),
        ("bücher.test", None, "xn--bcher-kva.test"),
        (LOOPBACK, None, None),
        ("::1", None, None),
        (LOOPBACK, "shop.test", "shop.test"),
    ],
)
async def test_the_server_name_asked_for(
    authority: Authority, server_name: str, declared: str | None, asked_for: str | None
) -> None:
    asked: list[str | None] = []
    context = authority.issue("shop.test").context()
    context.set_servername_callback(lambda _, name, __: asked.append(name))

    async def conversation(caller: Caller) -> None:
        await shake_hands(caller, context)

    async with serving(conversation) as server:
        stream = await connect(server.port)
        await stream.start_tls(TlsOptions(server_name=declared), server_name=server_name)
        await stream.close()
    assert asked == [asked_for]


async def test_others_run_while_bytes_come_in_a_record_each(authority: Authority) -> None:
    count, turns = 640, 0

    async def conversation(caller: Caller) -> None:
        secure = await shake_hands(caller, authority.issue(LOOPBACK).context())
        for _ in range(count):
            secure.tls.write(b"x")
        await secure.run(lambda: secure.tls.write(b"x"))
        await hang(caller)

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with serving(conversation) as server, anyio.create_task_group() as group:
        stream = await connect(server.port)
        await stream.start_tls(TlsOptions(), server_name=LOOPBACK)
        assert await stream.receive() == b"x"  # the others have come with it
        group.start_soon(take_turns)
        for _ in range(count):
            assert await stream.receive() == b"x"
        group.cancel_scope.cancel()
        await stream.close()
    assert turns >= count // RECORDS_AT_ONCE


async def test_alpn_is_offered_only_when_asked(authority: Authority) -> None:
    chosen: list[str | None] = []
    context = authority.issue(LOOPBACK).context()
    context.set_alpn_protocols(["h2", "http/1.1"])

    async def conversation(caller: Caller) -> None:
        secure = await shake_hands(caller, context)
        chosen.append(secure.tls.selected_alpn_protocol())

    async with serving(conversation) as server:
        contexts = Contexts()
        for alpn in ((), ("http/1.1",)):
            stream = await open_stream(LOOPBACK, server.port, contexts=contexts)
            await stream.start_tls(TlsOptions(), server_name=LOOPBACK, alpn=alpn)
            await all_of(stream)
            await stream.close()
    assert chosen == [None, "http/1.1"]


def test_no_context_is_made_that_trusts_nobody_for_want_of_a_descriptor(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    contexts = Contexts()
    with no_more_descriptors(), pytest.raises(NetworkError) as raised:
        contexts.get(TlsOptions())
    assert raised.value.reason is Reason.DESCRIPTORS
    assert contexts.get(TlsOptions()).get_cert_store() is not None


async def test_contexts_are_kept_and_never_too_many(authority: Authority) -> None:
    contexts = Contexts()
    options = TlsOptions(ca_file=authority.ca_file)
    assert contexts.get(options) is contexts.get(
        TlsOptions(ca_file=authority.ca_file, skip_verification=True)
    )
    assert contexts.get(options) is not contexts.get(options, ("http/1.1",))
    for number in range(300):
        contexts.get(options, (f"p{number}",))
    assert len(contexts._kept) == 256
