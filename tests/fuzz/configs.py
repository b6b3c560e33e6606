"""Hostile configurations: whatever they hold, the answer is a configuration that runs, or errors with their places.

Each is loaded as the product's worker loads it, in a process that may crash, and judged: no traceback, no crash, two
seconds of CPU (in full also by the clock on the wall), 200 MB, every error at a place in a file with what to do, no secret
in any. What is accepted must stand a plan against itself, a scrape, and being sent, shown and loaded without its secrets.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from tests.fuzz.bombs import BOMBS, HEAVY
from tests.fuzz.case import Case, case_in
from tests.fuzz.children import Child, Request, judged
from tests.fuzz.grammar import case_of
from tests.fuzz.shrink import smaller
from tests.fuzz.stream import Stream
from tests.fuzz.stream import run as stream
from tests.fuzz.verdict import MOST_BYTES, MOST_SECONDS, Verdict
from tests.proof import Claim
from watchbill.config.fields import CHECK_MODELS, keys_of, model_in
from watchbill.domain.config import Limits, MetricsOptions, StorageOptions
from watchbill.domain.discovery import Discovery
from watchbill.domain.fields import Service
from watchbill.domain.objectives import Slo

FAILURES = Path(__file__).parents[2] / "build/fuzz"
MOST_SHRUNK = 5
CRASHES = frozenset({"crash", "hang"})
OF_ERRORS = frozenset(
    {"says nothing to do", "names no key", "secret", "unprintable", "no such file", "not a place"}
)


_NONE = Verdict("")


@dataclass
class Findings:
    tried: int = 0
    accepted: int = 0
    errors: int = 0
    slowest: Verdict = _NONE
    latest: Verdict = _NONE
    largest: Verdict = _NONE
    sizes: list[int] = field(default_factory=list)
    late: list[Verdict] = field(default_factory=list)
    """Those that took longer than they may by the clock on the wall, which may be others' doing."""
    failed: list[Verdict] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    near: list[tuple[str, bool]] = field(default_factory=list)
    """Those that an exporter may be given here, and whether they are valid."""

    def add(self, verdict: Verdict) -> None:
        self.tried += 1
        self.accepted += verdict.accepted
        self.errors += len(verdict.problems)
        self.slowest = max(self.slowest, verdict, key=lambda each: each.seconds)
        self.latest = max(self.latest, verdict, key=lambda each: each.wall_seconds)
        self.largest = max(self.largest, verdict, key=lambda each: each.memory_bytes)
        self.sizes.append(verdict.size_bytes)
        if verdict.wall_seconds > MOST_SECONDS:
            self.late.append(verdict)
        self.reached |= verdict.reached
        if verdict.complaints:
            self.failed.append(verdict)
        elif verdict.near:
            self.near.append((verdict.name, verdict.accepted))

    def count(self, *, of: frozenset[str] | None = None, but: frozenset[str] = frozenset()) -> int:
        return sum(
            bool((verdict.kinds & of if of is not None else verdict.kinds) - but) for verdict in self.failed
        )

    def costs(self) -> str:
        before = self.largest.held_bytes >> 20
        return (
            f"slowest {self.slowest.seconds:.2f} s of CPU and {self.latest.wall_seconds:.2f} s by the clock, "
            f"largest {self.largest.memory_bytes >> 20} MB, {before} of them the judge's own"
        )

    def spread(self) -> str:
        """How large the files were."""
        sizes = sorted(self.sizes)
        over = sum(size > 100_000 for size in sizes)
        return f"half of them under {sizes[len(sizes) // 2] / 1e3:.1f} KB, {over} over 100 KB, the largest {sizes[-1] / 1e6:.2f} MB"


def run(requests: Iterable[Request], folder: Path, *, jobs: int) -> Findings:
    found = Findings()
    for verdict in judged(requests, folder, jobs=jobs):
        found.add(verdict)
    return found


