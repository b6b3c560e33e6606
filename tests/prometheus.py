"""A real Prometheus on loopback for the length of a test."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
import yaml

from tests.exporter import free_port

STARTS_WITHIN_SECONDS = 60
PROMETHEUS = shutil.which("prometheus")
Found = TypeVar("Found")

# One for all questions, since each makes a TLS context; it keeps no connection.
_CLIENT = httpx2.Client(trust_env=False, timeout=30, limits=httpx2.Limits(max_keepalive_connections=0))

needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None, reason="prometheus is not installed (make test-deps)"
)


@dataclass(frozen=True)
class Prometheus:
    """Where one listens, and questions to it."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """:raises AssertionError: Prometheus refused the question; its own words are in the message."""
        response = _CLIENT.get(f"{self.url}/api/v1/{path}", params=parameters)
        answer = response.json()
        assert answer["status"] == "success", f"{parameters}: {answer['error']}"
        return answer["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found

    def numbers(self, expr: str, *, seconds: int) -> list[float]:
        """All samples of the last seconds that are numbers, of all series."""
        now = time.time()
        answer = self.ask("query_range", query=expr, start=str(now - seconds), end=str(now), step="1")
        samples = (float(value) for series in answer["result"] for _, value in series["values"])
        return [sample for sample in samples if not math.isnan(sample)]

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("targets", state="active")["activeTargets"]
        return found


def eventually(
    look: Callable[[], Found], *, what: str, within_seconds: float = STARTS_WITHIN_SECONDS
) -> Found:
    """The first true answer. A question to another program that cannot tell us when, so it is polled.

    :raises AssertionError: nothing true came in time; ``what`` says what was waited for.
    """
    deadline = time.monotonic() + within_seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"after {within_seconds:.0f} s still not: {what}"
        time.sleep(0.1)
    return found


def answers(url: str) -> bool:
    """Whether it answers with 200 right now."""
    try:
        return httpx2.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


@contextmanager
def running(
    command: Sequence[str], *, ready: str, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of ours until the block ends: awaited at ``ready`` (a url), ended by its process id."""
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, env=environ) as process,
    ):
        try:
            eventually(
                lambda: process.poll() is not None or answers(ready), what=f"{command[0]} answers at {ready}"
            )
            assert process.poll() is None, (
                f"{command[0]} ended with {process.returncode}: {log.read_text()[-2000:]}"
            )
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def open_prometheus(folder: Path, *, config: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Prometheus over a configuration given as values; its data and its log stay in the folder."""
    assert PROMETHEUS is not None
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(config))), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        PROMETHEUS,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    url = f"http://{address}"
    with running(command, ready=f"{url}/-/ready", log=folder / "prometheus.log"):
        yield Prometheus(url)
