"""Malformed requests, clients that hold their places, and reload storms against a real exporter.

``python -m tests.fuzz web --n 100000``; ``--seed S --only 1234`` sends one request again and shows what comes back.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.exporter import HANG_GUARD_SECONDS, Exporter, exporter
from tests.fuzz.clients import Answers, Crowd, Sender, crowd
from tests.fuzz.echoes import prove_echoes
from tests.fuzz.requests import request, routes
from tests.fuzz.storms import reload_storm
from tests.proof import Claim
from tests.servers import LOOPBACK
from watchbill.web.server import MOST_CONNECTIONS

SEED = 1
MOST_BUSY = 0.02
FEWEST_SCRAPES = 6
MOST_GROWN = 64 << 20
HELD_BYTES, HELD_SECONDS = 60_000, 1.5
HELD_GROWN = 0.3
CONNECTED_WITHIN_SECONDS = 60.0
SPARE = 4
"""Descriptors that are opened and closed beside connections: a scrape's, a file of the store's, a worker's pipe."""
CONFIG = "version: 1\nservices: {shop: {description: The shop}}\nchecks:\n" + "".join(
    (
        "  web: {type: tcp, service: shop, host: 127.0.0.1, port: 1, interval: 1s, timeout: 500ms}\n",
        "  job: {type: heartbeat, every: 1h, token: s3cret-token, interval: 1s}\n",
        *(f"  c{number}: {{type: tcp, host: 127.0.0.1, port: 1, interval: 1m}}\n" for number in range(100)),
    )
)


def log_problems(running: Exporter) -> list[str]:
    """What a log must not hold, whatever strangers send; a configuration that was refused is an error by design."""
    bad = ("Traceback", '"exception"', '"level": "error"', '"level": "critical"')
    lines = running.log.read_text(errors="replace").splitlines()
    return [line[:500] for line in lines if any(each in line for each in bad) and '"config.' not in line]


def descriptors(running: Exporter) -> int:
    return psutil.Process(running.process.pid).num_fds()


@contextmanager
def level_descriptors(running: Exporter, problems: list[str]) -> Iterator[int]:
    """Nothing that strangers opened stays open."""
    before = descriptors(running)
    yield before
    try:
        running.until("descriptors as before", lambda: descriptors(running) <= before + SPARE, seconds=30)
    except AssertionError:
        problems.append(f"{before} descriptors before, {descriptors(running)} after")


# --- malformed requests -------------------------------------------------------------------------------


def malformed(running: Exporter, n: int, *, seed: int) -> Answers:
    where, answers = routes(), Answers()

    def every() -> Iterator[tuple[str, bytes]]:
        for index in range(n):
            if index == n // 10:
                answers.resident.append(resident(running))
            yield f"python -m tests.fuzz web --seed {seed} --only {index}", request(seed, index, where)

    with level_descriptors(running, answers.problems):
        asyncio.run(Sender(port_of(running)).send_all(every(), answers))
    answers.resident.append(resident(running))
    answers.problems += log_problems(running)
    return answers


def resident(running: Exporter) -> int:
    return int(psutil.Process(running.process.pid).memory_info().rss)


def port_of(running: Exporter) -> int:
    return int(running.url.rpartition(":")[2])


def _claim_of_requests(answers: Answers) -> Claim:
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(answers.statuses.items()))
    answered = sum(answers.statuses.values())
    return Claim(
        "malformed requests end in an answer below 500, under the same policy, and in no traceback",
        f"{answers.sent} requests, {answered} responses",
        "; ".join(answers.problems[:5])
        or f"0 of 5xx beside {answers.busy} of 503 that say when to come again, since history had enough to answer; 0 tracebacks ({statuses})",
        f"0 answers of 5xx beside such a 503 to at most {MOST_BUSY:.0%}, 0 tracebacks, a policy on every response, descriptors level",
        answers.answered > answers.sent / 4 > 0  # nobody waits long, and the machine may be busy
        and answers.statuses[200] > 0
        and answers.busy <= MOST_BUSY * answered
        and not answers.problems,
    )


def _claim_of_memory(answers: Answers) -> Claim:
    begun, ended = answers.resident
    return Claim(
        "what clients sent is not kept",
        f"{answers.sent} requests, the largest of 70 KB; resident memory after a tenth of them, and after all",
        f"{begun >> 20} MB, then {ended >> 20} MB",
        f"less than {MOST_GROWN >> 20} MB more",
        begun > 0 and ended - begun < MOST_GROWN,
    )


def held_requests(running: Exporter, *, rounds: int) -> Claim:
    """Each of the connections is there for longer than a young object is looked at by the garbage collector."""
    places, wire = (
        MOST_CONNECTIONS - 10,
        b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nX: " + b"x" * HELD_BYTES + b"\r\n\r\n",
    )
    answered = 0

    async def hold() -> bool:
        reader, writer = await asyncio.open_connection(LOOPBACK, port_of(running))
        try:
            writer.write(wire)
            async with asyncio.timeout(HANG_GUARD_SECONDS):
                head = await reader.readuntil(b"\r\n")
            await asyncio.sleep(HELD_SECONDS)
            return head.split()[1] == b"200"
        finally:
            writer.transport.abort()

    async def once() -> int:
        return sum(await asyncio.gather(*(hold() for _ in range(places))))

    answered += asyncio.run(once())
    before = resident(running)
    for _ in range(rounds):
        answered += asyncio.run(once())
    grown = resident(running) - before
    sent = rounds * places * len(wire)
    return Claim(
        "a connection that has ended leaves nothing of what it sent",
        f"{places * (rounds + 1)} requests of {len(wire) >> 10} KB, each held for {HELD_SECONDS} s ({sent >> 20} MB in all)",
        f"{answered} answered; {grown / (1 << 20):+.0f} MB of resident memory",
        f"all answered; less than {HELD_GROWN:.0%} of what was sent",
        rounds > 0 and answered == places * (rounds + 1) and grown < HELD_GROWN * sent,
    )


