"""The commands against a real exporter: from a plan through a reload to a report."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.exporter import Exporter, command, environment, exporter, free_port
from watchbill.client import Client

pytestmark = pytest.mark.e2e

FIRST = """\
version: 1
defaults: {{interval: 1s}}
services: {{own: {{owner: me}}}}
checks:
  page: {{type: http, service: own, url: "http://127.0.0.1:{port}/-/healthy", headers: {{X-Token: "${{file:{secret}}}"}}}}
  port: {{type: tcp, service: own, host: 127.0.0.1, port: {port}}}
  nobody: {{type: tcp, host: 127.0.0.1, port: 9}}
  job: {{type: heartbeat, every: 1h, token: "${{file:{secret}}}"}}
"""
SECOND = """\
version: 1
defaults: {{interval: 1s}}
services: {{own: {{owner: you}}}}
checks:
  page: {{type: http, service: own, url: "http://127.0.0.1:{port}/-/healthy", headers: {{X-Token: "${{file:{secret}}}"}}, timeout: 500ms}}
  door: {{type: tcp, service: own, host: 127.0.0.1, port: {port}}}
  more: {{type: tcp, host: 127.0.0.1, port: {port}}}
  job: {{type: heartbeat, every: 1h, token: "${{file:{secret}}}"}}