def every_key() -> Iterator[str]:
    """All that can be declared, as ``Model.key``."""
    seen: set[type[BaseModel]] = set()
    todo: list[type[BaseModel]] = [
        *CHECK_MODELS.values(),
        Service,
        Slo,
        Discovery,
        StorageOptions,
        MetricsOptions,
        Limits,
    ]
    while todo:
        model = todo.pop()
        if model in seen:
            continue
        seen.add(model)
        for key, annotation in keys_of(model).items():
            yield f"{model.__name__}.{key}"
            child = model_in(annotation)
            todo += [child] if child is not None else []


def explained(verdicts: Iterable[Verdict], folder: Path) -> Iterator[str]:
    """What failed, the first few of them made smaller and kept, each with the command that runs it again."""
    child = Child(folder / "shrinking")
    try:
        for number, verdict in enumerate(verdicts):
            for complaint in verdict.complaints[:3]:
                yield f"{verdict.name}: {complaint.kind}: {complaint.text}"
            if number < MOST_SHRUNK:
                yield f"  again: python -m tests.fuzz configs {_again(verdict, child)}"
    finally:
        child.close()


def _again(verdict: Verdict, child: Child) -> str:
    if verdict.name in BOMBS:
        return f"--bomb '{verdict.name}'"
    seed, _, number = verdict.name.partition(":")
    if not number.isdigit():
        return f"--file {verdict.name}"
    kind = verdict.complaints[0].kind
    small = smaller(case_of(int(seed), int(number)), lambda case: kind in child.ask(case).kinds)
    kept = FAILURES / f"{seed}-{number}"
    small.write(kept)
    return f"--file {kept.relative_to(Path.cwd()) if kept.is_relative_to(Path.cwd()) else kept}"


QUICK_STEP = 3
"""A quick look takes every third bomb; each takes a process of its own some hundred milliseconds."""


def prove(folder: Path, *, full: bool) -> list[Claim]:
    """10,000 mutated configurations and the bombs, then 300 of them to a running exporter; or a few of each."""
    seed, count, streamed = 1, 10_000 if full else 200, 300 if full else 8
    mutated = run(((seed, number) for number in range(count)), folder / "mutated", jobs=2)
    planted = list(BOMBS) if full else [name for name in BOMBS if name not in HEAVY][::QUICK_STEP]
    bombs = run(planted, folder / "bombs", jobs=2)
    chosen = _chosen(mutated, streamed)
    given = stream(folder / "stream", chosen)
    for line in explained([*mutated.failed, *bombs.failed], folder):
        print(line, file=sys.stderr)
    return [
        _loaded(
            "Mutated configurations",
            f"{count:,} (seed {seed}), {mutated.accepted:,} of them valid; {mutated.spread()}",
            mutated,
            least=count,
        ),
        _loaded("Bombs made by hand", f"{len(planted)}", bombs, least=len(planted)),
        *([_in_time(mutated, bombs, folder)] if full else []),
        _told(mutated, bombs),
        _runs(mutated, full=full),
        _streamed(given, least=len(chosen), full=full),
    ]


def _chosen(found: Findings, most: int) -> list[tuple[Case, bool]]:
    """As many valid ones as others, in turn."""
    by_validity = {
        valid: [name for name, accepted in sorted(found.near) if accepted is valid] for valid in (True, False)
    }
    pairs = zip(by_validity[False], by_validity[True], strict=False)
    names = [(name, valid) for bad, good in pairs for name, valid in ((bad, False), (good, True))]
    return [(case_of(*map(int, name.split(":"))), valid) for name, valid in names[:most]]


def _loaded(what: str, tried: str, found: Findings, *, least: int) -> Claim:
    tracebacks = found.count(but=CRASHES | OF_ERRORS)
    crashes = found.count(of=CRASHES)
    return Claim(
        what,
        tried,
        f"{tracebacks} tracebacks or wrong answers, {crashes} crashes; {found.costs()}",
        f"0, 0; {MOST_SECONDS:.0f} s of CPU and {MOST_BYTES >> 20} MB at most",
        tracebacks + crashes == 0 and found.tried >= least and found.slowest.seconds > 0,
    )


