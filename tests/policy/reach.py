"""No check connects to a link-local or metadata address that it does not declare, however it is written or led there.

Tried in a network of our own where every address answers and every packet is seen (:mod:`tests.policy.namespace`).
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.policy import namespace
from tests.proof import Claim

HANG_GUARD_SECONDS = 280
SHOWN = 10
WHAT = "No check reaches a metadata or link-local address"


def prove(folder: Path, *, full: bool, seed: int = 1) -> list[Claim]:
    if reason := namespace.why_not():
        return [Claim(WHAT, "nothing", reason, "0 packets", holds=False)]
    heard, tried = _inside(folder, "hear", seed), _inside(folder, "all" if full else "some", seed)
    claims = [
        Claim(
            "What watches for forbidden connections hears every way out",
            f"{heard['controls']} probes to addresses of nobody, and to guarded ones with allow_link_local",
            _told(heard["deaf"], "unheard"),
            "0 unheard",
            holds=heard["controls"] > 0 and not heard["deaf"],
        ),
        Claim(
            WHAT,
            f"{tried['spellings']} spellings, names and redirects by {tried['routes']} ways: {tried['tried']:,} probes",
            _told(tried["leaks"], "led there", seed),
            "0 led there",
            holds=tried["spellings"] >= 80 and tried["refused_when_probed"] > 0 and not tried["leaks"],
        ),
    ]
    return [*claims, _by_the_exporter(folder, seed)] if full else claims


def _by_the_exporter(folder: Path, seed: int) -> Claim:
    found = _inside(folder, "exporter", seed)
    problems = [*found["leaks"], *found["deaf"]]
    return Claim(
        "Nor does the exporter as it runs, but for one check that declares it",
        f"{found['tried']:,} checks",
        _told(problems, "led there, or unheard", seed),
        "0 led there",
        holds=found["tried"] > 0 and not problems,
    )


def _inside(folder: Path, what: str, seed: int) -> dict[str, Any]:
    own = folder / what
    own.mkdir(parents=True, exist_ok=True)
    line = namespace.command("tests.policy.inside", str(own), what, "--seed", str(seed))
    done = subprocess.run(line, capture_output=True, text=True, timeout=HANG_GUARD_SECONDS, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{what}: ended with {done.returncode}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _told(problems: list[str], what: str, seed: int = 1) -> str:
    if not problems:
        return f"0 {what}"
    again = f"again: python -m tests.policy reach --seed {seed}"
    return "\n".join([f"{len(problems)} {what} ({again})", *problems[:SHOWN]])
