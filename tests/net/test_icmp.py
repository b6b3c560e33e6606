"""ICMP echo: packets, the choice of a socket, who is believed; and real echoes on loopback."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchbill.domain.reach import IpFamily
from watchbill.domain.results import Reason
from watchbill.net.icmp import Echo
from watchbill.net.icmppackets import (
    Echoed,
    Undelivered,
    echo_request,
    read_ipv4,
    read_message,
    wanted_types,
)
from watchbill.ports import EchoReply, NetworkError

PERMISSION_HELP = (
    "the kernel allows this process no ICMP socket: let sysctl net.ipv4.ping_group_range include its group "
    '(for all: "0 2147483647") or give it the capability CAP_NET_RAW'
)
TOKEN = b"8 bytes!"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


# --- packets ------------------------------------------------------------------------------------------


def one_complement_sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(
    identifier=st.integers(0, 0xFFFF),
    sequence=st.integers(0, 0xFFFF),
    token=st.binary(min_size=8, max_size=8),
)
def test_an_ipv4_request_carries_a_checksum_that_verifies(
    identifier: int, sequence: int, token: bytes
) -> None:
    packet = echo_request(4, identifier, sequence, token)
    assert len(packet) == 64
    assert one_complement_sum(packet) == 0xFFFF
    assert packet[8:16] == token


def ipv4(message: bytes, *, source: str = "192.0.2.1", to: str = "192.0.2.9", ttl: int = 57) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, ttl, 1, 0)
    return header + ip_address(source).packed + ip_address(to).packed + message


def ipv6(message: bytes, *, to: str, following: int = 58) -> bytes:
    return (
        struct.pack("!IHBB", 6 << 28, len(message), following, 64)
        + bytes(16)
        + ip_address(to).packed
        + message
    )


def reply_to(request: bytes, *, kind: int = 0) -> bytes:
    return bytes([kind]) + request[1:]


def error(kind: int, code: int, quoted: bytes) -> bytes:
    return struct.pack("!BBHI", kind, code, 0, 0) + quoted


REQUEST_4 = echo_request(4, 7, 9, TOKEN)
REQUEST_6 = echo_request(6, 7, 9, TOKEN)
TO_4, TO_6 = ip_address("192.0.2.9").packed, ip_address("2001:db8::9").packed


@pytest.mark.parametrize(
    ("packet", "seen"),
    [
        (ipv4(reply_to(REQUEST_4)), Echoed(7, 9, TOKEN, 57)),
        (ipv4(error(3, 0, ipv4(REQUEST_4[:28]))), Undelivered(7, 9, TO_4, "network unreachable")),
        (ipv4(error(3, 1, ipv4(REQUEST_4[:8]))), Undelivered(7, 9, TO_4, "host unreachable")),
        (
            ipv4(error(3, 13, ipv4(REQUEST_4))),
            Undelivered(7, 9, TO_4, "communication administratively prohibited"),
        ),
        (ipv4(error(3, 6, ipv4(REQUEST_4))), Undelivered(7, 9, TO_4, "destination unreachable")),
        (ipv4(error(11, 0, ipv4(REQUEST_4))), Undelivered(7, 9, TO_4, "hop limit exceeded on the way")),
        (ipv4(error(3, 1, ipv4(REQUEST_4[:7]))), None),
        (ipv4(error(3, 1, ipv4(reply_to(REQUEST_4)))), None),
        (ipv4(error(3, 3, ipv4(REQUEST_4)[:9] + b"\x11" + ipv4(REQUEST_4)[10:])), None),
        (ipv4(error(3, 1, b"")), None),
        (ipv4(REQUEST_4), None),
        (ipv4(b"\x0d" + REQUEST_4[1:]), None),
        (ipv4(reply_to(REQUEST_4))[:24], None),
        (b"", None),
    ],
)
def test_an_ipv4_packet_is_read_for_what_it_is(packet: bytes, seen: Echoed | Undelivered | None) -> None:
    assert read_ipv4(packet) == seen


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        (reply_to(REQUEST_6, kind=129), Echoed(7, 9, TOKEN, 61)),
        (
            error(1, 0, ipv6(REQUEST_6, to="2001:db8::9")),
            Undelivered(7, 9, TO_6, "no route to the destination"),
        ),
        (error(1, 3, ipv6(REQUEST_6, to="2001:db8::9")), Undelivered(7, 9, TO_6, "address unreachable")),
        (
            error(3, 0, ipv6(REQUEST_6, to="2001:db8::9")),
            Undelivered(7, 9, TO_6, "hop limit exceeded on the way"),
        ),
        (error(1, 4, ipv6(REQUEST_6, to="2001:db8::9", following=17)), None),
        (error(1, 0, ipv6(REQUEST_6, to="2001:db8::9")[:44]), None),
        (REQUEST_6, None),
        (b"\x81\0\0", None),
    ],
)
def test_an_ipv6_message_is_read_for_what_it_is(message: bytes, seen: Echoed | Undelivered | None) -> None:
    assert read_message(6, message, hop_limit=61) == seen


@given(st.binary(max_size=120))
def test_no_packet_is_too_broken_to_be_read(packet: bytes) -> None:
    read_ipv4(packet)
    read_message(4, packet, hop_limit=None)
    read_message(6, packet, hop_limit=None)


@pytest.mark.parametrize(("family", "passing"), [(4, {0, 3, 11, 12}), (6, {1, 2, 3, 4, 129})])
def test_the_kernel_passes_only_replies_and_errors(family: IpFamily, passing: set[int]) -> None:
    mask = int.from_bytes(wanted_types(family), "little")
    bits = 8 * len(wanted_types(family))
    assert {kind for kind in range(bits) if not mask >> kind & 1} == passing


# --- a kernel to order --------------------------------------------------------------------------------

Delivery = tuple[bytes, list[tuple[int, int, bytes]], str]
Answering = Callable[[bytes, str], list[Delivery]]


def kernel_reply(packet: bytes, to: str) -> list[Delivery]:
    return [(reply_to(packet), [(socket.IPPROTO_IP, 2, struct.pack("=i", 55))], to)]


@dataclass
class FakeSocket:
    """A datagram ICMP socket whose network is a function; ``errors`` fill its error queue."""

    answering: Answering = kernel_reply
    options: list[tuple[int, int]] = field(default_factory=list)
    sending: deque[OSError] = field(default_factory=deque)
    errors: deque[Delivery] = field(default_factory=deque)
    received: deque[Delivery] = field(default_factory=deque)
    dropped: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.near.setblocking(False)
        self.far.setblocking(False)

    def fileno(self) -> int:
        return self.near.fileno()

    def setblocking(self, blocking: bool) -> None: ...

    def setsockopt(self, level: int, name: int, value: object) -> None:
        self.options.append((level, name))

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        return struct.pack("=9I", *[0] * 8, self.dropped)

    def bind(self, address: tuple[str, int]) -> None: ...

    def getsockname(self) -> tuple[str, int]:
        return ("0.0.0.0", 777)

    def sendto(self, packet: bytes, address: tuple[str, int]) -> None:
        if self.sending:
            raise self.sending.popleft()
        self.received.extend(self.answering(packet, address[0]))
        with suppress(BlockingIOError):  # it is readable already
            self.far.send(b"!")

    def recvmsg(self, size: int, ancillary: int, flags: int = 0) -> tuple[bytes, Any, int, tuple[str, int]]:
        queue = self.errors if flags & socket.MSG_ERRQUEUE else self.received
        if not queue:
            if not flags:
                self._drain()
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        packet, control, source = queue.popleft()
        return packet, control, 0, (source, 0)

    def _drain(self) -> None:
        while True:
            try:
                self.near.recv(16)
            except BlockingIOError:
                return

    def close(self) -> None:
        self.closed = True
        self.near.close()
        self.far.close()


def echo_over(fake: FakeSocket) -> Echo:
    return Echo(open_socket=lambda family, kind, protocol: cast("socket.socket", fake))


async def asked(fake: FakeSocket, address: str = "192.0.2.9", *, seconds: float = 0.05) -> EchoReply | None:
    echo = echo_over(fake)
    try:
        return await echo.echo(address, timeout_seconds=seconds)
    finally:
        await echo.aclose()
        assert fake.closed


@pytest.mark.anyio
async def test_a_reply_tells_the_round_trip_and_the_hop_limit() -> None:
    reply = await asked(FakeSocket(), seconds=5)
    assert reply is not None
    assert reply.round_trip_seconds > 0
    assert reply.hop_limit == 55


STRANGERS: dict[str, Answering] = {
    "nobody": lambda packet, to: [],
    "another token": lambda packet, to: [(reply_to(packet[:8] + b"guessed!" + packet[16:]), [], to)],
    "another sequence": lambda packet, to: [
        (reply_to(packet[:7] + bytes([packet[7] ^ 1]) + packet[8:]), [], to)
    ],
    "another address": lambda packet, to: [(reply_to(packet), [], "192.0.2.10")],
    "our own request": lambda packet, to: [(packet, [], to)],
    "a stub": lambda packet, to: [(reply_to(packet)[:11], [], to)],
    "garbage": lambda packet, to: [(b"\0" * 64, [], to), (b"\xff" * 3, [], to)],
}


@pytest.mark.anyio
@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS.keys())
async def test_a_strangers_reply_is_none(stranger: Answering) -> None:
    assert await asked(FakeSocket(stranger)) is None


@pytest.mark.anyio
@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS.keys())
async def test_the_true_reply_is_found_among_strangers(stranger: Answering) -> None:
    fake = FakeSocket(lambda packet, to: stranger(packet, to) + kernel_reply(packet, to))
    reply = await asked(fake, seconds=5)
    assert reply is not None
    assert reply.hop_limit == 55


def extended_error(kind: int, code: int, *, offender: str, origin: int = 2) -> bytes:
    head = struct.pack("=IBBBBII", errno.EHOSTUNREACH, origin, kind, code, 0, 0, 0)
    return head + struct.pack("=HH", socket.AF_INET, 0) + ip_address(offender).packed + bytes(8)


@pytest.mark.anyio
async def test_word_of_a_router_ends_the_wait_with_unreachable() -> None:
    def refuse(packet: bytes, to: str) -> list[Delivery]:
        body = extended_error(3, 1, offender="192.0.2.254")
        fake.errors.append((packet, [(socket.IPPROTO_IP, 11, body)], to))
        return []

    fake = FakeSocket(refuse)
    with pytest.raises(NetworkError) as caught:
        await asked(fake, seconds=5)
    assert (caught.value.reason, caught.value.message) == (
        Reason.UNREACHABLE,
        "192.0.2.9 is unreachable: host unreachable (says 192.0.2.254)",
    )


@pytest.mark.anyio
async def test_an_error_left_behind_by_another_packet_does_not_fail_this_one() -> None:
    fake = FakeSocket(sending=deque([OSError(errno.EHOSTUNREACH, "of another")]))
    assert await asked(fake, seconds=5) is not None


@pytest.mark.anyio
async def test_a_full_send_buffer_is_waited_for_and_is_no_loss() -> None:
    full = [OSError(errno.ENOBUFS, "full"), BlockingIOError(errno.EAGAIN, "full")]
    assert await asked(FakeSocket(sending=deque(full)), seconds=5) is not None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("number", "reason", "message"),
    [
        (
            errno.ENETUNREACH,
            Reason.NETWORK,
            "network is unreachable while sending an echo request to 192.0.2.9",
        ),
        (
            errno.EHOSTUNREACH,
            Reason.UNREACHABLE,
            "no route to host while sending an echo request to 192.0.2.9",
        ),
        (
            errno.EPERM,
            Reason.PERMISSION,
            "operation not permitted while sending an echo request to 192.0.2.9",
        ),
    ],
)
async def test_what_the_kernel_says_to_sending_has_its_reason(
    number: int, reason: Reason, message: str
) -> None:
    with pytest.raises(NetworkError) as caught:
        await asked(FakeSocket(sending=deque(OSError(number, "") for _ in range(3))))
    assert (caught.value.reason, caught.value.message) == (reason, message)


@pytest.mark.anyio
async def test_five_thousand_requests_on_their_way_at_once_find_their_replies_in_any_order() -> None:
    withheld: list[Delivery] = []

    def answer_when_all_have_asked(packet: bytes, to: str) -> list[Delivery]:
        withheld.extend(kernel_reply(packet, to))
        return withheld[::-1] if len(withheld) == 5_000 else []

    echo = echo_over(FakeSocket(answer_when_all_have_asked))
    replies: list[EchoReply | None] = []

    async def one(number: int) -> None:
        replies.append(await echo.echo(f"192.0.2.{number % 8}", timeout_seconds=60))

    async with anyio.create_task_group() as group:
        for number in range(5_000):
            group.start_soon(one, number)
    await echo.aclose()
    assert len(replies) == 5_000
    assert None not in replies


@pytest.mark.anyio
async def test_sequence_numbers_begin_anew_and_pass_over_those_still_awaited() -> None:
    asked_for: list[int] = []

    def note(packet: bytes, to: str) -> list[Delivery]:
        asked_for.append(int.from_bytes(packet[6:8], "big"))
        return [] if len(asked_for) == 1 else kernel_reply(packet, to)

    echo = echo_over(FakeSocket(note))
    async with anyio.create_task_group() as group:
        group.start_soon(partial(echo.echo, "192.0.2.9", timeout_seconds=60))
        await anyio.wait_all_tasks_blocked()
        for _ in range(1 << 16):
            assert await echo.echo("192.0.2.9", timeout_seconds=60) is not None
        group.cancel_scope.cancel()
    await echo.aclose()
    first, *others = asked_for
    assert len(set(others)) == 0xFFFF
    assert first not in others


@pytest.mark.anyio
async def test_a_late_reply_of_an_earlier_round_is_not_the_present_ones() -> None:
    earlier: list[Delivery] = []

    def too_late(packet: bytes, to: str) -> list[Delivery]:
        if not earlier:
            earlier.extend(kernel_reply(packet, to))
            return []
        ((message, control, source),) = earlier
        return [
            (message[:6] + packet[6:8] + message[8:], control, source)
        ]  # the same sequence number, come round

    echo = echo_over(FakeSocket(too_late))
    assert await echo.echo("192.0.2.9", timeout_seconds=0.01) is None
    assert await echo.echo("192.0.2.9", timeout_seconds=0.05) is None
    await echo.aclose()


@pytest.mark.anyio
async def test_what_this_machine_dropped_is_no_loss_of_the_target() -> None:
    fake = FakeSocket(lambda packet, to: [])
    echo = echo_over(fake)
    fake.dropped = 3
    with pytest.raises(NetworkError) as caught:
        await echo.echo("192.0.2.9", timeout_seconds=0.01)
    assert caught.value.reason is Reason.INTERNAL
    assert caught.value.message.endswith("raise sysctl net.core.rmem_max")
    assert await echo.echo("192.0.2.9", timeout_seconds=0.01) is None, "of which nothing was dropped"
    await echo.aclose()


@pytest.mark.anyio
async def test_a_round_trip_ends_when_the_kernel_took_the_reply_in() -> None:
    def stamped(seconds_ago: float) -> Answering:
        def answer(packet: bytes, to: str) -> list[Delivery]:
            arrived = time.time_ns() - int(seconds_ago * 1e9)
            stamp = struct.pack("=qq", arrived // 1_000_000_000, arrived % 1_000_000_000)
            held = time.perf_counter() + 0.05
            while time.perf_counter() < held:
                pass
            return [(reply_to(packet), [(socket.SOL_SOCKET, 35, stamp)], to)]

        return answer

    honest = await asked(FakeSocket(stamped(0)), seconds=5)
    assert honest is not None
    assert honest.round_trip_seconds < 0.05, "which this process spent otherwise"
    for nonsense in (3600, -3600):  # the wall clock was set
        reply = await asked(FakeSocket(stamped(nonsense)), seconds=5)
        assert reply is not None
        assert reply.round_trip_seconds >= 0.05


@pytest.mark.anyio
async def test_closing_ends_those_who_wait() -> None:
    errors: list[NetworkError] = []
    fake = FakeSocket(lambda packet, to: [])
    echo = echo_over(fake)

    async def wait() -> None:
        try:
            await echo.echo("192.0.2.9", timeout_seconds=60)
        except NetworkError as error:
            errors.append(error)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await echo.aclose()
    assert [error.message for error in errors] == ["the ICMP socket was closed"]


# --- the choice of a socket ---------------------------------------------------------------------------


def opening(*failing: int, then: FakeSocket | None = None) -> tuple[Echo, list[int]]:
    """An echo whose sockets fail with these numbers, one after the other; and the kinds that were asked for."""
    kinds: list[int] = []
    numbers = iter(failing)

    def open_socket(family: int, kind: int, protocol: int) -> socket.socket:
        kinds.append(kind)
        number = next(numbers, None)
        if number is not None:
            raise OSError(number, os.strerror(number))
        assert then is not None
        return cast("socket.socket", then)

    return Echo(open_socket=open_socket), kinds


@pytest.mark.anyio
async def test_an_unprivileged_socket_is_taken_first() -> None:
    fake = FakeSocket()
    echo, kinds = opening(then=fake)
    await echo.echo("192.0.2.9", timeout_seconds=5)
    await echo.echo("192.0.2.9", timeout_seconds=5)
    await echo.aclose()
    assert kinds == [socket.SOCK_DGRAM], "one socket for all"


@pytest.mark.anyio
async def test_a_raw_socket_is_taken_where_the_kernel_allows_no_other() -> None:
    fake = FakeSocket(lambda packet, to: [(ipv4(reply_to(packet), ttl=44), [], to)])
    echo, kinds = opening(errno.EACCES, then=fake)
    reply = await echo.echo("192.0.2.9", timeout_seconds=5)
    await echo.aclose()
    assert kinds == [socket.SOCK_DGRAM, socket.SOCK_RAW]
    assert (255, 1) in fake.options, "the kernel filters what is not for us"
    assert reply is not None
    assert reply.hop_limit == 44


@pytest.mark.anyio
async def test_a_raw_socket_hears_of_unreachable_hosts() -> None:
    fake = FakeSocket(lambda packet, to: [(ipv4(error(3, 1, ipv4(packet, to=to))), [], "192.0.2.254")])
    echo, _ = opening(errno.EACCES, then=fake)
    with pytest.raises(
        NetworkError, match=r"192.0.2.9 is unreachable: host unreachable \(says 192.0.2.254\)"
    ):
        await echo.echo("192.0.2.9", timeout_seconds=5)
    await echo.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("numbers", "reason", "message"),
    [
        ((errno.EACCES, errno.EPERM), Reason.PERMISSION, PERMISSION_HELP),
        ((errno.EMFILE,), Reason.DESCRIPTORS, "too many open files while opening an ICMP socket for IPv4"),
        (
            (errno.EAFNOSUPPORT,),
            Reason.NETWORK,
            "address family not supported by protocol while opening an ICMP socket for IPv4",
        ),
    ],
)
async def test_without_a_socket_there_is_one_clear_line(
    numbers: tuple[int, ...], reason: Reason, message: str
) -> None:
    echo, _ = opening(*numbers)
    with pytest.raises(NetworkError) as caught:
        await echo.echo("192.0.2.9", timeout_seconds=5)
    assert (caught.value.reason, caught.value.message) == (reason, message)


@pytest.mark.anyio
async def test_a_permission_that_was_given_later_is_used() -> None:
    echo, _ = opening(errno.EACCES, errno.EPERM, then=FakeSocket())
    with pytest.raises(NetworkError):
        await echo.echo("192.0.2.9", timeout_seconds=5)
    assert await echo.echo("192.0.2.9", timeout_seconds=5) is not None
    await echo.aclose()


# --- the real thing -----------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.usefixtures("kernel_allows_icmp")
@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.8.7", "::1"])
async def test_loopback_answers_within_its_hop_limit(address: str) -> None:
    if ":" in address and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    echo = Echo()
    reply = await echo.echo(address, timeout_seconds=10)
    await echo.aclose()
    assert reply is not None
    assert 0 < reply.round_trip_seconds < 10
    assert reply.hop_limit == 64


@pytest.mark.anyio
@pytest.mark.usefixtures("kernel_allows_icmp")
async def test_five_thousand_requests_through_one_socket_lose_none() -> None:
    echo = Echo()
    addresses = [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(5_000)]
    replies: dict[str, EchoReply | None] = {}

    async def one(address: str) -> None:
        replies[address] = await echo.echo(address, timeout_seconds=20)

    before = len(os.listdir("/proc/self/fd"))
    async with anyio.create_task_group() as group:
        for number, address in enumerate(addresses):
            group.start_soon(one, address)
            if number % 100 == 0:
                await anyio.sleep(0.001)
        descriptors = len(os.listdir("/proc/self/fd")) - before
    await echo.aclose()
    assert descriptors <= 2  # the socket, and what the loop opens for itself when it first watches one
    assert [address for address in addresses if replies[address] is None] == []


@pytest.mark.anyio
@pytest.mark.usefixtures("kernel_allows_icmp")
@pytest.mark.parametrize("places", [5_000, 1])
async def test_five_thousand_real_echoes_at_once_are_all_answered(places: int) -> None:
    echo = Echo()
    replies: list[EchoReply | None] = []

    async def one(number: int) -> None:
        address = ip_address("127.0.0.1") + number % places
        replies.append(await echo.echo(str(address), timeout_seconds=30))

    async with anyio.create_task_group() as group:
        for number in range(5_000):
            group.start_soon(one, number)
    await echo.aclose()
    assert len(replies) == 5_000
    assert None not in replies


UNPRIVILEGED = """
import anyio
from watchbill.net.icmp import Echo

async def main():
    echo = Echo()
    replies = []
    async def one(number):
        replies.append(await echo.echo(f"127.0.{number % 250}.1", timeout_seconds=30))
    async with anyio.create_task_group() as group:
        for number in range(5000):
            group.start_soon(one, number)
    (channel,) = echo._channels.values()
    print("raw" if channel._raw else "datagrams", len(replies), replies.count(None))
    await echo.aclose()

anyio.run(main, backend_options={"use_uvloop": True})
"""


@pytest.mark.elsewhere
def test_an_unprivileged_socket_loses_nothing_either() -> None:
    """In a network of its own, whose group may ping, and without any capability."""
    inside = (
        "ip link set lo up && echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range "
        f"&& exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs {sys.executable} -c '{UNPRIVILEGED}'"
    )
    run = subprocess.run(
        ["unshare", "-n", "sh", "-c", inside], capture_output=True, text=True, timeout=120, check=False
    )
    if run.returncode != 0 and "Traceback" not in run.stderr:
        pytest.skip(f"no network of its own here: {run.stderr.strip()}")
    assert run.stdout == "datagrams 5000 0\n", run.stderr
