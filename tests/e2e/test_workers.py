"""Workers of a running exporter: there when they are needed, gone when it is, however it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.exporter import HANG_GUARD_SECONDS, Exporter, exporter, free_port

pytestmark = pytest.mark.e2e

JUDGED = """version: 1
checks:
  own-metrics: {{type: http, url: "http://127.0.0.1:{port}/metrics", interval: 1s, expect: {{body: {{matches: watchbill_build_info}}}}}}
"""
MANY = "".join(
    f"  c{number}: {{type: tcp, host: a.test, port: 1, enabled: false}}\n" for number in range(4000)
)


def workers(running: Exporter) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


def until_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + HANG_GUARD_SECONDS
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        assert time.monotonic() < deadline, processes
        time.sleep(0.05)


def to_everyone(running: Exporter, found: list[psutil.Process]) -> None:
    """As a service manager or a terminal does."""
    for worker in found:
        worker.send_signal(signal.SIGTERM)
    running.process.terminate()


def to_the_exporter(running: Exporter, _: list[psutil.Process]) -> None:
    running.process.terminate()


@pytest.mark.parametrize("end", [to_everyone, to_the_exporter])
def test_none_is_left_by_an_exporter_that_is_told_to_stop(
    tmp_path: Path, end: Callable[[Exporter, list[psutil.Process]], None]
) -> None:
    config, port = tmp_path / "checks.yaml", free_port()
    config.write_text(JUDGED.format(port=port))
    with exporter(config, tmp_path / "run", port=port) as running:
        running.until(
            "a body was judged",
            lambda: running.total("watchbill_check_slots_total", 'outcome="success"') and workers(running),
        )
        config.write_text(JUDGED.format(port=port) + MANY)
        running.hang_up()
        found = running.until("a worker loads", lambda: len(now := workers(running)) > 1 and now)
        end(running, found)
        assert running.process.wait(HANG_GUARD_SECONDS) == 0
        assert not any(worker.is_running() for worker in found)
        log = running.log.read_text()
    assert "Traceback" not in log
    assert "watchbill.stopped" in log


def test_they_end_by_themselves_after_an_exporter_that_was_killed(tmp_path: Path) -> None:
    config, port = tmp_path / "checks.yaml", free_port()
    config.write_text(JUDGED.format(port=port))
    with exporter(config, tmp_path / "run", port=port) as running:
        running.until("a body was judged", lambda: workers(running))
        config.write_text(JUDGED.format(port=port) + MANY)
        running.hang_up()
        found = running.until("a worker loads", lambda: len(now := workers(running)) > 1 and now)
        running.process.kill()
        until_gone(found)
        assert "Traceback" not in running.log.read_text()


def test_checks_that_did_not_change_go_on_while_thousands_do(tmp_path: Path) -> None:
    config, port = tmp_path / "checks.yaml", free_port()
    config.write_text(JUDGED.format(port=port) + MANY)
    with exporter(config, tmp_path / "run", port=port) as running:
        config.write_text(JUDGED.format(port=port) + MANY.replace("port: 1,", "port: 2,"))
        answer = running.request("/-/reload", method="POST").json()
        assert (answer["added"], answer["changed"], answer["removed"]) == (0, 4000, 0)
        assert len(answer["checks"]["changed"]) == 4000
        answer = running.request("/-/reload", method="POST").json()
        assert (answer["added"], answer["changed"], answer["removed"]) == (0, 0, 0)
        assert running.total("watchbill_check_slots_total", 'outcome="missed"') == 0