moved: {{port: door}}
"""


class Watch:
    """An exporter, the folder it reads, and the commands that look at it."""

    def __init__(self, running: Exporter, folder: Path, port: int) -> None:
        self.running, self.folder, self.port = running, folder, port

    def declare(self, text: str) -> None:
        secret = self.folder / "secret.txt"
        (self.folder / "checks.yaml").write_text(text.format(port=self.port, secret=secret))

    def rotate(self, secret: str) -> None:
        (self.folder / "secret.txt").write_text(secret)

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*args),
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment({"WATCHBILL_SERVER": self.running.url}),
            timeout=60,
            check=False,
        )

    def plan(self) -> subprocess.CompletedProcess[str]:
        return self.run("plan", "checks.yaml", "--detailed-exitcode")


@contextmanager
def watching(where: Path) -> Iterator[Watch]:
    port = free_port()
    folder = where / "declared"
    folder.mkdir()
    found = Watch.__new__(Watch)
    found.folder, found.port = folder, port
    found.rotate("first-canary")
    found.declare(FIRST)
    with exporter(folder / "checks.yaml", where / "run", port=port) as running:
        found.running = running
        yield found


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    """For a test that declares something else."""
    with watching(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """For all tests that only look."""
    with watching(tmp_path_factory.mktemp("unchanged")) as found:
        yield found


def test_a_change_is_planned_reloaded_and_then_no_change_any_more(watch: Watch) -> None:
    assert watch.plan().stdout.splitlines()[0] == "no changes"
    watch.declare(SECOND)
    planned = watch.plan()
    assert (planned.returncode, planned.stderr) == (2, "")
    signs = [line for line in planned.stdout.splitlines() if line[:1] in "+~-m" and line.strip()]
    assert [line.split()[:2] for line in signs] == [
        ["+", "more"],
        ["~", "page"],
        ["-", "nobody"],
        ["moved", "port"],
        ["~", "settings"],
    ]
    reloaded = watch.run("reload")
    assert (reloaded.returncode, reloaded.stderr) == (0, "")
    assert reloaded.stdout.splitlines()[:2] == planned.stdout.splitlines()[:2]
    assert "1 added, 1 changed, 1 removed, 1 moved" in reloaded.stdout.splitlines()[-1]
    done = watch.plan()
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "no changes")


def test_a_rotated_secret_is_planned_and_reloaded_without_being_shown(watch: Watch) -> None:
    watch.rotate("second-canary")
    said = "(secret changed)"
    planned = watch.plan()
    assert (planned.returncode, planned.stdout.count(said)) == (2, 2)
    reloaded = watch.run("reload")
    assert (reloaded.returncode, reloaded.stdout.count(said)) == (0, 2)
    assert watch.plan().returncode == 0
    answers = [planned, reloaded]
    assert not [answer for answer in answers if "canary" in answer.stdout + answer.stderr]
    assert "canary" not in watch.running.log.read_text()


def test_a_refused_configuration_lists_the_same_mistakes_as_validate(watch: Watch) -> None:
    (watch.folder / "checks.yaml").write_text("version: 1\nchecks:\n  a: {type: http, ulr: x}\n")
    validated = watch.run("validate", str(watch.folder / "checks.yaml"))
    reloaded = watch.run("reload")
    assert (validated.returncode, reloaded.returncode, reloaded.stdout) == (2, 1, "")
    assert reloaded.stderr.splitlines()[:-1] == validated.stdout.splitlines()[:-1]


def test_a_report_accounts_for_every_slot(unchanged: Watch) -> None:
    def stored() -> bool:
        rows = json.loads(unchanged.run("report", "--format", "json").stdout)["rows"]
        return len(rows) == 4 and all(row["success"] + row["failure"] >= 2 for row in rows)

    unchanged.running.until("two slots of each check are stored", stored)
    rows = {row["id"]: row for row in json.loads(unchanged.run("report", "--format", "json").stdout)["rows"]}
    assert {check_id: row["uptime"] for check_id, row in rows.items()} == {
        "page": 1.0,
        "port": 1.0,
        "nobody": 0.0,
        "job": 1.0,
    }
    assert {row["unaccounted"] for row in rows.values()} == {0}
    services = json.loads(unchanged.run("report", "--by", "service", "--format", "json").stdout)["rows"]
    assert [(row["service"], row["checks"]) for row in services] == [("", 2), ("own", 2)]


def test_probe_tells_good_from_bad_and_leaves_heartbeats_out(unchanged: Watch) -> None:
    answer = unchanged.run("probe", "checks.yaml")
    assert (answer.returncode, answer.stderr) == (
        1,
        "left out: 1 check (a heartbeat, which waits to be called)\n",
    )
    verdicts = [line.split()[:2] for line in answer.stdout.splitlines() if not line.startswith(" ")]
    assert verdicts == [["ok", "page"], ["ok", "port"], ["FAIL", "nobody"], ["3", "checks:"]]
    assert "refused: " in answer.stdout
    assert unchanged.run("probe", "checks.yaml", "page", "port").returncode == 0
    suite = ElementTree.fromstring(unchanged.run("probe", "checks.yaml", "--format", "junit").stdout)
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")


def test_probe_of_a_url_shows_its_phases(unchanged: Watch) -> None:
    answer = unchanged.run("probe", f"{unchanged.running.url}/-/healthy")
    assert (answer.returncode, answer.stderr) == (0, "")
    phases = [line.split()[0] for line in answer.stdout.splitlines() if line.startswith("      ")]
    assert phases[:4] == ["resolve", "connect", "processing", "transfer"]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["pag"], "no check is called pag; did you mean page?"),
        (["job"], "job is a heartbeat: it waits to be called and cannot be probed"),
    ],
)
def test_an_id_that_cannot_be_probed_is_a_usage_error(unchanged: Watch, ids: list[str], said: str) -> None:
    answer = unchanged.run("probe", "checks.yaml", *ids)
    assert answer.returncode == 2
    assert said in answer.stderr


def test_a_second_exporter_says_what_is_taken(unchanged: Watch) -> None:
    place = f"127.0.0.1:{unchanged.port}"
    port = unchanged.run("run", "checks.yaml", "--listen", place, "--storage", "memory:")
    store = unchanged.run(
        "run",
        "checks.yaml",
        "--listen",
        f"127.0.0.1:{free_port()}",
        "--storage",
        str(unchanged.running.storage),
    )
    assert [answer.returncode for answer in (port, store)] == [1, 1]
    assert place in port.stderr
    assert str(unchanged.running.process.pid) in store.stderr
    assert "Traceback" not in port.stderr + store.stderr


def test_a_bad_configuration_ends_the_exporter_with_two_and_its_mistakes(unchanged: Watch) -> None:
    (unchanged.folder / "bad.yaml").write_text("version: 1\nchecks:\n  a: {type: http, ulr: x}\n")
    answer = unchanged.run("run", "bad.yaml", "--listen", f"127.0.0.1:{free_port()}", "--storage", "memory:")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "bad.yaml:3:19: unknown key `ulr`; did you mean `url`?" in answer.stderr.splitlines()


def test_the_client_lists_the_checks_as_they_stand(unchanged: Watch) -> None:
    with Client(unchanged.running.url) as client:

        def judged() -> bool:
            return all(check.status != "unknown" for check in client.checks())

        unchanged.running.until("every check has a verdict", judged)
        found = [(check.id, check.type, check.service, check.status) for check in client.checks()]
    assert found == [
        ("page", "http", "own", "up"),
        ("port", "tcp", "own", "up"),
        ("nobody", "tcp", "", "down"),
        ("job", "heartbeat", "", "up"),
    ]
