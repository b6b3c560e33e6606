"""What the tests of the command line share: runners, a loopback server that answers as told, golden files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from tests.cli.support import NOW, Exporter, Run
from watchbill.cli.main import cli
from watchbill.cli.outside import Outside


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    found = Exporter(f"http://127.0.0.1:{server.server_address[1]}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"exporter": found})
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    exporter: Exporter

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path = urlsplit(self.path).path
        self.exporter.asked.append((self.command, self.path, body))
        answer = self.exporter.answers.get(f"{self.command} {path}", (404, {"error": "not found"}))
        status, said = answer(body) if callable(answer) else answer
        text = said if isinstance(said, str) else json.dumps(said)
        self.send_response(status)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET  # noqa: N815 - http.server names it

    def log_message(self, *args: object) -> None:
        """Nothing: the test says what went wrong."""


@pytest.fixture
def outside() -> Outside:
    """A quiet outside: no variables, time stands, nothing waits."""
    return Outside(environ={}, now=lambda: NOW, wait=lambda _: None, nonce=lambda: b"\1" * 16)


@pytest.fixture
def run(outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder; keywords replace parts of the outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name in [name for name in os.environ if name.startswith("WATCHBILL_")]:
        monkeypatch.delenv(name)

    def invoke(*args: str, env: Mapping[str, str] | None = None, **parts: Any) -> Result:
        return CliRunner().invoke(
            cli, list(args), obj=replace(outside, **parts), env=env, prog_name="watchbill"
        )

    return invoke
