"""The process as a whole: what it stores, what it leaves, what it never shows."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import psutil
import pytest

from tests.exporter import HANG_GUARD_SECONDS, Exporter, command, environment, exporter, free_port

pytestmark = pytest.mark.e2e


def config_with(folder: Path, body: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "checks.yaml"
    path.write_text("version: 1\n" + body)
    return path


def self_checks(port: int, count: int = 20) -> str:
    lines = [
        f"  c{number}: {{type: http, url: 'http://127.0.0.1:{port}/-/healthy', interval: 1s}}"
        for number in range(count)
    ]
    return "checks:\n" + "\n".join(lines) + "\n"


def rows(storage: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(duckdb.connect(str(storage), read_only=True)) as store:
        return store.execute(sql).fetchall()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        config = config_with(
            tmp_path,
            f"checks: {{hangs: {{type: http, url: 'http://127.0.0.1:{port}', interval: 1m, timeout: 30s}}}}\n",
        )
        with exporter(config, tmp_path / "run") as running:
            running.request("/metrics")
            with closing(silent.accept()[0]):  # the probe is under way
                running.process.terminate()
                running.until("the first signal", lambda: "watchbill.stopping" in running.log.read_text())
                running.process.terminate()
                assert running.process.wait(HANG_GUARD_SECONDS) == 1


def test_stopping_stores_everything_that_was_produced_and_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    config = config_with(tmp_path, self_checks(port, 50))
    with exporter(config, tmp_path / "run", "--log-level", "debug", port=port) as running:
        process = psutil.Process(running.process.pid)
        running.hang_up()  # so that a loading process has been there, too
        running.until(
            "two hundred slots",
            lambda: running.total("watchbill_check_slots_total", 'outcome="success"') >= 200,
        )
        children = process.children(recursive=True)
        assert running.stop() == 0
        assert not [
            child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]
        produced = max(
            int(found) for found in re.findall(r'"results_produced": (\d+)', running.log.read_text())
        )
        [(stored,)] = rows(running.storage, "SELECT count(*) FROM result")
        assert stored == produced >= 200
        [(unaccounted, expected)] = rows(
            running.storage, "SELECT sum(unaccounted), sum(expected) FROM coverage"
        )
        assert unaccounted == 0
        assert isinstance(expected, int)
        assert expected >= 200
        assert not rows(
            running.storage,
            "SELECT check_id, slot FROM results WHERE trigger = 'schedule' GROUP BY ALL HAVING count(*) > 1",
        )
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_restart_keeps_history_and_accounts_for_the_time_between(tmp_path: Path) -> None:
    port = free_port()
    config = config_with(tmp_path, self_checks(port, 5))
    for _ in range(3):
        with exporter(config, tmp_path / "run", port=port) as running:
            first = running.metrics()
            assert {value for name, value in first.items() if 'outcome="missed"' in name} == {0}
            running.until(
                "ten slots", lambda: running.total("watchbill_check_slots_total", 'outcome="success"') >= 10
            )
            assert running.stop() == 0
    [(missed, unaccounted)] = rows(running.storage, "SELECT sum(missed), sum(unaccounted) FROM coverage")
    assert unaccounted == 0
    assert isinstance(missed, int)
    assert missed >= 5
    assert rows(running.storage, "SELECT DISTINCT reason FROM gap") == [("restart",)]


def test_a_second_exporter_on_the_same_file_or_port_is_told_who_holds_it(tmp_path: Path) -> None:
    port = free_port()
    config = config_with(tmp_path, self_checks(port, 1))
    with exporter(config, tmp_path / "run", port=port) as running:
        for other, named in ((free_port(), str(running.process.pid)), (port, f"127.0.0.1:{port}")):
            line = command(
                "run", str(config), "--listen", f"127.0.0.1:{other}",
                "--storage", str(running.storage if other != port else tmp_path / "other.duckdb"),
            )  # fmt: skip
            done = subprocess.run(
                line,
                capture_output=True,
                text=True,
                timeout=HANG_GUARD_SECONDS,
                env=environment(),
                check=False,
            )
            assert done.returncode == 1
            assert named in done.stderr
            assert "Traceback" not in done.stderr


def test_a_bad_configuration_ends_with_two_and_no_traceback(tmp_path: Path) -> None:
    config = config_with(tmp_path, "checks:\n  a: {type: tcp, host: h, prot: 1}\n")
    done = subprocess.run(
        command("run", str(config), "--listen", f"127.0.0.1:{free_port()}", "--storage", "memory:"),
        capture_output=True,
        text=True,
        timeout=HANG_GUARD_SECONDS,
        env=environment(),
        check=False,
    )
    assert done.returncode == 2
    assert "checks.yaml:3:27" in done.stderr
    assert "port" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def echoing_server() -> Iterator[int]:
    """Answers every request with the request itself, status 500."""

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                said = connection.recv(65_536)
                head = b"HTTP/1.1 500 Echo\r\nX-Echo: %d\r\nContent-Length: %d\r\n\r\n"
                connection.sendall(head % (len(said), len(said)) + said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


CANARIES = {
    "SHOP_TOKEN": "canary-token-1f",
    "SHOP_PASSWORD": "canary-password-2f",
    "SHOP_KEY": "canary-key-3f",
    "HEARTBEAT_TOKEN": "canary-heartbeat-4f",
}


def secret_config(port: int, folder: Path) -> str:
    (folder / "secret.txt").write_text("canary-file-5f\n")
    return f"""checks:
  bearer:
    type: http
    interval: 1s
    url: "http://127.0.0.1:{port}/a?key=${{SHOP_KEY}}"
    auth: {{bearer: "${{SHOP_TOKEN}}"}}
    headers: {{X-File: "${{file:{folder}/secret.txt}}"}}
    body: canary-body-6f
    expect: {{body: {{matches: "^nothing", contains: absent}}}}
  userinfo:
    type: http
    interval: 1s
    url: "http://user:${{SHOP_PASSWORD}}@127.0.0.1:{port}/"
    expect: {{headers: {{x-echo: nope}}, body: {{contains: absent}}}}
  job: {{type: heartbeat, every: 1h, interval: 1s, token: "${{HEARTBEAT_TOKEN}}"}}
