"""A simulated network. Every target behaves in one way for a while and then in another; all of it is drawn from a seed.

What a target did while a probe ran is known, so that what the probe says of it can be held against the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import anyio

from tests.sim.connections import SimulatedConnection, SimulatedDatagrams
from tests.sim.targets import ECHOES, LIKELY, TROUBLES, Behaviour, Course, Target, Trouble, drawn
from watchbill.domain.reach import IpChoice
from watchbill.domain.results import Reason
from watchbill.ports import Connection, Datagrams, EchoReply, NetworkError


class SimulatedNetwork:
    """A :class:`~watchbill.ports.Network` of targets."""

    def __init__(self, random: Random, now: Callable[[], float], *, targets: int) -> None:
        self._random = random
        self.now = now
        begin = now()
        self.targets = [Target(number, Course([begin], [Behaviour.ANSWERS])) for number in range(targets)]
        self.trouble = Course([begin], [Trouble.NONE])
        self.open_connections = 0
        self._by_address = {target.address: target for target in self.targets}

    def change_target(self) -> str:
        """One target is another way from now on."""
        target, behaviour = self._random.choice(self.targets), drawn(self._random, LIKELY)
        target.course.change(self.now(), behaviour)
        return f"t{target.number}.test {behaviour}"

    def change_trouble(self) -> str:
        trouble = drawn(self._random, TROUBLES)
        self.trouble.change(self.now(), trouble)
        return f"this machine: {trouble}"

    def heal(self) -> str:
        self.trouble.change(self.now(), Trouble.NONE)
        for target in self.targets:
            target.course.change(self.now(), Behaviour.ANSWERS)
        return "every target answers"

    # --- the port -----------------------------------------------------------------------------------

    async def resolve(self, host: str, family: IpChoice | None = None) -> str:
        await anyio.sleep(0.001)
        if self.trouble.present is Trouble.NO_RESOLVER:
            raise NetworkError(Reason.RESOLVER, "no name server answered")
        if not host.endswith(".test"):
            return host
        target = self.targets[int(host[1:].removesuffix(".test"))]
        if target.course.present is Behaviour.NAME_HANGS:
            await anyio.sleep_forever()
        if target.course.present is Behaviour.NO_NAME:
            raise NetworkError(Reason.DNS, f"{host} does not exist")
        return target.address

    async def connect(self, address: str, port: int) -> Connection:
        await anyio.sleep(0.002)
        target = self._reach(address)
        match target.course.present:
            case Behaviour.REFUSES:
                raise NetworkError(Reason.REFUSED, f"{address}:{port} refused the connection")
            case Behaviour.UNREACHABLE:
                raise NetworkError(Reason.UNREACHABLE, f"{address} is unreachable")
            case Behaviour.HANGS:
                await anyio.sleep_forever()
        return SimulatedConnection(self, target)

    async def connect_unix(self, path: str) -> Connection:
        raise NetworkError(Reason.REFUSED, f"nobody listens at {path}")

    def via(self, *, resolver: str | None = None, source: str | None = None) -> SimulatedNetwork:
        return self

    async def open_datagrams(self, address: str, port: int) -> Datagrams:
        return SimulatedDatagrams(self, self._reach(address))

    async def echo(self, address: str, *, timeout_seconds: float) -> EchoReply | None:
        target = self._reach(address)
        seconds = self._seconds(target)
        match target.course.present:
            case Behaviour.UNREACHABLE | Behaviour.REFUSES:
                raise NetworkError(Reason.UNREACHABLE, f"{address} is unreachable")
            case present if present in ECHOES and seconds < timeout_seconds:
                await anyio.sleep(seconds)
                return EchoReply(seconds, 64)
        await anyio.sleep(timeout_seconds)
        return None

    def nameserver(self) -> tuple[str, int]:
        return self.targets[0].address, 53

    def way_lost(self, address: str, source: str | None) -> str | None:
        """A :data:`~watchbill.ports.WayLost`."""
        return "no route" if self.trouble.present is Trouble.NO_ROUTE else None

    # --- for connections ----------------------------------------------------------------------------

    async def answer(self, target: Target) -> Behaviour:
        """What the target does now, once it has had its time."""
        if target.course.present in {Behaviour.SILENT, Behaviour.HANGS}:
            await anyio.sleep_forever()
        await anyio.sleep(self._seconds(target))
        return target.course.present

    def cut(self, data: bytes) -> bytes:
        return data[: self._random.randrange(len(data))]

    def pieces(self, data: bytes) -> list[bytes]:
        """The same in a few pieces, cut anywhere."""
        places = sorted({0, len(data), *(self._random.randrange(len(data)) for _ in range(5))})
        return [data[start:end] for start, end in pairwise(places)]

    def _seconds(self, target: Target) -> float:
        match target.course.present:
            case Behaviour.SLOW:
                return self._random.uniform(0.1, 0.5)
            case Behaviour.LATE:
                return self._random.uniform(0.5, 4)
            case _:
                return self._random.uniform(0.0005, 0.02)

    def _reach(self, address: str) -> Target:
        if self.trouble.present is Trouble.NO_DESCRIPTORS:
            raise NetworkError(Reason.DESCRIPTORS, "too many open files")
        if self.trouble.present is Trouble.NO_ROUTE:
            raise NetworkError(Reason.NETWORK, "this machine has no route")
        return self._by_address[address]
