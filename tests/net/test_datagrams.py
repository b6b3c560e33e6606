"""UDP to and from one address."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from tests.servers import LOOPBACK, no_socket_left
from watchbill.domain.results import OWN_SIDE, Reason
from watchbill.net.datagrams import MOST_WAITING, DatagramPair, open_datagrams
from watchbill.ports import Datagrams, NetworkError

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@contextmanager
def peer(host: str = LOOPBACK) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind((host, 0))
        bound.settimeout(5)
        yield bound


def test_a_pair_is_the_datagrams_that_probers_ask_for() -> None:
    wanted: type[Datagrams] = DatagramPair
    assert wanted is DatagramPair


@pytest.mark.parametrize("host", [LOOPBACK, "::1"])
async def test_datagrams_go_out_and_come_back_whole(host: str) -> None:
    async with no_socket_left():
        with peer(host) as server:
            pair = await open_datagrams(host, server.getsockname()[1])
            await pair.send(b"one")
            await pair.send(b"two")
            first, client = server.recvfrom(100)
            second, _ = server.recvfrom(100)
            server.sendto(b"reply", client)
            server.sendto(b"", client)
            assert [first, second, await pair.receive(), await pair.receive()] == [
                b"one",
                b"two",
                b"reply",
                b"",
            ]
            await pair.close()
            await pair.close()


class FullSocket(socket.socket):
    """What the kernel says where nothing more fits into the queue of this socket."""

    def send(self, *_: Any) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


async def test_a_question_that_never_left_is_our_own_fault() -> None:
    async with no_socket_left():
        pair = DatagramPair(FullSocket(socket.AF_INET, socket.SOCK_DGRAM), "192.0.2.1:53")
        with pytest.raises(NetworkError) as caught:
            await pair.send(b"question")
        assert caught.value.reason is Reason.INTERNAL
        assert caught.value.reason in OWN_SIDE
        await pair.close()


@pytest.mark.parametrize("turns", range(8))
async def test_opening_cancelled_at_any_turn_leaves_no_socket(turns: int) -> None:
    opened: list[DatagramPair] = []

    async def one(port: int) -> None:
        opened.append(await open_datagrams(LOOPBACK, port))

    async with no_socket_left():
        task = asyncio.create_task(one(9))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        for pair in opened:
            await pair.close()


async def test_strangers_are_not_heard() -> None:
    with peer() as server, peer() as stranger:
        pair = await open_datagrams(LOOPBACK, server.getsockname()[1])
        await pair.send(b"hello")
        _, client = server.recvfrom(100)
        stranger.sendto(b"spoofed", client)
        server.sendto(b"mine", client)
        assert await pair.receive() == b"mine"
        await pair.close()


async def test_a_port_that_nobody_listens_on_refuses() -> None:
    with peer() as gone:
        port = gone.getsockname()[1]
    async with no_socket_left():
        pair = await open_datagrams(LOOPBACK, port)
        await pair.send(b"anyone?")
        with anyio.fail_after(5), pytest.raises(NetworkError) as raised:
            await pair.receive()
        await pair.close()
    assert raised.value.reason is Reason.REFUSED
    assert raised.value.message == f"connection refused while talking to 127.0.0.1:{port} over UDP"


async def test_what_nobody_reads_is_bounded() -> None:
    with peer() as server:
        pair = await open_datagrams(LOOPBACK, server.getsockname()[1])
        await pair.send(b"flood me")
        _, client = server.recvfrom(100)
        for number in range(MOST_WAITING * 2):
            server.sendto(b"%d" % number, client)
        assert await pair.receive() == b"0"
        with anyio.fail_after(5):
            while len(pair._received) < MOST_WAITING:
                await anyio.sleep(0.002)
        await anyio.sleep(0.02)
        assert len(pair._received) == MOST_WAITING
        assert await pair.receive() == b"1"
        await pair.close()


async def test_a_closed_pair_says_so() -> None:
    async with no_socket_left():
        with peer() as server:
            pair = await open_datagrams(LOOPBACK, server.getsockname()[1])
            await pair.close()
            with anyio.fail_after(5), pytest.raises(NetworkError) as raised:
                await pair.receive()
    assert raised.value.reason is Reason.RESET


async def test_a_place_that_no_route_leads_to() -> None:
    async with no_socket_left():
        with pytest.raises(NetworkError) as raised:
            await open_datagrams("255.255.255.255", 53)
    assert raised.value.reason in {Reason.PERMISSION, Reason.NETWORK}