"""


def test_no_secret_appears_in_anything_that_comes_out(tmp_path: Path) -> None:
    with echoing_server() as port:
        config = config_with(tmp_path, secret_config(port, tmp_path))
        with exporter(config, tmp_path / "run", "--log-level", "debug", environ=CANARIES) as running:
            running.until(
                "both checks failed",
                lambda: running.total("watchbill_check_slots_total", 'outcome="failure"') >= 4,
            )
            said = [running.request(path).text for path in surfaces(running)]
            rotated = {**CANARIES, "SHOP_TOKEN": "canary-token-7f"}
            for arguments in (
                ("plan", str(config), "--against", running.url),
                ("plan", str(config), "--against", running.url, "--format", "json"),
                ("plan", str(config), "--against", running.url, "--format", "markdown"),
                ("probe", str(config), "bearer", "userinfo", "--format", "json"),
                ("probe", str(config), "bearer", "userinfo"),
                ("validate", str(config)),
            ):
                done = subprocess.run(
                    command(*arguments), capture_output=True, text=True, env=environment(rotated), check=False
                )
                said += [done.stdout, done.stderr]
                if arguments[0] == "plan":
                    assert (
                        "secret changed" in done.stdout.lower()
                        or '"(secret changed)"' in done.stdout
                        or '"secret_changed": true' in done.stdout
                    ), done
            config.write_text(config.read_text().replace("interval: 1s", "intervall: 1s"))
            said.append(running.request("/-/reload", method="POST").text)
            assert "intervall" in said[-1]
            assert running.stop() == 0
            files = [path for path in running.storage.parent.iterdir() if path.is_file()]
            assert running.storage in files
            texts = [*said, *(path.read_bytes().decode("latin-1") for path in files)]
            for text in texts:
                assert "canary-" not in text, text[max(0, text.index("canary-") - 200) :][:400]
            assert len(rows(running.storage, "SELECT spec FROM check_revision")) == 3


def surfaces(running: Exporter) -> list[str]:
    return [
        "/", "/metrics", "/api/v1/config", "/api/v1/checks", "/api/v1/checks/bearer", "/api/v1/report",
        "/api/v1/checks/bearer/results", "/api/v1/checks/userinfo/results", "/api/v1/openapi.json",
    ]  # fmt: skip


def test_a_rotated_secret_is_seen_by_a_reload_as_changed(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-first")
    port = free_port()
    config = config_with(
        tmp_path,
        f"checks:\n  a: {{type: http, url: 'http://127.0.0.1:{port}/', auth: {{bearer: '${{file:token}}'}}}}\n".replace(
            "file:token", f"file:{tmp_path}/token"
        ),
    )
    with exporter(config, tmp_path / "run", port=port) as running:
        assert running.request("/-/reload", method="POST").json()["changed"] == 0
        (tmp_path / "token").write_text("canary-second")
        answer = running.request("/-/reload", method="POST")
        assert answer.json()["changed"] == 1
        assert "canary" not in answer.text


def test_a_stderr_that_nobody_reads_delays_no_probe(tmp_path: Path) -> None:
    port = free_port()
    config = config_with(tmp_path, self_checks(port, 60))
    reading, writing = os.pipe()
    line = command(
        "run", str(config), "--listen", f"127.0.0.1:{port}", "--storage", str(tmp_path / "h.duckdb"),
        "--log-level", "debug",
    )  # fmt: skip
    process = subprocess.Popen(line, stdout=writing, stderr=writing, env=environment())
    os.close(writing)
    (tmp_path / "log").write_text("")
    running = Exporter(process, f"http://127.0.0.1:{port}", tmp_path / "h.duckdb", tmp_path / "log")
    try:
        running.until("ready", lambda: running.request("/-/ready").status == 200)
        running.until(
            "slots are probed although nobody reads",
            lambda: running.total("watchbill_check_slots_total", 'outcome="success"') >= 300,
        )
        assert running.total("watchbill_check_slots_total", 'outcome="skipped"') == 0
        assert running.stop() == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(reading)


def test_a_target_that_hangs_costs_nobody_else_anything(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:  # accepts, and never answers
        port = free_port()
        hanging = "".join(
            f"  hangs{number}: {{type: http, url: 'http://127.0.0.1:{hung.getsockname()[1]}/', interval: 1s}}\n"
            for number in range(20)
        )
        config = config_with(tmp_path, self_checks(port, 40) + hanging)
        with exporter(config, tmp_path / "run", port=port) as running:
            running.until(
                "the hanging ones have failed three times each",
                lambda: running.total("watchbill_check_slots_total", 'outcome="failure"') >= 60,
            )
            metrics = running.metrics()
            failing = {name for name in metrics if name.startswith("watchbill_check_failing{")}
            assert len(failing) == 20
            assert all('reason="timeout"' in name for name in failing)
            assert running.total("watchbill_check_slots_total", 'check="c', 'outcome="success"') >= 80
            assert running.total("watchbill_check_slots_total", 'check="c', 'outcome="failure"') == 0


def test_json_log_lines_are_json(tmp_path: Path) -> None:
    config = config_with(tmp_path, "checks:\n  a: {type: tcp, host: 127.0.0.1, port: 1, interval: 1s}\n")
    with exporter(config, tmp_path / "run") as running:
        running.until("it flipped", lambda: "check.flipped" in running.log.read_text())
        assert running.stop() == 0
        events = [json.loads(line)["event"] for line in running.log.read_text().splitlines()]
    assert {"config.loaded", "watchbill.listening", "check.flipped", "watchbill.stopped"} <= set(events)
