"""Write the generated files anew, or with --check say which are not current."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import alerts  # noqa: E402 - found through the path above
from watchbill.client import DEFAULT_SERVER  # noqa: E402 - beside it
from watchbill.config import schema  # noqa: E402
from watchbill.generate import dashboards  # noqa: E402


def generated() -> dict[Path, str]:
    """Every generated file and what it must hold."""
    files = {ROOT / "schemas" / "checks.schema.json": schema.render()}
    files |= {ROOT / path: text for path, text in alerts.render().items()}
    for name, board in dashboards.dashboards(watchbill_url=DEFAULT_SERVER).items():
        files[ROOT / "deploy" / "grafana" / "dashboards" / f"{name}.json"] = dashboards.text(board)
    return files


def main() -> int:
    stale = [
        path
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not current; run make generate\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generated()[path], encoding="utf-8")
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
