"""From a target that dies to the message that wakes somebody: generated rules in a real Prometheus and Alertmanager.

That somebody is *not* woken is shown by what comes after: another target dies, its message arrives, and nothing came before
it that should not have.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests.alertmanager import needs_alertmanager, open_alertmanager, webhook
from tests.exporter import Exporter, command, environment, exporter, free_port
from tests.prometheus import Prometheus, eventually, needs_prometheus, open_prometheus

pytestmark = [pytest.mark.e2e, needs_prometheus, needs_alertmanager]

HANG_GUARD_SECONDS = 60
SCRAPE = "1500ms"
"""What the rules are made for; Prometheus scrapes each second. A check is down after 5 s, the exporter after 12 s."""
ALERTMANAGER = """\
route:
  receiver: person
  group_by: ["..."]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 4h
  routes:
    - {{receiver: nobody, matchers: [severity = none]}}
receivers:
  - name: nobody
  - name: person
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""
Message = tuple[str, str, str]
"""(firing or resolved, alert, check)"""


class Switch:
    """A port on which somebody listens, or nobody."""

    def __init__(self) -> None:
        self.port = free_port()
        self._socket: socket.socket | None = None

    def on(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        listening.listen(64)
        self._socket = listening

    def off(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@dataclass
class Page:
    """Answers 200, but for the next request after ``fail_once``."""

    url: str = ""
    failing: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def served(self) -> Iterator[None]:
        failing = self.failing

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(500 if failing.is_set() else 200)
                failing.clear()
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Nothing: standard error belongs to the test."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@dataclass
class Stage:
    """Everything that runs; ``heard`` is every message so far, in order."""

    folder: Path
    config: Path
    port: int
    victims: dict[str, Switch]
    page: Page
    messages: Queue[dict[str, Any]]
    prometheus: Prometheus | None = None
    running: Exporter | None = None
    heard: list[Message] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        self.running = self._stack.enter_context(exporter(self.config, self.folder, port=self.port))

    @property
    def watching(self) -> Exporter:
        assert self.running is not None
        return self.running

    @property
    def metrics(self) -> Prometheus:
        assert self.prometheus is not None
        return self.prometheus

    def hear(self, *until: Message) -> dict[str, Any]:
        """Take messages until these have come, and give back the alert of the last."""
        wanted = set(until)
        while True:
            for alert in self.messages.get(timeout=HANG_GUARD_SECONDS)["alerts"]:
                labels = alert["labels"]
                message = (alert["status"], labels["alertname"], labels.get("check", ""))
                self.heard.append(message)
                wanted.discard(message)
                if not wanted:
                    return dict(alert)

    def die(self, name: str) -> dict[str, Any]:
        self.victims[name].off()
        return self.hear(("firing", "WatchbillCheckDown", name))

    def recover(self, name: str) -> None:
        self.victims[name].on()
        self.hear(("resolved", "WatchbillCheckDown", name))

    def discover(self, *groups: dict[str, Any]) -> None:
        """The source has these targets from now on."""
        written = self.config.with_name("targets.new")
        written.write_text(json.dumps(groups), encoding="utf-8")
        written.rename(self.config.with_name("targets.json"))

    def since(self, count: int) -> list[Message]:
        return self.heard[count:]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("alerting")
    victims, page = {"one": Switch(), "two": Switch()}, Page()
    with ExitStack() as stack:
        for victim in victims.values():
            victim.on()
            stack.callback(victim.off)
        stack.enter_context(page.served())
        config = folder / "checks.yaml"
        config.write_text(json.dumps(_declared(victims, page)), encoding="utf-8")
        rules = folder / "watchbill.rules.yml"
        made = command("generate", "rules", str(config), "--scrape-interval", SCRAPE, "-o", str(rules))
        subprocess.run(made, check=True, env=environment(), timeout=HANG_GUARD_SECONDS)
        url, messages = stack.enter_context(webhook())
        alertmanager = stack.enter_context(
            open_alertmanager(folder / "alertmanager", config=ALERTMANAGER.format(url=url))
        )
        port = free_port()
        found = Stage(folder / "exporter", config, port, victims, page, messages)
        stack.enter_context(found._stack)
        found.start()
        found.prometheus = stack.enter_context(
            open_prometheus(folder / "prometheus", config=_prometheus(port, rules, alertmanager))
        )
        eventually(
            lambda: len(found.metrics.query("watchbill_check_status == 1")) == 3, what="every check is up"
        )
        yield found


def _declared(victims: dict[str, Switch], page: Page) -> dict[str, Any]:
    ports = {name: {"type": "tcp", "host": "127.0.0.1", "port": one.port} for name, one in victims.items()}
    ports["one"]["service"] = "shop"
    return {
        "version": 1,
        "services": {"shop": {"owner": "team-shop", "runbook": "https://runbooks.example/shop"}},
        "defaults": {"interval": "1s", "timeout": "500ms", "labels": {"env": "test"}},
        "checks": {**ports, "page": {"type": "http", "url": page.url}},
        "discover": {
            "pods": {
                "file_sd": {"files": ["targets.json"]},
                "check": {
                    "type": "tcp",
                    "host": "127.0.0.1",
                    "port": "${each.port}",
                    "service": "shop",
                    "labels": {"severity": "warning"},
                },
            }
        },
    }


def _prometheus(port: int, rules: Path, alertmanager: str) -> dict[str, Any]:
    job = {
        "job_name": "watchbill",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    address = alertmanager.removeprefix("http://")
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]},
        "scrape_configs": [job],
    }


