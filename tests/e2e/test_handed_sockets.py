"""A socket that somebody else holds open: a restart refuses no connection and loses no request."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.exporter import HANG_GUARD_SECONDS, Exporter, command, environment

ACTIVATE = shutil.which("systemd-socket-activate")
pytestmark = pytest.mark.e2e
CHECKS = "version: 1\nchecks:\n  one: {type: heartbeat, every: 1h}\n"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
AS_SYSTEMD = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_FDNAMES=web LISTEN_PID=$$ exec "$@"'
"""The socket, which Popen puts at 0, goes where sd_listen_fds(3) has it; the process stays the same."""


@contextmanager
def activated(listener: socket.socket, folder: Path) -> Iterator[Exporter]:
    log, storage = folder / "exporter.log", folder / "history.duckdb"
    line = command("run", str(folder / "checks.yaml"), "--web.systemd-socket", "--storage", str(storage))
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            ["sh", "-c", AS_SYSTEMD, "sh", *line],
            stdin=listener.fileno(), stdout=subprocess.DEVNULL, stderr=stderr, env=environment(),
        )  # fmt: skip
    running = Exporter(process, f"http://127.0.0.1:{listener.getsockname()[1]}", storage, log)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


class Asker:
    """Asks on a new connection each time, as a scraper does, until it is stopped; ``refused`` is what went wrong."""

    def __init__(self, url: str) -> None:
        self.asked = 0
        self.refused: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with OPENER.open(self._url + "/-/healthy", timeout=HANG_GUARD_SECONDS) as answer:
                    answer.read()
                self.asked += 1
            except (OSError, HTTPException) as error:
                self.refused.append(repr(error))
            self._stop.wait(0.002)

    def __enter__(self) -> Asker:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_restart_refuses_no_connection_and_loses_no_request(tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text(CHECKS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with activated(listener, tmp_path) as first:
            first.until("ready", lambda: first.request("/-/ready").status == 200)
            asker = Asker(first.url)
            with ExitStack() as asking:
                asking.enter_context(asker)
                first.until("requests are answered", lambda: asker.asked > 20)
                assert first.stop() == 0
                before = asker.asked
                with activated(listener, tmp_path) as second:
                    second.until("requests are answered again", lambda: asker.asked > before + 20)
                    asking.close()
                    assert second.metrics()
        assert asker.refused == []


@pytest.mark.skipif(ACTIVATE is None, reason="systemd-socket-activate is not installed (make test-deps)")
def test_systemds_own_activator_starts_it_with_the_first_connection(tmp_path: Path) -> None:
    assert ACTIVATE is not None
    (tmp_path / "checks.yaml").write_text(CHECKS)
    path, log = tmp_path / "web.sock", tmp_path / "exporter.log"
    line = command("run", str(tmp_path / "checks.yaml"), "--web.systemd-socket", "--storage", "memory:")
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [ACTIVATE, "--listen", str(path), "--fdname", "web", *line],
            stdout=subprocess.DEVNULL, stderr=stderr, env=environment(),
        )  # fmt: skip
    running = Exporter(process, "", tmp_path / "none", log)
    try:
        running.until("the activator listens", path.exists)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(HANG_GUARD_SECONDS)
            running.until("it is connected", lambda: client.connect_ex(str(path)) == 0)
            client.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")  # before anybody is there to read it
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        assert running.stop() == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_without_a_socket_the_start_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text(CHECKS)
    done = subprocess.run(
        command("run", "checks.yaml", "--web.systemd-socket"),
        check=False, capture_output=True, text=True, timeout=60, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no socket was handed over" in done.stderr


def test_an_address_beside_it_is_a_mistake(tmp_path: Path) -> None:
    done = subprocess.run(
        command("run", "checks.yaml", "--web.systemd-socket", "--listen", "127.0.0.1:0"),
        check=False, capture_output=True, text=True, timeout=60, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
