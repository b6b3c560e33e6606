"""Power cuts: traced runs of the real store, replayed as what a disk may hold at any instant of them.

Each image is opened as the exporter opens its file, without an operator, and must hold all that was acknowledged before
the power went. From some of the images another traced run goes on, so that the mending itself is cut short as well. In some runs the
disk once fails to sync what was written, which the kernel then takes for written.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import anyio

from tests.crash import numbered, traced
from tests.crash.disk import MANNERS, Disk, Image
from tests.crash.promises import Promises, seen_by_watchbill
from tests.crash.traced import Deed, Said, Written
from tests.proof import Claim
from tests.storage.events import START
from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch
from watchbill.storage.duckdb import open_duckdb

NAME = "history.duckdb"
LIVES = (
    ("--schema", "1", "--groups", "0", "--end", "close"),  # a file of an older version, to be migrated
    ("--groups", "45", "--end", "kill", "--log-bytes", "40000", "--prune-every", "20", "--keep", "15"),
    ("--groups", "30", "--end", "close", "--log-bytes", "60000"),
    ("--groups", "25", "--end", "kill"),
    (
        "--groups",
        "40",
        "--end",
        "close",
        "--log-bytes",
        "40000",
        "--pace-seconds",
        "0.001",
        "--prune-every",
        "30",
    ),
)
SECOND_LIVES = (
    ("--groups", "20", "--end", "kill", "--log-bytes", "40000", "--prune-every", "15", "--keep", "8"),
    ("--groups", "10", "--end", "close"),
)
FAILING_LIFE = ("--groups", "25", "--end", "close", "--log-bytes", "20000", "--pace-seconds", "0.001")
FULL_IMAGES, FULL_CHAINS = 1_400, 8
FULL_DISTINCT = 1_000
QUICK_IMAGES, QUICK_DISTINCT = 30, 20
WRITES_ON_EVERY = 3
DRAWN_AGAIN = 4


@dataclass
class Trace:
    """What was done to a disk that held ``files``, after ``said`` had been promised by earlier lives."""

    files: Image
    said: list[str]
    deeds: list[Deed]


@dataclass
class Findings:
    """What the images showed; ``problems`` must stay empty."""

    seed: int = 0
    traces: int = 0
    images: int = 0
    digests: set[bytes] = field(default_factory=set)
    """Of what the images held: one that is drawn twice counts once."""
    uncertain: int = 0
    """Images of an instant at which something had not been synced."""
    acknowledged: int = 0
    """Images of an instant at which something had been acknowledged."""
    promised: int = 0
    """Batches acknowledged in the traced runs."""
    written_on: int = 0
    manners: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    problems: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.images += other.images
        self.digests |= other.digests
        self.uncertain += other.uncertain
        self.acknowledged += other.acknowledged
        self.written_on += other.written_on
        self.problems += other.problems
        for manner, count in other.manners.items():
            self.manners[manner] += count

    def summary(self) -> str:
        manners = ", ".join(f"{count} {manner}" for manner, count in sorted(self.manners.items()))
        return (
            f"{self.images} images, {len(self.digests)} of them distinct, of {self.traces} traced runs with "
            f"{self.promised} batches acknowledged ({manners}); "
            f"{self.uncertain} with something not synced, {self.acknowledged} with something to lose, "
            f"{self.written_on} written on; {len(self.problems)} problems"
        )


def run(
    folder: Path,
    images: int,
    *,
    seed: int,
    chains: int | None = None,
    lives: Sequence[Sequence[str]] = LIVES,
) -> Findings:
    """Trace, cut the power at ``images`` instants, look. ``chains`` of the cuts are gone on from."""
    found = Findings(seed)
    if reason := traced.unavailable():
        found.problems.append(f"nothing was tried: {reason}")
        return found
    chance = random.Random(seed)
    chains = images // 150 if chains is None else chains
    first = _trace(folder / "first", lives, {}, [])
    traces = [first]
    for number in range(chains):
        at = chance.choice(_instants(first)[0])
        disk, said = _followed(first, at)
        image = disk.image(chance.choice(MANNERS), chance)
        traces.append(_trace(folder / f"chain-{number}", SECOND_LIVES, image, said))
    for number in range(chains):
        failing = f"fdatasync,fsync:error=EIO:when={chance.randint(1, 60)}"
        traces.append(_trace(folder / f"failing-{number}", [FAILING_LIFE], {}, [], inject=failing))
    found.traces = len(traces)
    found.promised = sum(Promises().hear_all(_lines(trace.deeds)).batches for trace in traces)
    share = images // 2 // (len(traces) - 1) if chains else 0
    for number, trace in enumerate(traces):
        much = share if number else images - share * (len(traces) - 1)
        _judge_by_two(folder, trace, much, f"{seed}.{number}", found)
    if not found.promised or not found.acknowledged or not found.uncertain:
        found.problems.append("nothing was acknowledged or nothing was at stake, so nothing was proven")
    return found


# --- tracing ------------------------------------------------------------------------------------------


def _trace(
    folder: Path, lives: Sequence[Sequence[str]], files: Image, said: list[str], *, inject: str | None = None
) -> Trace:
    """Let the lives follow one another, and check the model against what they have left."""
    folder.mkdir(parents=True)
    _lay_out(folder, files)
    deeds: list[Deed] = []
    disk = Disk(files)
    for life in lives:
        command = [sys.executable, "-m", "tests.crash.writing", str(folder / NAME), *life]
        for deed in traced.run(command, folder, folder.with_suffix(".trace"), inject=inject):
            deeds.append(deed)
            disk.do(deed)
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    held = disk.now()
    assert left == held, (
        f"the trace misses something: {[n for n in left | held if left.get(n) != held.get(n)]}"
    )
    assert deeds, f"nothing was traced; see {folder.with_suffix('.log')}"
    return Trace(files, list(said), deeds)


def _lay_out(folder: Path, image: Image) -> None:
    for name, content in image.items():
        (folder / name).write_bytes(content)


def _lines(deeds: Sequence[Deed]) -> list[str]:
    return [deed.line for deed in deeds if isinstance(deed, Said)]


def _followed(trace: Trace, until: int) -> tuple[Disk, list[str]]:
    disk = Disk(trace.files)
    for deed in trace.deeds[:until]:
        disk.do(deed)
    return disk, [*trace.said, *_lines(trace.deeds[:until])]


def _instants(trace: Trace) -> list[list[int]]:
    """The instants after each deed, by what the deed was: the rare ones are as interesting as the many."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for number, deed in enumerate(trace.deeds, 1):
        kind = type(deed).__name__
        if isinstance(deed, Written):
            kind = f"written {deed.name} {deed.name == NAME and (deed.at or 0) >= 3 * 4096}"
        kinds[kind].append(number)
    return list(kinds.values())


