"""A storm of ``POST /-/reload`` while the configuration changes, also into what is none."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.exporter import HANG_GUARD_SECONDS, Exporter
from tests.fuzz.requests import Response, read_responses
from tests.servers import LOOPBACK
from watchbill.domain.units import SECOND, Instant, to_instant

ASK = b"POST /-/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
AT_ONCE = 60
"""Fewer than the exporter's connections, so that every ask has an answer."""
UNCHANGED = "web"
EVERY_BAD = 5


@dataclass
class Storm:
    """``loads``: how often the file was in fact read, as the log tells. ``slots``: those of the unchanged check in the storm."""

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
    before, missed, begun = _loads(running), _of_unchanged(running)["missed"], _now()
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
    ended = _now()
    running.until("the unchanged check goes on", lambda: _slots_since(running, ended))
    look_at_slots(running, found, begun=begun, missed=missed)
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


def look_at_slots(running: Exporter, found: Storm, *, begun: Instant, missed: int) -> None:
    """The unchanged check, whose interval is a second, ran each second of the storm, which began then.

    But where all the machine stood still (a gap ``stall``): such slots are ``missed``, and counted.
    """
    slots, of_it = _slots_since(running, begun), _of_unchanged(running)
    found.slots = len(slots)
    found.missed = of_it["missed"] - missed
    lost = (slots[-1] - begun) // SECOND + 1 - len(slots) if slots else 0
    if lost > found.missed or of_it["unaccounted"] or len(set(slots)) != len(slots):
        found.problems.append(
            f"{lost} slots of the unchanged check have no row, {found.missed} are told as missed, {of_it['unaccounted']} unaccounted for"
        )


def _slots_since(running: Exporter, begun: Instant) -> list[Instant]:
    rows = running.request(f"/api/v1/checks/{UNCHANGED}/results?limit=10000").json()["results"]
    slots = (to_instant(datetime.fromisoformat(row["slot"])) for row in rows if row["trigger"] == "schedule")
    return sorted(slot for slot in slots if slot >= begun)


def _of_unchanged(running: Exporter) -> Any:
    checks = running.request("/api/v1/report").json()["checks"]
    [row] = [row for row in checks if row["check_id"] == UNCHANGED]
    return row


def _now() -> Instant:
    return round(time.time() * SECOND)
