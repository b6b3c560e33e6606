"""``python -m tests.prove.once MODULE ANSWER [--full]``: one proof in a process of its own.

So a proof that takes its process with it, or leaves threads and memory behind, touches no other.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.prove.sections import load


def main(module: str, answer: str, *rest: str) -> None:
    with tempfile.TemporaryDirectory(prefix="prove-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # programs that drop their privileges work in it too
        claims = load(module)(folder, full="--full" in rest)
    Path(answer).write_text(json.dumps([asdict(claim) for claim in claims]), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