def _in_time(mutated: Findings, bombs: Findings, folder: Path) -> Claim:
    """Judged two at a time on a machine that others use too, one that was late may have had to wait: it is tried alone."""
    late = [*mutated.late, *bombs.late]
    alone = run((_request(verdict) for verdict in late), folder / "late", jobs=1)
    once = [each for each in (mutated.latest, bombs.latest) if each.wall_seconds <= MOST_SECONDS]
    slowest = max((each.wall_seconds for each in [*once, alone.latest]), default=0.0)
    return Claim(
        "Each is loaded in time by the clock on the wall too",
        f"{mutated.tried + bombs.tried:,}; {len(late)} took longer beside others and were tried again alone",
        f"{len(alone.late)} late, the slowest {slowest:.2f} s"
        + "".join(f"; {each.name}" for each in alone.late[:5]),
        f"0; {MOST_SECONDS:.0f} s",
        not alone.late and mutated.latest.wall_seconds > 0,
    )


def _request(verdict: Verdict) -> Request:
    seed, _, number = verdict.name.partition(":")
    return (int(seed), int(number)) if number.isdigit() else verdict.name


def _told(*findings: Findings) -> Claim:
    errors, wrong = (
        sum(found.errors for found in findings),
        sum(found.count(of=OF_ERRORS) for found in findings),
    )
    return Claim(
        "Errors with their place, the key and what to do, without a secret",
        f"{errors:,} errors of refused configurations",
        f"{wrong} configurations with an error that lacks one",
        "0",
        wrong == 0 and errors > 100,
    )


def _runs(found: Findings, *, full: bool) -> Claim:
    keys = set(every_key())
    missing = sorted(keys - found.reached)
    left = f"; not reached: {', '.join(missing[:5])}" if missing else ""
    return Claim(
        "Accepted configurations stand a plan against themselves, a scrape, and being sent, shown and loaded without secrets",
        f"{found.accepted:,}, which declare {len(keys) - len(missing)} of {len(keys)} keys{left}",
        f"{found.count(but=OF_ERRORS | CRASHES)} that do not",
        "0, and every key of every type",
        found.count(but=OF_ERRORS | CRASHES) == 0
        and found.accepted >= (1000 if full else 30)
        and (not full or not missing),
    )


def _streamed(given: Stream, *, least: int, full: bool) -> Claim:
    for problem in given.problems:
        print(problem, file=sys.stderr)
    return Claim(
        "A running exporter is given them; what ran before runs on",
        f"{given.tried} reloads ({given.refused} refused, {given.taken} taken, {given.clashed} valid but not beside the checks before; {given.by_signal} by signal)",
        f"{len(given.problems)} problems; {given.slots:,} slots of the checks before counted, {given.memory_bytes >> 20} MB",
        "0; the exporter alive, without a traceback, the metric 0 after each refused one",
        not given.problems
        and given.tried == least
        and given.refused >= (100 if full else 3)
        and given.taken >= 1
        and given.by_signal >= 1
        and given.slots > 0,
    )


def main(arguments: Sequence[str]) -> int:
    """Judge, say what was found and how to run it again; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz configs", description=__doc__)
    parser.add_argument("--n", type=int, default=1000, help="how many mutated configurations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", type=int, default=0, dest="first", help="the number of the first")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--file", type=Path, help="this file or folder alone, again")
    parser.add_argument("--bomb", choices=[*BOMBS, "all"], metavar="NAME", help="this bomb alone, or all")
    asked = parser.parse_args(arguments)
    requests: Iterable[Request] = (
        (asked.seed, number) for number in range(asked.first, asked.first + asked.n)
    )
    if asked.file:
        requests = [case_in(asked.file)]
    elif asked.bomb:
        requests = BOMBS if asked.bomb == "all" else [asked.bomb]
    with tempfile.TemporaryDirectory() as folder:
        found = run(requests, Path(folder), jobs=asked.jobs)
        for line in explained(found.failed, Path(folder)):
            print(line)
    kinds = Counter(kind for verdict in found.failed for kind in verdict.kinds)
    print(
        f"{found.tried:,} tried, {found.accepted:,} accepted, {len(found.failed)} failed {dict(kinds) or ''}; {found.costs()}"
    )
    return 1 if found.failed or not found.tried else 0
