"""Everything that a running exporter and its commands put out, by the name of where it came from."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import psutil
from starlette.routing import Route

from tests.exporter import Exporter, command, environment
from tests.policy.declared import PLANTED_ID
from tests.web.running import bare_application

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
ACCEPTS = ("*/*", "text/html", "text/plain", "application/json", OPEN_METRICS)
HANG_GUARD_SECONDS = 120


def of_commands(
    commands: Mapping[str, list[str]], environ: Mapping[str, str], folder: Path
) -> dict[str, bytes]:
    """stdout and stderr of each, run beside each other two at a time."""
    found: dict[str, bytes] = {}
    waiting = list(commands.items())
    while waiting:
        now, waiting = waiting[:2], waiting[2:]
        running = [
            subprocess.Popen(
                command(*line),
                env=environment(environ),
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for _, line in now
        ]
        for (name, _), process in zip(now, running, strict=True):
            out, err = process.communicate(timeout=HANG_GUARD_SECONDS)
            found[f"{name}, stdout"], found[f"{name}, stderr"] = out, err
            found[f"{name}, code"] = str(process.returncode).encode()
    return found


def of_web(exporter: Exporter, ids: list[str]) -> dict[str, bytes]:
    """Every route of the table, in every form that can be asked for, and what each says to nonsense."""
    found: dict[str, bytes] = defaultdict(bytes)
    for path, methods in sorted(routes(exporter).items()):
        for method in sorted(methods):
            for number, filled in enumerate(_filled(path, ids)):
                once = number > 0 or "check_id" in path or "reload" in path
                for accept in ACCEPTS[:1] if once else ACCEPTS:
                    answer = exporter.request(
                        filled, method=method, headers={"Accept": accept}, body=_body(method)
                    )
                    head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
                    found[f"{method} {path} ({accept})"] += head.encode() + answer.body
    zipped = exporter.request("/metrics", headers={"Accept-Encoding": "gzip"})
    found["GET /metrics (gzip)"] = gzip.decompress(zipped.body)
    return found


def routes(exporter: Exporter) -> dict[str, set[str]]:
    """From what the exporter says of itself and what its application has."""
    documented = exporter.request("/api/v1/openapi.json").json()["paths"]
    found = {path: {method.upper() for method in methods} for path, methods in documented.items()}
    for route in bare_application().routes:
        if isinstance(route, Route):
            found.setdefault(route.path, set()).update(route.methods or ())
    found["/no-such-page"] = {"GET", "POST"}
    for listed in found.values():
        listed.discard("HEAD")
    return found


def _filled(path: str, ids: list[str]) -> Iterator[str]:
    if "{check_id}" in path:
        for check_id in (PLANTED_ID, *ids, "no-such-check"):
            yield path.replace("{check_id}", check_id)
    else:
        yield path
    if "reload" not in path:
        yield path.replace("{check_id}", PLANTED_ID) + "?since=nonsense&until=nonsense&limit=-1"


def _body(method: str) -> bytes | None:
    return b'{"nonce": "nonsense", "digests": 7}' if method in ("POST", "PUT") else None


@dataclass
class Processes:
    """Command lines of all that run; the environment of those that the exporter starts (its own is its administrator's)."""

    exporter: Exporter
    found: dict[str, bytes] = field(default_factory=dict)

    def look(self) -> bool:
        """Whether one that the exporter started has been seen; they come and go."""
        pid = self.exporter.process.pid
        self.found["command line"] = Path(f"/proc/{pid}/cmdline").read_bytes()
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(OSError):
                environ = Path(f"/proc/{child.pid}/environ").read_bytes()
                line = Path(f"/proc/{child.pid}/cmdline").read_bytes()
                if environ and line != self.found["command line"]:  # else it ended, or is not yet itself
                    self.found[f"command line of worker {child.pid}"] = line
                    self.found[f"environment of worker {child.pid}"] = environ
        return any(name.startswith("environment") for name in self.found)


def of_files(folder: Path) -> dict[str, bytes]:
    """What the exporter left beside its database, byte by byte."""
    return {f"file {path.name}": path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def of_history(database: Path, exported: Path) -> dict[str, bytes]:
    """Every column of every table and view, as it reads and as Parquet (whose text columns are read back)."""
    found: dict[str, bytes] = {}
    exported.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(database)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        names = connection.execute("SELECT table_name FROM information_schema.tables").fetchall()
        for (name,) in sorted(names):
            rows = connection.execute(f'SELECT COLUMNS(*)::VARCHAR FROM "{name}"').fetchall()
            found[f"table {name}"] = json.dumps(rows, ensure_ascii=False, default=str).encode()
            parquet = exported / f"{name}.parquet"
            connection.execute(
                f"COPY (SELECT * FROM \"{name}\") TO '{parquet}' (FORMAT parquet, COMPRESSION uncompressed)"
            )
            back = connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM '{parquet}'").fetchall()
            found[f"parquet {name}"] = parquet.read_bytes() + json.dumps(back, ensure_ascii=False).encode()
    return found