# --- clients that hold their places -------------------------------------------------------------------


@dataclass
class Held:
    scrapes: list[float] = field(default_factory=list)
    most_connections: int = 0
    problems: list[str] = field(default_factory=list)


def held_places(running: Exporter, *, slow: int, stuck: int, seconds: float) -> tuple[Held, Crowd]:
    """Scrape while every place is taken, and again and again."""
    found = Held()

    def scrape(until: float, before: int) -> None:
        while time.monotonic() < until or len(found.scrapes) < FEWEST_SCRAPES:
            begun = time.monotonic()
            try:
                if running.request("/metrics").status != 200:
                    found.problems.append("a scrape was not answered with 200")
            except OSError as error:
                found.problems.append(f"a scrape failed: {error}")
            found.scrapes.append(time.monotonic() - begun)
            found.most_connections = max(found.most_connections, descriptors(running) - before)
            time.sleep(0.05)

    async def run(before: int) -> Crowd:
        async with crowd(port_of(running), slow=slow, stuck=stuck) as people:
            try:
                async with asyncio.timeout(CONNECTED_WITHIN_SECONDS):
                    while people.connected < slow + stuck:
                        await asyncio.sleep(0.05)
            except TimeoutError:
                found.problems.append(f"{people.connected} of {slow + stuck} clients could connect")
                return people
            await asyncio.to_thread(scrape, time.monotonic() + seconds, before)
            return people

    with level_descriptors(running, found.problems) as before:
        people = asyncio.run(run(before))
    found.problems += log_problems(running)
    if found.most_connections > MOST_CONNECTIONS + SPARE:
        found.problems.append(f"{found.most_connections} connections were open at once")
    return found, people


def _claim_of_places(found: Held, people: Crowd, *, slow: int, stuck: int) -> Claim:
    return Claim(
        "slow and stuck clients keep no scrape out, and hold no descriptor for good",
        f"{slow} clients that send a head byte by byte, {stuck} that never read; {people.connected} connections, {people.thrown_out} thrown out",
        "; ".join(found.problems[:5])
        or f"{len(found.scrapes)} scrapes, all answered, slowest {max(found.scrapes) * 1000:.0f} ms; at most {found.most_connections} connections",
        f"every scrape answered, at most {MOST_CONNECTIONS} connections, descriptors level afterwards",
        len(found.scrapes) >= FEWEST_SCRAPES
        and people.connected >= slow + stuck
        and people.thrown_out > 0
        and not found.problems,
    )


# --- the proof ----------------------------------------------------------------------------------------


def prove(folder: Path, *, full: bool) -> list[Claim]:
    config = folder / "checks.yaml"
    config.write_text(CONFIG)
    slow, stuck = (500, 100) if full else (150, 50)
    with exporter(config, folder / "web") as running:
        answers = malformed(running, 100_000 if full else 2_000, seed=SEED)
        claims = [_claim_of_requests(answers), _claim_of_memory(answers)]
        claims += [held_requests(running, rounds=20)] if full else []
        found, people = held_places(running, slow=slow, stuck=stuck, seconds=30 if full else 2)
        claims.append(_claim_of_places(found, people, slow=slow, stuck=stuck))
        claims.append(_claim_of_reloads(running, config, full=full))
    return [*claims, *prove_echoes(folder / "echoes", full=full)]


def _claim_of_reloads(running: Exporter, config: Path, *, full: bool) -> Claim:
    generations, asks = (100, 100) if full else (6, 30)
    found = reload_storm(running, config, generations=generations, asks=asks)
    problems = found.problems + log_problems(running)
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(found.statuses.items()))
    return Claim(
        "a storm of reloads over HTTP loses no slot, and the last configuration wins",
        f"{found.asked} asks over {found.generations} configurations, every fifth of them not valid",
        "; ".join(problems[:5])
        or f"{found.loads} loads, {found.slots} slots of an unchanged check, none lost, {found.missed} missed while the machine stood still ({statuses})",
        "every ask answered, fewer loads than asks, 0 slots lost, the last configuration runs",
        found.slots > 0
        and found.statuses[200] > 0
        and found.statuses[500] > 0
        and found.loads < found.asked / 2
        and not problems,
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz web", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="how many requests")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", type=int, help="send only the request of this number")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "checks.yaml"
        config.write_text(CONFIG)
        with exporter(config, Path(folder)) as running:
            if asked.only is not None:
                return _show(running, asked.seed, asked.only)
            answers = malformed(running, asked.n, seed=asked.seed)
    claim = _claim_of_requests(answers)
    print(claim.tried, claim.found, sep="\n")
    print(*answers.problems, sep="\n", file=sys.stderr)
    return 0 if claim.holds else 1


def _show(running: Exporter, seed: int, index: int) -> int:
    wire, answers = request(seed, index, routes()), Answers()
    print(wire[:4000])
    asyncio.run(Sender(port_of(running)).send_all([(f"request {index}", wire)], answers))
    print(answers, *log_problems(running), sep="\n")
    return 1 if answers.problems else 0
