"""``python -m tests.runtime.inside FOLDER ANSWER ROUNDS SEED [FAULT...]``: faults one after the other, within namespaces.

In each round every fault lasts for a while of its own, begins at any instant, and is given back. The answer is JSON, one
record a fault and round.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from tests.runtime import world as worlds
from tests.runtime.world import (
    CABLE,
    OURS,
    World,
    cable,
    hold_main_thread,
    open_world,
    probed_since,
    release_main_thread,
    successes,
)


@dataclass(frozen=True)
class Fault:
    """``lasts``: from and to, in seconds. ``reasons``: what results say while it lasts, or a gap if it is long."""

    begin: Callable[[World], object]
    end: Callable[[World], object]
    lasts: tuple[float, float]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """Instants in microseconds since the epoch; ``down``: samples that spoke against a target, in so many ``scrapes``."""

    fault: str
    begun: int
    ended: int
    recovered: int
    down: list[str]
    scrapes: int


def _limit_descriptors(more: int) -> Callable[[World], None]:
    """So many more than now it may open, or none at all; meanwhile it is asked to reload, and for pages."""

    def limit(world: World) -> None:
        descriptors = {int(entry.name) for entry in Path(f"/proc/{world.pid}/fd").iterdir()}
        free = (number for number in range(10_000) if number not in descriptors)
        soft = next(islice(free, more, None)) if more else 0
        _, hard = resource.prlimit(world.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(world.pid, resource.RLIMIT_NOFILE, (soft, hard))
        world.running.hang_up()
        worlds.knock(world)

    return limit


def _free_descriptors(world: World) -> None:
    _, hard = resource.prlimit(world.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(world.pid, resource.RLIMIT_NOFILE, (hard, hard))


def _kill_name_server(world: World) -> None:
    world.name_server.kill()
    world.name_server.wait()


FAULTS: dict[str, Fault] = {
    "no descriptor left": Fault(_limit_descriptors(0), _free_descriptors, (1.0, 6.0), ("descriptors",)),
    "few descriptors left": Fault(_limit_descriptors(2), _free_descriptors, (1.0, 6.0), ("descriptors",)),
    "a silent name server": Fault(
        lambda world: world.name_server.send_signal(signal.SIGSTOP),
        lambda world: world.name_server.send_signal(signal.SIGCONT),
        (1.2, 6.0),
        ("resolver",),
    ),
    "a deaf name server": Fault(
        lambda world: world.name_server.send_signal(signal.SIGUSR1),
        lambda world: world.name_server.send_signal(signal.SIGUSR2),
        (1.2, 6.0),
        ("resolver",),
    ),
    "a name server without a way out": Fault(
        lambda world: world.name_server.send_signal(signal.SIGHUP),
        lambda world: world.name_server.send_signal(signal.SIGUSR2),
        (1.2, 6.0),
        ("resolver",),
    ),
    "no name server": Fault(_kill_name_server, World.start_name_server, (1.2, 6.0), ("resolver",)),
    "no link": Fault(
        cable("link", "set", CABLE, "down"), cable("link", "set", CABLE, "up"), (1.2, 6.0), ("network",)
    ),
    "no address": Fault(
        cable("addr", "del", f"{OURS}/24", "dev", CABLE),
        cable("addr", "add", f"{OURS}/24", "dev", CABLE),
        (1.2, 6.0),
        ("network",),
    ),
    "a short stop of the process": Fault(
        lambda world: world.running.process.send_signal(signal.SIGSTOP),
        lambda world: world.running.process.send_signal(signal.SIGCONT),
        (0.7, 1.7),
        ("stall",),
    ),
    "a long stop of the process": Fault(
        lambda world: world.running.process.send_signal(signal.SIGSTOP),
        lambda world: world.running.process.send_signal(signal.SIGCONT),
        (2.2, 6.0),
        ("stall",),
    ),
    "a short stall of the event loop": Fault(hold_main_thread, release_main_thread, (0.7, 1.7), ("stall",)),
    "a long stall of the event loop": Fault(hold_main_thread, release_main_thread, (2.2, 6.0), ("stall",)),
}  # fmt: skip


def main(folder: str, answer: str, rounds: str, seed: str, *only: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # nobody else ends what stands in the namespaces
    chance, records = random.Random(int(seed)), []
    with open_world(Path(folder)) as world:
        for number in range(int(rounds)):
            for name, fault in FAULTS.items():
                if not only or name in only:
                    least, most = fault.lasts
                    lasts = chance.uniform(least, most) if int(rounds) > 1 else least
                    records.append(_suffer(world, name, fault, lasts, chance))
                    if records[-1].down:
                        print(f"round {number}, {name}: {records[-1].down[:3]}", file=sys.stderr)
        ended = _now()
        world.running.until("what was due has ended", lambda: probed_since(world.running, ended))
        code = world.running.stop()
        told = {"code": code, "checks": len(world.checks), "records": [asdict(each) for each in records]}
    Path(answer).write_text(json.dumps(told))


def _suffer(world: World, name: str, fault: Fault, lasts: float, chance: random.Random) -> Record:
    time.sleep(chance.uniform(0, 0.5))
    earlier, _ = world.watcher.taken()
    begun = _now()
    fault.begin(world)
    time.sleep(lasts)
    fault.end(world)
    ended = _now()
    before = world.running.until("it answers", lambda: successes(world.running))
    world.running.until(f"all is well after {name}", lambda: world.recovered(before))
    recovered = _now()
    loaded = _loaded_at(world)
    world.running.hang_up()
    world.running.until("it reloads", lambda: _loaded_at(world) > loaded)
    down, scrapes = world.watcher.taken()
    return Record(name, begun, ended, recovered, earlier + down, scrapes)


def _loaded_at(world: World) -> float:
    return world.running.total("watchbill_config_last_reload_success_timestamp_seconds")


def _now() -> int:
    return round(time.time() * 1e6)


if __name__ == "__main__":
    main(*sys.argv[1:])