def test_every_rule_is_evaluated_and_the_exporter_runs_what_they_were_made_of(stage: Stage) -> None:
    def evaluated() -> list[dict[str, Any]]:
        rules = [rule for group in stage.metrics.ask("rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = eventually(evaluated, what="all rules have been evaluated")
    assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] != "ok"] == []
    assert len(stage.metrics.query("watchbill_config_info")) == 1
    assert stage.metrics.query('ALERTS{alertname="WatchbillConfigMismatch"}') == []


def test_a_target_that_dies_wakes_somebody_once_with_all_there_is_to_know(stage: Stage) -> None:
    alert = stage.die("one")
    assert alert["labels"] == {
        "alertname": "WatchbillCheckDown",
        "check": "one",
        "service": "shop",
        "owner": "team-shop",
        "severity": "critical",
        "type": "tcp",
        "env": "test",
        "job": "watchbill",
        "after": "5s",
    }
    assert alert["annotations"] == {
        "summary": "one is down",
        "description": "The check one (tcp, service shop) has failed for more than 5s. Reason: refused.",
        "runbook_url": "https://runbooks.example/shop",
        "dashboard_url": "/d/watchbill-check?var-check=one",
    }
    stage.recover("one")
    assert stage.heard == [("firing", "WatchbillCheckDown", "one"), ("resolved", "WatchbillCheckDown", "one")]


def test_a_target_that_nobody_knew_when_rules_were_made_wakes_somebody_too(stage: Stage) -> None:
    before, found = len(stage.heard), Switch()
    found.on()
    check = f"pods-127.0.0.1-{found.port}"
    target = {"targets": [f"127.0.0.1:{found.port}"], "labels": {"port": str(found.port), "zone": "b"}}
    stage.discover(target)
    eventually(
        lambda: stage.metrics.query(f'watchbill_check_status{{check="{check}"}} == 1'), what="it is found"
    )
    found.off()
    alert = stage.hear(("firing", "WatchbillCheckDown", check))
    assert alert["labels"] == {
        "alertname": "WatchbillCheckDown",
        "check": check,
        "service": "shop",
        "owner": "team-shop",
        "severity": "warning",
        "type": "tcp",
        "env": "test",
        "zone": "b",
        "port": str(found.port),
        "job": "watchbill",
        "after": "5s",
    }
    assert alert["annotations"]["summary"] == f"{check} is down"
    stage.discover()
    stage.hear(("resolved", "WatchbillCheckDown", check))
    assert stage.since(before) == [
        ("firing", "WatchbillCheckDown", check),
        ("resolved", "WatchbillCheckDown", check),
    ]


def test_a_single_failed_slot_wakes_nobody(stage: Stage) -> None:
    before = len(stage.heard)
    stage.page.failing.set()
    failed = 'watchbill_check_slots_total{check="page", outcome="failure"}'
    eventually(lambda: stage.metrics.query(f"{failed} == 1"), what="Prometheus has seen the failed slot")
    stage.die("one")
    stage.recover("one")
    assert stage.since(before) == [
        ("firing", "WatchbillCheckDown", "one"),
        ("resolved", "WatchbillCheckDown", "one"),
    ]
    assert stage.metrics.query(f"{failed} == 1"), "it was one slot, and no more"


def test_a_restart_neither_wakes_somebody_nor_ends_what_is_down(stage: Stage) -> None:
    stage.die("one")
    before = len(stage.heard)
    assert stage.watching.stop() == 0
    eventually(lambda: stage.metrics.query("up == 0"), what="Prometheus has missed the exporter")
    stage.start()
    stage.die("two")
    stage.recover("two")
    stage.recover("one")
    assert stage.since(before) == [
        ("firing", "WatchbillCheckDown", "two"),
        ("resolved", "WatchbillCheckDown", "two"),
        ("resolved", "WatchbillCheckDown", "one"),
    ]


def test_an_exporter_that_is_killed_for_good_wakes_somebody_once(stage: Stage) -> None:
    before = len(stage.heard)
    stage.watching.process.send_signal(signal.SIGKILL)
    alert = stage.hear(("firing", "WatchbillExporterDown", ""))
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["instance"] == f"127.0.0.1:{stage.port}"
    rung = 'count_over_time(ALERTS{alertname="WatchbillExporterDown", alertstate="firing"}[1m]) > 3'
    eventually(lambda: stage.metrics.query(rung), what="it has rung for some evaluations")
    assert stage.messages.empty()
    assert stage.since(before) == [("firing", "WatchbillExporterDown", "")]
    watchdog = stage.metrics.query('ALERTS{alertname="WatchbillWatchdog", alertstate="firing"}')
    assert len(watchdog) == 1
