"""A storm of ``POST /-/reload`` while the configuration changes, also into what is none."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.exporter import HANG_GUARD_SECONDS, Exporter
from tests.fuzz.requests import Response, read_responses
from tests.servers import LOOPBACK
from watchbill.domain.units import SECOND, to_instant

ASK = b"POST /-/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
AT_ONCE = 60
"""Fewer than the exporter's connections, so that every ask has an answer."""
UNCHANGED = "web"
EVERY_BAD = 5


@dataclass
class Storm:
    """``loads``: how often the file was in fact read, as the log tells."""

    asked: int = 0
    generations: int = 0
    loads: int = 0
    slots: int = 0
    missed: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def reload_storm(running: Exporter, config: Path, *, generations: int, asks: int) -> Storm:
    """Each generation is asked for ``asks`` times, and only a bad one is waited for; the last one must run in the end."""
    found = Storm(asked=generations * asks, generations=generations)
    good = config.read_text()
    before = _loads(running)
    asyncio.run(_ask(int(running.url.rpartition(":")[2]), config, good, found, asks))
    _write(config, good, generations)
    running.until(
        "the last reload",
        lambda: running.request("/-/reload", method="POST", seconds=HANG_GUARD_SECONDS).status == 200,
    )
    found.loads = _loads(running) - before
    shop = running.request("/api/v1/config").json()["services"]["shop"]["description"]
    if shop != f"generation {generations}":
        found.problems.append(f"after generation {generations} runs {shop}")
    if bad := {status: count for status, count in found.statuses.items() if status not in (200, 500)}:
        found.problems.append(f"answers by status: {bad}")
    _look_at_slots(running, found)
    return found


async def _ask(port: int, config: Path, good: str, found: Storm, asks: int) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with asyncio.timeout(HANG_GUARD_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(ASK)
                [answer] = read_responses(await reader.read())
            finally:
                writer.transport.abort()
                places.release()
        found.statuses[answer.status] += 1
        if (answer.status == 500) != _refused(answer):
            found.problems.append(f"{answer.status}: {answer.body[:200]!r}")

    async with asyncio.TaskGroup() as group:
        for generation in range(found.generations):
            if bad := generation % EVERY_BAD == 1:
                config.write_text("version: 1\nchecks: {web: {type: tcp, hots: x}}\n")
            else:
                _write(config, good, generation)
            for _ in range(asks):
                await places.acquire()
                group.create_task(one())
            if bad:  # one that nobody waited for might never be read
                for _ in range(AT_ONCE):
                    await places.acquire()
                for _ in range(AT_ONCE):
                    places.release()


def _refused(answer: Response) -> bool:
    return "problems" in json.loads(answer.body)


def _write(config: Path, good: str, generation: int) -> None:
    aside = config.with_suffix(".new")
    aside.write_text(good.replace("The shop", f"generation {generation}"))
    aside.rename(config)


def _loads(running: Exporter) -> int:
    text = running.log.read_text(errors="replace")
    return text.count('"config.reloaded"') + text.count('"config.rejected"')


def _look_at_slots(running: Exporter, found: Storm) -> None:
    """The unchanged check, whose interval is a second, ran each second since its first slot.

    But where all the machine stood still (a gap ``stall``): such slots are ``missed``, and counted.
    """
    answer = running.request(f"/api/v1/checks/{UNCHANGED}/results?limit=10000").json()
    slots = sorted(
        to_instant(datetime.fromisoformat(row["slot"]))
        for row in answer["results"]
        if row["trigger"] == "schedule"
    )
    found.slots = len(slots)
    report = running.request("/api/v1/report").json()["checks"]
    [of_it] = [row for row in report if row["check_id"] == UNCHANGED]
    found.missed = of_it["missed"]
    lost = (slots[-1] - slots[0]) // SECOND + 1 - len(slots) if slots else 0
    if lost > found.missed or of_it["unaccounted"] or len(set(slots)) != len(slots):
        found.problems.append(
            f"{lost} slots of the unchanged check have no row, {found.missed} are told as missed, {of_it['unaccounted']} unaccounted for"
        )
