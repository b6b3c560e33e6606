"""What an attack by every misbehaving target must not do, and what it did."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.hostile.attack import Findings, Pace, Run, attack, percentiles
from tests.proof import Claim
from watchbill.workers.judge import MOST_KEPT_BYTES
from watchbill.workers.judging import MOST_WORKERS

LATE_SECONDS = 0.1
GROWN_BYTES = 16 << 20
MOVED_MILLISECONDS = {True: (5.0, 25.0), False: (500.0, 2000.0)}
"""Of the ordinary checks' p50 and p99 delay, in full and quick: what a run without attackers differs by from the next on two
cores, and where other tests share them."""
FAILED_SHARE = {True: 0.0, False: 0.05}
STARVED = {"stall", "overlap", "overload", "timeout", "connect_timeout"}
"""What a quick run may show as well where other tests take the time."""
FEWEST_SERVERS, FEWEST_ROUNDS = 60, 2
FULL = Pace(every=1, interval=10, calm=30, warm_up=25, attack=130, after=15)
QUICK = Pace(every=3, interval=3, calm=3, warm_up=3.5, attack=6.5, after=1)


def prove(folder: Path, *, full: bool) -> list[Claim]:
    found = attack(folder, FULL if full else QUICK)
    return [
        _reasons(found, strict=full),
        _in_time(found, strict=full),
        _memory(found),
        _delay(found, strict=full),
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
    """Unless ``strict``, for how long our loop stood still is taken off: a machine that runs other tests takes time away."""
    past: dict[str, float] = {}
    names = {target.check_id: target.name for target in found.hostile}
    for run in found.attacked:
        if run.check_id in names:
            allowance = 0.0 if strict else run.stalled
            over = run.duration - allowance - found.timeouts[run.check_id]
            past[run.check_id] = max(over, past.get(run.check_id, over))
    late = [
        f"{names[check]} {seconds * 1000:.0f} ms" for check, seconds in past.items() if seconds > LATE_SECONDS
    ]
    worst = max(past.values(), default=0.0)
    return Claim(
        "each hostile check ends within its timeout",
        _tried(found),
        _listed(late) or f"at most {worst * 1000:+.1f} ms past it",
        f"timeout + {LATE_SECONDS * 1000:.0f} ms",
        _enough(found) and not late,
    )


def _memory(found: Findings) -> Claim:
    """The exporter at its most against what is usual once every server was met. A worker is replaced when it holds too much
    after a body, so of those only what is usual is bounded."""
    usual = median(own for own, _ in found.warming[len(found.warming) // 2 :])
    most = max(own for own, _ in found.memory) - usual
    third = max(1, len(found.memory) // 3)
    first, last = (
        median(workers for _, workers in part) for part in (found.memory[:third], found.memory[-third:])
    )
    return Claim(
        "hostile targets fill no memory",
        _tried(found),
        f"the exporter at most {_mebibytes(most)} over its usual {usual / (1 << 20):.0f} MB; its workers usually "
        f"{first / (1 << 20):.0f} MB in the first third, {last / (1 << 20):.0f} MB in the last",
        f"the exporter less than {GROWN_BYTES >> 20} MB more than after the first rounds, its workers within their limit",
        _enough(found) and most < GROWN_BYTES and last <= MOST_WORKERS * MOST_KEPT_BYTES,
    )


def _mebibytes(size: float) -> str:
    return f"{size / (1 << 20):+.1f} MB"


def _delay(found: Findings, *, strict: bool) -> Claim:
    calm, attacked, after = (percentiles(runs) for runs in (found.calm, found.attacked, found.after))
    moved = [mine - its for mine, its in zip(attacked, calm, strict=True)]
    shown = [f"p50 {p50:.1f}, p99 {p99:.1f} ms" for p50, p99 in (calm, attacked, after)]
    good = [run for run in found.attacked if run.check_id.startswith("ordinary-")]
    failed = sum(run.outcome != "success" for run in good)
    limits = MOVED_MILLISECONDS[strict]
    return Claim(
        "the other checks are as good and as punctual as before",
        f"{len(good)} probes of ordinary checks among them, at the same rate without and with attackers",
        f"delay before {shown[0]}; under attack {shown[1]}; after {shown[2]}; {failed} failed",
        f"p50 within {limits[0]:g} ms and p99 within {limits[1]:g} ms of before, {FAILED_SHARE[strict]:.0%} fail",
        _enough(found)
        and len(good) > 100
        and failed <= FAILED_SHARE[strict] * len(good)
        and all(each <= most for each, most in zip(moved, limits, strict=True)),
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
