"""CPU seconds per 1,000 probes at equal rates: Watchbill's whole path against the peer's probe alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median

from bench.declared import CHECKS, named
from bench.machine import Usage
from bench.ours import observe, slots, watchbill
from bench.peer import Peer, open_peer
from bench.tables import Table, megabytes, ms
from bench.targets import Targets

GOALS = {"http": 0.5, "tcp": 0.5, "icmp": 0.5, "dns": 0.6, "https": 1.0}


DISTURBED = 0.1
"""Where others took more than this share of the core, a line says so."""


@dataclass(frozen=True)
class Run:
    """One window of one side. Where not every probe was made and succeeded in time, its cost stands for those that were made.

    ``late`` is its own measure of lateness: Watchbill's delay of a probe's start, the peer's time to an answer.
    """

    held: bool
    usage: Usage
    cpu_per_1000: float
    late_p50_seconds: float
    late_p99_seconds: float
    rss_bytes: int


@dataclass(frozen=True)
class Side:
    """All windows of one side, as medians."""

    runs: Sequence[Run]

    @property
    def held(self) -> bool:
        return all(run.held for run in self.runs)

    @property
    def cpu(self) -> float:
        return median(run.cpu_per_1000 for run in self.runs)

    @property
    def late(self) -> tuple[float, float]:
        return (
            median(run.late_p50_seconds for run in self.runs),
            median(run.late_p99_seconds for run in self.runs),
        )

    @property
    def rss_bytes(self) -> float:
        return median(run.rss_bytes for run in self.runs)


@dataclass(frozen=True)
class Cell:
    """One type at one rate."""

    kind: str
    rate: int
    ours: Side
    theirs: Side | None

    @property
    def ratio(self) -> float | None:
        return self.ours.cpu / self.theirs.cpu if self.theirs else None


def compare(
    folder: Path,
    targets: Targets,
    *,
    kinds: Sequence[str],
    rates: Sequence[int],
    runs: int,
    seconds: float | None = None,
) -> list[Cell]:
    """Windows of 5 s, of 8 s below 500 a second, unless told otherwise."""
    return [
        compared(
            folder / f"{kind}-{rate}", targets, kind,
            rate=rate, runs=runs, seconds=seconds or (5 if rate >= 500 else 8),
        )
        for kind, rate in product(kinds, rates)
    ]  # fmt: skip


def compared(folder: Path, targets: Targets, kind: str, *, rate: int, runs: int, seconds: float) -> Cell:
    """As many runs of each side as asked for, in turn. The peer stays as it is between its runs, idle."""
    ours: list[Run] = []
    theirs: list[Run] = []
    with open_peer(folder / "peer", targets) as peer:
        for number in range(runs):
            ours.append(of_ours(folder / str(number), targets, kind, rate=rate, seconds=seconds))
            line = f"{kind:>5} {rate:>5}/s  run {number + 1}  watchbill {marked(ours[-1])}"
            if peer is not None:
                theirs.append(of_peer(peer, kind, rate=rate, seconds=seconds))
                line += f"  blackbox {marked(theirs[-1])}"
                line += f"  ratio {ours[-1].cpu_per_1000 / theirs[-1].cpu_per_1000:.2f}"
            print(line + disturbed([*ours[-1:], *theirs[-1:]]), flush=True)
    return Cell(kind, rate, Side(ours), Side(theirs) if theirs else None)


def of_ours(folder: Path, targets: Targets, kind: str, *, rate: int, seconds: float) -> Run:
    with watchbill(folder, named([CHECKS[kind](targets)] * rate)) as running:
        window = observe(running, warm_up=2, seconds=seconds)
        running.stop()
    seen = slots(running.storage, window)
    passed = window.ended - window.begun
    held = seen.outcomes.keys() == {"success"} and abs(seen.successes - rate * passed) <= rate * 0.05 + 1
    if not held:
        print(
            f"{kind} at {rate}/s: of {rate * passed:.0f} slots {seen.outcomes}, gaps {seen.gaps}", flush=True
        )
    return Run(
        held=held,
        usage=window.usage,
        cpu_per_1000=window.usage.cpu_seconds / max(seen.probes, 1) * 1000,
        late_p50_seconds=seen.delay_p50_seconds,
        late_p99_seconds=seen.delay_p99_seconds,
        rss_bytes=window.rss_bytes,
    )


def at_rest(folder: Path, targets: Targets, *, seconds: float) -> str:
    """What the exporter uses that no probe causes, as a sentence."""
    with watchbill(folder, named([CHECKS["tcp"](targets)])) as running:
        usage = observe(running, warm_up=2, seconds=seconds).usage
        running.stop()
    share = usage.cpu_seconds / usage.seconds
    return (
        f"With a single check Watchbill uses {share:.1%} of the core (pulse, a commit a second, scrapes): "
        f"{share * 10:.2f} s per 1,000 probes at 100 a second are that."
    )


def of_peer(peer: Peer, kind: str, *, rate: int, seconds: float) -> Run:
    driven = peer.drive(kind, rate=rate, seconds=seconds)
    held = not driven.refused and driven.successes == driven.probes and driven.latency_p99_seconds < 0.5
    if not held:
        print(f"{kind} at {rate}/s: {driven}", flush=True)
    return Run(
        held=held,
        usage=driven.usage,
        cpu_per_1000=driven.usage.cpu_seconds / max(driven.probes, 1) * 1000,
        late_p50_seconds=driven.latency_p50_seconds,
        late_p99_seconds=driven.latency_p99_seconds,
        rss_bytes=driven.rss_bytes,
    )


def disturbed(runs: Sequence[Run]) -> str:
    foreign = max(run.usage.foreign for run in runs)
    return f"  (others took {foreign:.0%} of the core)" if foreign > DISTURBED else ""


def marked(side: Run | Side) -> str:
    cpu = side.cpu_per_1000 if isinstance(side, Run) else side.cpu
    return f"{cpu:.3f}" if side.held else f"{cpu:.3f} (rate not held)"


def table(cells: Sequence[Cell], *notes: str) -> Table:
    heads = (
        "probe", "a second", "Watchbill, CPU s per 1,000", "blackbox, CPU s per 1,000", "ratio", "wanted at most",
        "Watchbill delay p50/p99, ms", "blackbox answer p50/p99, ms", "Watchbill RSS, MB", "blackbox RSS, MB",
    )  # fmt: skip
    return Table("ratios", heads, [row(cell) for cell in cells], notes)


def row(cell: Cell) -> Sequence[str]:
    ours, theirs = cell.ours, cell.theirs
    return (
        cell.kind.upper(),
        f"{cell.rate:,}",
        marked(ours),
        marked(theirs) if theirs else "",
        f"{cell.ratio:.2f}" if cell.ratio is not None else "",
        f"{GOALS[cell.kind]:.2f}",
        " / ".join(map(ms, ours.late)),
        " / ".join(map(ms, theirs.late)) if theirs else "",
        megabytes(ours.rss_bytes),
        megabytes(theirs.rss_bytes) if theirs else "",
    )
