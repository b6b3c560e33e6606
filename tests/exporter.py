"""Runs the real exporter for end-to-end tests: a subprocess on a free loopback port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HANG_GUARD_SECONDS = 60.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


_RESERVED: list[socket.socket] = []


def free_port() -> int:
    """A port on which nothing listens, and which the kernel gives to no other test while this process lives.

    It stays bound, with SO_REUSEADDR and never listening: who asks for it by its number, with the same option, gets it.
    """
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    _RESERVED.append(bound)
    port: int = bound.getsockname()[1]
    return port


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Exporter:
    """A running ``watchbill run``; ``log`` is where its stderr goes."""

    process: subprocess.Popen[bytes]
    url: str
    storage: Path
    log: Path

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float = 10.0,
    ) -> Answer:
        request = urllib.request.Request(
            self.url + path, data=body, method=method, headers=dict(headers or {})
        )
        try:
            with _OPENER.open(request, timeout=seconds) as response:
                return Answer(response.status, dict(response.headers.items()), response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers.items()), error.read())

    def metrics(self) -> dict[str, float]:
        """Every sample by its full name: ``name{label="value",...}`` -> value."""
        found = {}
        for line in self.request("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def total(self, family: str, *having: str) -> float:
        """The sum of a family's samples whose labels hold all of ``having`` (``outcome="success"``)."""
        return sum(
            value
            for name, value in self.metrics().items()
            if name.partition("{")[0] == family and all(part in name for part in having)
        )

    def until(self, condition: str, holds: Any, *, seconds: float = HANG_GUARD_SECONDS) -> Any:
        """Poll until ``holds()`` is true and return it; ``condition`` says what was waited for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(
                    f"the exporter ended with {self.process.returncode}:\n{self.log.read_text()}"
                )
            with contextlib.suppress(OSError):
                if answer := holds():
                    return answer
            time.sleep(0.05)
        raise AssertionError(f"never happened: {condition}\n{self.log.read_text()[-4000:]}")

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(HANG_GUARD_SECONDS)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "watchbill.cli.main", *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, **(extra or {})}


@contextlib.contextmanager
def exporter(
    config: Path,
    folder: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
    wait: bool = True,
    prefix: Sequence[str] = (),
) -> Iterator[Exporter]:
    """Start it and, unless told otherwise, wait until it is ready. It is ended with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    storage, log = folder / "history.duckdb", folder / "exporter.log"
    line = command(
        "run", str(config), "--listen", f"127.0.0.1:{port}", "--storage", str(storage), "--web.enable-lifecycle",
        *arguments,
    )  # fmt: skip
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [*prefix, *line], stdout=subprocess.DEVNULL, stderr=stderr, env=environment(environ), cwd=folder
        )
    running = Exporter(process, f"http://127.0.0.1:{port}", storage, log)
    try:
        if wait:
            running.until("ready", lambda: running.request("/-/ready").status == 200)
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
