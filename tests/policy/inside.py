"""``python -m tests.policy.inside FOLDER WHAT``, within a namespace: tries every way and prints what was seen, as JSON.

``some`` and ``all`` run the probers, ``exporter`` the whole. ``hear`` is the other way round: every route must be seen to reach an address that is nobody's secret, and those that
are guarded where a check declares that it means them. A watch that is deaf proves nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from pydantic import ValidationError

from tests.dns_server import DnsServer, Script, dns_server, records
from tests.exporter import exporter
from tests.policy.namespace import End, Watch, furnish
from tests.policy.routes import TIMEOUT, Case, Places, cases, for_host, rebound
from tests.policy.spellings import IN_HOSTS, REBINDING, Name, names
from tests.proxies import http_proxy, socks_proxy
from tests.servers import Caller, path_of, response
from watchbill.clock import Timeline
from watchbill.domain.checks import Check, parse_check
from watchbill.net import open_network
from watchbill.probes import Kept, make_execute, probers
from watchbill.testing import judge_inline

NAMESERVER = "169.254.20.10"
"""Link-local, as of many a cluster's: what this machine's administrator chose is asked."""
ANYBODY = ("192.0.2.7", "2001:db8::7", "anybody.test")
ALLOWED = (
    "169.254.169.254",
    "100.100.100.200",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
)
ALLOWED_ONE = "169.254.77.77"
PORTS = (80, 443, 853, 1080, 3128)
AT_ONCE = 50


@dataclass
class Found:
    """``controls`` are (route, host) that must be heard, ``deaf`` those that were not."""

    tried: int = 0
    spellings: int = 0
    routes: int = 0
    refused_when_declared: int = 0
    refused_when_probed: int = 0
    leaks: list[str] = field(default_factory=list)
    controls: int = 0
    deaf: list[str] = field(default_factory=list)


async def main(folder: Path, what: str, seed: int) -> Found:
    furnish(folder, nameserver=NAMESERVER, hosts=["127.0.0.1 localhost", f"169.254.169.254 {IN_HOSTS}"])
    found = Found()
    async with _honest(folder) as places, _Prober() as prober:
        trial = _Trial(prober, Watch(but=[NAMESERVER]), found)
        if what == "hear":
            await trial.hear(places)
        elif what == "exporter":
            await trial.run_exporter(folder, cases(places))
        else:
            chosen = cases(places) if what == "all" else _some(cases(places), random.Random(seed))
            await trial.attack([*chosen, *rebound(places)])
    return found


def _some(all_cases: list[Case], randomness: random.Random) -> list[Case]:
    """Each spelling and each route several times, without trying them all together."""
    by_spelling: dict[str, list[Case]] = {}
    for case in all_cases:
        by_spelling.setdefault(case.spelling, []).append(case)
    chosen = [case for each in by_spelling.values() for case in randomness.sample(each, min(5, len(each)))]
    return chosen + [case for case in all_cases if case.spelling in ("169.254.169.254", "to-0.evil.test")]


class _Trial:
    def __init__(self, prober: _Prober, watch: Watch, found: Found) -> None:
        self._prober, self._watch, self._found = prober, watch, found

    async def hear(self, places: Places) -> None:
        for host in ANYBODY:
            for case in for_host(places, host, literal=True):
                if host == "anybody.test" and ("resolver" in case.route or "proxy" in case.declared):
                    continue
                await self._control(case, {})
        for host in ALLOWED:
            for case in for_host(places, host, literal=True):
                if "redirect" not in case.route:
                    await self._control(case, {"allow_link_local": True})

    async def _control(self, case: Case, more: dict[str, Any]) -> None:
        mapped = ip_address(case.spelling).version == 6 if ":" in case.spelling else False
        if "from a source address" in case.route and mapped:
            return  # of another family
        self._found.controls += 1
        said = await self._prober.probe(Case(case.route, case.spelling, {**case.declared, **more}))
        if not self._watch.take():
            self._found.deaf.append(f"{case.route} -> {case.spelling}: {said}")

    async def attack(self, chosen: Sequence[Case]) -> None:
        found = self._found
        found.tried, found.spellings = len(chosen), len({case.spelling for case in chosen})
        found.routes = len({case.route for case in chosen})
        self._watch.take()
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def try_out(case: Case) -> None:
            async with limiter:
                said = await self._prober.probe(case)
            found.refused_when_declared += said is None
            found.refused_when_probed += said is not None

        async with anyio.create_task_group() as group:
            for case in chosen:
                group.start_soon(try_out, case)
        if seen := self._watch.take():
            await self._blame(chosen, seen)

    async def run_exporter(self, folder: Path, chosen: Sequence[Case]) -> None:
        """The same by the exporter itself, each check once; one more is allowed to go where it goes."""
        valid = {f"c{number}": case.declared for number, case in enumerate(chosen) if declared(case)}
        allowed = {"type": "tcp", "host": ALLOWED_ONE, "port": 80, "allow_link_local": True}
        checks = {**valid, "allowed": allowed}
        config = folder / "checks.yaml"
        config.write_text(
            json.dumps(
                {"version": 1, "defaults": {"timeout": TIMEOUT, "interval": "1h"}, "checks": checks},
                ensure_ascii=False,
            )
        )
        await anyio.to_thread.run_sync(_run_until_probed, config, folder, len(checks))
        seen = self._watch.take()
        self._found.tried = len(valid)
        self._found.controls = 1
        heard = [end for end in seen if end.address == ALLOWED_ONE]
        self._found.deaf += [] if heard else [f"the exporter -> {ALLOWED_ONE}"]
        self._found.leaks += [f"the exporter reached {end}" for end in seen if end not in heard]

    async def _blame(self, chosen: Sequence[Case], seen: Counter[End]) -> None:
        """One after the other, to say who it was."""
        for case in chosen:
            said = await self._prober.probe(case)
            await anyio.wait_all_tasks_blocked()  # a proxy may be at it still
            if ends := self._watch.take():
                self._found.leaks.append(
                    f"{case.route} -> {case.spelling} reached {', '.join(map(str, ends))} ({said}): {case.declared}"
                )
        if not self._found.leaks:
            self._found.leaks.append(f"packets to {', '.join(map(str, seen))}, though not when tried alone")


def _run_until_probed(config: Path, folder: Path, count: int) -> None:
    with exporter(config, folder / "exporter") as running:

        def probed() -> bool:
            found = running.request("/api/v1/checks").json()["checks"]
            return len(found) == count and all(check["latest"] for check in found)

        running.until("each check is probed", probed)


class _Prober:
    """The probers as the exporter has them, over the real network."""

    async def __aenter__(self) -> _Prober:
        self._stack = AsyncExitStack()
        network = await self._stack.enter_async_context(open_network())
        clock = Timeline(monotonic=time.monotonic, wall=lambda: time.time_ns() // 1000)
        kept = await self._stack.enter_async_context(Kept(clock.now))
        self._execute = make_execute(
            probers(network, clock.now, judge_inline, lambda _: 0, kept),
            clock=clock,
            monotonic=clock.monotonic,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def probe(self, case: Case) -> str | None:
        """What came of it; ``None`` where it cannot even be declared. Twice, as a name may lead elsewhere by then."""
        check = declared(case)
        if check is None:
            return None
        results = [await self._execute(check) for _ in range(2 if case.spelling == REBINDING.name else 1)]
        return "; ".join(f"{result.outcome.value} {result.failures}" for result in results)


def declared(case: Case) -> Check | None:
    try:
        return parse_check({"id": "probed", "timeout": TIMEOUT, **case.declared})
    except ValidationError:
        return None


# --- what is honest -----------------------------------------------------------------------------------


@asynccontextmanager
async def _honest(folder: Path) -> AsyncIterator[Places]:
    socket = str(folder / "home.sock")
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(await asyncio.start_server(_redirect, "0.0.0.0", 0))
        await stack.enter_async_context(await asyncio.start_unix_server(_redirect, socket))
        for port in PORTS:
            await stack.enter_async_context(await asyncio.start_server(_canary, ["0.0.0.0", "::"], port))
        forwards = await stack.enter_async_context(http_proxy())
        socks = await stack.enter_async_context(socks_proxy())
        script(await stack.enter_async_context(dns_server(NAMESERVER, 53)))
        yield Places(home.sockets[0].getsockname()[1], forwards.port, socks.port, socket)


async def _redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Where the path says; anywhere else a page."""
    try:
        request = await Caller(reader, writer).request()
        path = path_of(request).rpartition("/")[2]
        status, _, location = (
            urlsafe_b64decode(path).decode().partition(" ") if len(path) > 8 else ("", "", "")
        )
        if status.isdigit():
            writer.write(
                f"HTTP/1.1 {status} Led\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode()
            )
        else:
            writer.write(response(b"home"))
        await writer.drain()
    except (OSError, EOFError, ValueError):
        pass
    finally:
        writer.close()


async def _canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What must not be reached, and would give away everything."""
    try:
        await reader.read(1)
        writer.write(response(b"credentials"))
        await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def script(server: DnsServer) -> None:
    for name in [*names(), REBINDING, Name("anybody.test", (("192.0.2.7",),))]:
        for record, version in (("A", 4), ("AAAA", 6)):
            turns = [
                tuple(answer for answer in answers if ip_address(answer).version == version)
                for answers in name.answers
            ]
            if any(turns):
                server.scripts[(name.name, record)] = _in_turn(record, turns, name)
            else:
                server.scripts.setdefault((name.name, record), records(record))


def _in_turn(record: str, turns: list[tuple[str, ...]], name: Name) -> Script:
    cnames = [(name.name, name.alias)] if name.alias else []
    asked = 0

    def answer(query: Any, transport: str) -> list[bytes]:
        nonlocal asked
        asked += 1
        return records(record, *turns[min(asked, len(turns)) - 1], cnames=cnames)(query, transport)

    return answer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=["hear", "some", "all", "exporter"])
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what proxies cannot reach is no news
    json.dump(asdict(asyncio.run(main(asked.folder, asked.what, asked.seed))), sys.stdout)
