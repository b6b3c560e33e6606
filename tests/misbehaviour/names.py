"""Name servers that lie, loop and overflow; and names that lead where nobody should go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.dns_server import (
    Script,
    broken,
    dns_server,
    rcode,
    records,
    truncated_over_udp,
)
from tests.misbehaviour.rows import Misbehaviour, Open
from tests.servers import LOOPBACK
from watchbill.domain.results import Reason

NAME = "shop.test"
PROTOCOL, DNS = Reason.PROTOCOL, Reason.DNS
LARGE = records("TXT", *(f'"{number:03} {"x" * 240}"' for number in range(240)))
"""Nearly 64 KB, as large as DNS allows."""
MANY = records("A", *(f"10.0.{number // 250}.{number % 250}" for number in range(1000)))
TOO_MANY = records("A", *(f"10.0.{number // 250}.{number % 250}" for number in range(1025)))
LOOP = records("A", cnames=[(NAME, "a.test"), ("a.test", "b.test"), ("b.test", "a.test")])
LONG_WAY = records(
    "A", "192.0.2.1", cnames=[(NAME, "c0.test"), *((f"c{n}.test", f"c{n + 1}.test") for n in range(30))]
)


def answering(script: Script, record: str = "A", **declared: Any) -> Open:
    """Asked by a dns check."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with dns_server() as server:
            server.default = script
            place = f"{LOOPBACK}:{server.port}"
            yield {"name": NAME, "record": record, "server": place, "timeout": "10s", **declared}

    return opened


def leading(script: Script, **declared: Any) -> Open:
    """Asked for the name of an http check's target."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[dict[str, Any]]:
        async with dns_server() as server:
            server.default = script
            resolver = f"{LOOPBACK}:{server.port}"
            yield {
                "url": f"http://{NAME}:9/",
                "ip_family": 4,
                "resolver": resolver,
                "timeout": "10s",
                **declared,
            }

    return opened


def cut(packet: bytes) -> bytes:
    return packet[:-13]


def pointing_at_itself(packet: bytes) -> bytes:
    return packet[:-16] + b"\xc0" + bytes([len(packet) - 16]) + packet[-14:]


def counting_too_many(packet: bytes) -> bytes:
    return packet[:6] + b"\0\xff" + packet[8:]


TWO = records("A", "192.0.2.1", "192.0.2.2")
NAMES: tuple[Misbehaviour, ...] = (
    Misbehaviour("dns: no such name", Reason.ANSWER, "NXDOMAIN", answering(rcode("NXDOMAIN", soa=True)), "dns"),
    Misbehaviour("dns: a server that fails", Reason.ANSWER, "SERVFAIL", answering(rcode("SERVFAIL")), "dns"),
    Misbehaviour("dns: a server that refuses", Reason.ANSWER, "REFUSED", answering(rcode("REFUSED")), "dns"),
    Misbehaviour("dns: half a record", PROTOCOL, "malformed", answering(broken(cut, TWO)), "dns"),
    Misbehaviour("dns: a name that points at itself", PROTOCOL, "malformed", answering(broken(pointing_at_itself, TWO)), "dns"),
    Misbehaviour("dns: more records than there are", PROTOCOL, "malformed", answering(broken(counting_too_many, TWO)), "dns"),
    Misbehaviour("dns: 64 KB over TCP", None, "", answering(truncated_over_udp(LARGE), "TXT"), "dns"),
    Misbehaviour("dns: 64 KB and none of it", Reason.ANSWER, "", answering(truncated_over_udp(LARGE), "TXT", expect={"answers": {"any": {"contains": "nowhere"}}}), "dns"),
    Misbehaviour("dns: a thousand answers", None, "", answering(truncated_over_udp(MANY)), "dns"),
    Misbehaviour("dns: more than a thousand answers", Reason.TOO_LARGE, "at most 1024", answering(truncated_over_udp(TOO_MANY)), "dns"),
    Misbehaviour("dns: aliases in a ring", Reason.ANSWER, "", answering(LOOP, expect={"answers": {"any": {"equals": "192.0.2.1"}}}), "dns"),
    Misbehaviour("resolver: no such name", DNS, "", leading(rcode("NXDOMAIN"))),
    Misbehaviour("resolver: aliases in a ring", DNS, "", leading(LOOP)),
    Misbehaviour("resolver: thirty aliases", DNS, "", leading(LONG_WAY)),
    Misbehaviour("resolver: no address", DNS, "", leading(records("TXT", '"x"'))),
    Misbehaviour("resolver: a malformed answer", DNS, "", leading(broken(cut, TWO))),
)  # fmt: skip
