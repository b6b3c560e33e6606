"""What an attack by every misbehaving target must not do, and what it did."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from tests.hostile.attack import Findings, Pace, Run, attack, delays, judged_seconds, percentiles
from tests.hostile.outside import SCRAPED_EVERY_SECONDS
from tests.proof import Claim
from watchbill.workers.judge import MOST_KEPT_BYTES, MOST_MEMORY_BYTES
from watchbill.workers.judging import MOST_WORKERS

LATE_SECONDS = 0.1
SEEN_LATE_SECONDS = {True: 0.1, False: 2.0}
UNSEEN_SHARE = {True: 0.0, False: 0.05}
"""In full and quick."""
GROWN_BYTES = {True: 16 << 20, False: 24 << 20}
"""In full and quick: a machine that does other work has more bodies under way at once."""
MOVED_MILLISECONDS = {True: (5.0, 25.0), False: (500.0, 2000.0)}
"""Of the ordinary checks' p50 and p99 delay, in full and quick: what a run without attackers differs by from the next on two
cores, and where other tests share them."""
JUDGED_SECONDS, FEWEST_JUDGED = {True: 0.5, False: 2.0}, {True: 400, False: 20}
"""Half a second is what the largest of the small bodies may take."""
FAILED_SHARE = {True: 0.0, False: 0.05}
STARVED = {"stall", "overlap", "overload", "timeout", "connect_timeout"}
"""What a quick run may show as well where other tests take the time."""
FEWEST_SERVERS, FEWEST_ROUNDS = 60, 2
FULL = Pace(every=1, interval=10, refused=3, calm=30, attack=130, after=15)
QUICK = Pace(every=3, interval=3, refused=1, calm=3, attack=8.5, after=1)


def prove(folder: Path, *, full: bool) -> list[Claim]:
    found = attack(folder, FULL if full else QUICK)
    return [
        _reasons(found, strict=full),
        _in_time(found, strict=full),
        _seen_in_time(found, strict=full),
        _memory(found, strict=full),
        _memory_of_workers(found),
        _delay(found, strict=full),
        _judged(found, strict=full),
        _traces(found),
    ]


def _by_target(found: Findings) -> dict[str, list[Run]]:
    runs = defaultdict(list)
    for run in found.attacked:
        runs[run.check_id].append(run)
    return runs


def _tried(found: Findings) -> str:
    rounds = min(len(_by_target(found)[target.check_id]) for target in found.hostile)
    return f"{len(found.hostile)} hostile servers at once, {rounds} rounds"


def _enough(found: Findings) -> bool:
    runs = _by_target(found)
    met = [target for target in found.hostile if len(runs[target.check_id]) >= FEWEST_ROUNDS]
    return len(met) == len(found.hostile) >= FEWEST_SERVERS


def _reasons(found: Findings, *, strict: bool) -> Claim:
    """Unless ``strict``, other tests may have taken the time of half of them, in every round."""
    runs, wrong, starved = _by_target(found), [], []
    for target in found.hostile:
        others = Counter(
            run.reason or run.outcome for run in runs[target.check_id] if run.reason != target.reason
        )
        said = f"{target.name}: {dict(others)}, not {target.reason or 'success'}"
        if others and (strict or others.keys() - STARVED):
            wrong.append(said)
        elif others.total() == len(runs[target.check_id]):
            starved.append(said)
    if len(starved) > len(found.hostile) / 2:
        wrong += starved
    reasons = Counter(target.reason or "success" for target in found.hostile)
    return Claim(
        "each hostile check ends with its own reason",
        _tried(found),
        _listed(wrong) or "all: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()),
        "the reason that its table has",
        _enough(found) and not wrong,
    )


def _in_time(found: Findings, *, strict: bool) -> Claim:
    """The probe, without the judging of what it received. Unless ``strict``, for how long our loop stood still is taken
    off: a machine that runs other tests takes time away."""
    late, worst = _past(found, lambda run: run.duration - (0.0 if strict else run.stalled), LATE_SECONDS)
    return Claim(
        "each hostile check ends within its timeout, by the exporter's own account",
        _tried(found),
        _listed(late) or f"at most {worst * 1000:+.1f} ms past it",
        f"timeout + {LATE_SECONDS * 1000:.0f} ms",
        _enough(found) and not late,
    )


def _seen_in_time(found: Findings, *, strict: bool) -> Claim:
    """From the slot, which follows from the check's id, until a scrape has the result: by another process's clock, and with
    all that the exporter does before and after it counts."""
    limit = SEEN_LATE_SECONDS[strict]
    late, worst = _past(found, lambda run: None if run.seen is None else run.seen[1], limit)
    _, latest = _past(found, lambda run: None if run.seen is None else run.seen[0], limit)
    runs = [run for runs in _by_target(found).values() for run in runs if run.started]
    unseen = sum(run.seen is None for run in runs)
    return Claim(
        "each hostile check is seen to end within its timeout, from outside",
        f"{_tried(found)}, {len(runs):,} results, {found.scrapes.number:,} scrapes {SCRAPED_EVERY_SECONDS:g} s apart",
        f"{_listed(late) or f'the last scrape without a result began {worst * 1000:+.1f} ms after slot and timeout'}; "
        f"the first with it was there after {latest * 1000:+.1f} ms at most; {unseen} in none",
        f"every scrape that begins {limit * 1000:.0f} ms after slot and timeout has it; "
        f"{UNSEEN_SHARE[strict]:.0%} in none",
        _enough(found) and not late and unseen <= UNSEEN_SHARE[strict] * len(runs),
    )


def _past(found: Findings, took: Callable[[Run], float | None], limit: float) -> tuple[list[str], float]:
    """Who took longer than its timeout and ``limit``, and by how much anybody passed its timeout."""
    past: dict[str, float] = {}
    runs = _by_target(found)
    for target in found.hostile:
        for run in runs[target.check_id]:
            if (seconds := took(run)) is not None:
                over = seconds - found.timeouts[target.check_id]
                past[target.name] = max(over, past.get(target.name, over))
    late = [f"{name} {over * 1000:.0f} ms" for name, over in past.items() if over > limit]
    return late, max(past.values(), default=0.0)


def _memory(found: Findings, *, strict: bool) -> Claim:
    """The most under attack against the most before, with the same checks."""
    before = found.quiet.own_peak
    most = found.strained.own_peak - before
    return Claim(
        "hostile targets fill no memory of the exporter",
        f"{_tried(found)}, {len(found.strained.own)} looks and the kernel's account of the most",
        f"{_mebibytes(most)} at most, from {before / (1 << 20):.0f} MB at most while the same checks were refused (usually "
        f"{median(found.quiet.own) / (1 << 20):.0f}); {_mebibytes(median(found.relieved.own) - before)} after it",
        f"less than {GROWN_BYTES[strict] >> 20} MB more at any moment than before the attack",
        _enough(found) and most < GROWN_BYTES[strict],
    )


def _memory_of_workers(found: Findings) -> Claim:
    """They are started when the first body is to be judged, and hold what that takes; one that keeps much is replaced."""
    third = max(1, len(found.strained.workers) // 3)
    first, last = (median(part) for part in (found.strained.workers[:third], found.strained.workers[-third:]))
    return Claim(
        "bodies that take much memory take it from workers",
        _tried(found),
        f"usually {first / (1 << 20):.0f} MB together in the first third, {last / (1 << 20):.0f} MB in the last; at most "
        f"{max(found.strained.workers) / (1 << 20):.0f} MB together and {found.strained.worker_peak / (1 << 20):.0f} MB of one",
        f"usually {MOST_WORKERS * MOST_KEPT_BYTES >> 20} MB together; {MOST_MEMORY_BYTES >> 20} MB of one",
        _enough(found)
        and 0 < last <= MOST_WORKERS * MOST_KEPT_BYTES
        and found.strained.worker_peak <= MOST_MEMORY_BYTES,
    )


def _mebibytes(size: float) -> str:
    return f"{size / (1 << 20):+.1f} MB"


def _delay(found: Findings, *, strict: bool) -> Claim:
    calm, attacked, after = (percentiles(delays(runs)) for runs in (found.calm, found.attacked, found.after))
    moved = [mine - its for mine, its in zip(attacked, calm, strict=True)]
    shown = [f"p50 {p50:.1f}, p99 {p99:.1f} ms" for p50, p99 in (calm, attacked, after)]
    good = [run for run in found.attacked if run.check_id.startswith("ordinary-")]
    failed = sum(run.outcome != "success" for run in good)
    limits = MOVED_MILLISECONDS[strict]
    return Claim(
        "the other checks are as good and as punctual as before",
        f"{len(good)} slots of ordinary checks among them, at the same rate without and with attackers",
        f"delay before {shown[0]}; under attack {shown[1]}; after {shown[2]}; {failed} did not succeed",
        f"p50 within {limits[0]:g} ms and p99 within {limits[1]:g} ms of before; {FAILED_SHARE[strict]:.0%}",
        _enough(found)
        and len(good) > 100
        and failed <= FAILED_SHARE[strict] * len(good)
        and all(each <= most for each, most in zip(moved, limits, strict=True)),
    )


def _judged(found: Findings, *, strict: bool) -> Claim:
    """Of the ordinary checks whose answers go through the same workers."""
    waits = [judged_seconds(runs) for runs in (found.calm, found.attacked, found.after)]
    shown = [f"p50 {median(each) * 1000:.0f}, at most {max(each) * 1000:.0f} ms" for each in waits]
    limit = JUDGED_SECONDS[strict]
    return Claim(
        "the other checks' answers are judged as soon as before",
        f"{len(waits[1])} answers that are judged by the workers that judge hostile ones",
        f"from the probe's end until the last scrape without its result began before {shown[0]}; under attack {shown[1]}; "
        f"after {shown[2]}",
        f"at most {limit:g} s",
        _enough(found) and len(waits[1]) >= FEWEST_JUDGED[strict] and max(waits[1]) <= limit,
    )


def _traces(found: Findings) -> Claim:
    bad = [line[:300] for line in found.log if not _is_calm(line)]
    before, after = found.descriptors
    return Claim(
        "hostile targets leave nothing behind",
        _tried(found),
        _listed(bad)
        or f"{len(found.log)} log lines, none above warning; {before} descriptors before, {after} after",
        "no traceback, nothing above warning, descriptors level, an orderly end",
        _enough(found) and bool(found.log) and not bad and 0 < after <= before and found.ended == 0,
    )


def _is_calm(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return entry["level"] in {"debug", "info", "warning"} and "exception" not in entry


def _listed(problems: Sequence[str]) -> str:
    return "; ".join(problems[:8]) + (f" and {len(problems) - 8} more" if len(problems) > 8 else "")