# --- judging ------------------------------------------------------------------------------------------


def _judge_by_two(folder: Path, trace: Trace, images: int, seed: str, found: Findings) -> None:
    """Two processes, each of which follows the whole trace and judges every other image."""
    kept = folder / "trace.pickle"
    kept.write_bytes(pickle.dumps(trace))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(2) as pool:
        shares = [(kept, images - images // 2, f"{seed}.0"), (kept, images // 2, f"{seed}.1")]
        for part in pool.starmap(_judge, shares, chunksize=1):
            found.add(part)


def _judge(kept: Path, images: int, seed: str) -> Findings:
    trace: Trace = pickle.loads(kept.read_bytes())
    chance = random.Random(seed)
    kinds = _instants(trace)
    instants = sorted(chance.choice(chance.choice(kinds)) for _ in range(images))
    found = Findings()
    disk, promises, done = Disk(trace.files), Promises().hear_all(trace.said), 0
    for instant in instants:
        for deed in trace.deeds[done:instant]:
            disk.do(deed)
            if isinstance(deed, Said):
                promises.hear(deed.line)
        done = instant
        manner, image = _drawn(disk, chance, found.digests)
        writes_on = found.images % WRITES_ON_EVERY == 0
        found.images += 1
        found.digests.add(_digest(image))
        found.manners[manner] += 1
        found.uncertain += disk.waiting > 0
        found.acknowledged += promises.newest >= 0
        found.written_on += writes_on
        what = f"seed {seed}, after deed {instant} of {len(trace.deeds)} ({_told(trace.deeds[instant - 1])}), {manner}"
        found.problems += [f"{what}: {problem}" for problem in judge(image, promises, writes_on=writes_on)]
    return found


def _drawn(disk: Disk, chance: random.Random, known: set[bytes]) -> tuple[str, Image]:
    """An image of this instant, with how it was made; one that is not ``known`` yet, if that is easily had."""
    for _ in range(DRAWN_AGAIN):
        manner = chance.choice(MANNERS)
        image = disk.image(manner, chance)
        if _digest(image) not in known:
            break
    return manner, image


def judge(image: Image, promises: Promises, *, writes_on: bool) -> list[str]:
    """Open what is left; what is wrong with it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        _lay_out(folder, image)
        try:
            seen = anyio.run(seen_by_watchbill, folder / NAME)
            problems = promises.broken_by(seen)
            if writes_on and not problems:
                anyio.run(_write_one, folder / NAME)
                again = anyio.run(seen_by_watchbill, folder / NAME)
                problems += [f"written on, then: {problem}" for problem in again.problems]
                if again.newest != seen.newest + 1:
                    problems.append(f"written on to {seen.newest + 1}, found {again.newest}")
        except StorageError as error:
            problems = [f"it does not open: {error}"]
    return problems


async def _write_one(path: Path) -> None:
    store = await open_duckdb(str(path), location="")
    try:
        opening = await store.opening("")
        number = numbered.number_at(opening.accounted_until or START)
        declared = numbered.registrations(numbered.instant(number), number)
        await store.commit(Batch((*declared, *numbered.group(number)), numbered.instant(number + 1) + 1))
    finally:
        await store.close()


def _digest(image: Image) -> bytes:
    """Of all that is told apart by an opening: who held the lock is not."""
    whole = blake2b(digest_size=16)
    for name, content in sorted(image.items()):
        if not name.endswith(".lock"):
            whole.update(f"{name} {len(content)} ".encode())
            whole.update(content)
    return whole.digest()


def _told(deed: Deed) -> str:
    return (
        repr(deed)
        if not isinstance(deed, Written)
        else f"Written({deed.name}, {len(deed.data)} at {deed.at})"
    )


def prove(folder: Path, *, full: bool) -> list[Claim]:
    if full:
        found = run(folder, FULL_IMAGES, seed=1, chains=FULL_CHAINS)
    else:
        found = run(folder, QUICK_IMAGES, seed=1, chains=0, lives=LIVES[:3])
    return [
        Claim(
            "The power goes at any instant: what was acknowledged is there, and the file opens by itself",
            found.summary().rpartition(";")[0],
            "; ".join(found.problems[:3])
            or "all open without an operator, 0 acknowledged results lost or torn",
            "all open without an operator, 0 acknowledged results lost or torn",
            not found.problems and len(found.digests) >= (FULL_DISTINCT if full else QUICK_DISTINCT),
        )
    ]
