"""Reloading a running exporter: signals, requests, ConfigMaps, Git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.exporter import Exporter, exporter, free_port

pytestmark = pytest.mark.e2e

TCP = "  {name}: {{type: tcp, host: 127.0.0.1, port: {port}, interval: {interval}}}\n"


def tcp_checks(count: int, port: int, *, interval: str = "10s", first: int = 0) -> dict[str, str]:
    return {
        f"c{number}": TCP.format(name=f"c{number}", port=port, interval=interval)
        for number in range(first, first + count)
    }


def write(path: Path, checks: dict[str, str], extra: str = "") -> None:
    aside = path.with_suffix(".new")
    aside.write_text("version: 1\n" + extra + "checks:\n" + "".join(checks.values()))
    aside.replace(path)


def digest(running: Exporter) -> str:
    return str(running.request("/api/v1/config").json()["digest"])


def test_a_thousand_checks_and_a_reload_that_touches_four(tmp_path: Path) -> None:
    config, port = tmp_path / "checks.yaml", free_port()
    checks = tcp_checks(1000, port, interval="5s")
    write(config, checks)
    with exporter(config, tmp_path / "run", port=port) as running:
        running.until(
            "every check was probed in a slot",
            lambda: running.total("watchbill_check_slots_total", 'outcome="success"') >= 1000,
        )
        before = running.metrics()
        del checks["c1"], checks["c2"]
        checks["c3"] = TCP.format(name="c3", port=port, interval="7s")
        checks["fresh"] = TCP.format(name="fresh", port=port, interval="5s")
        checks["renamed"] = TCP.format(name="renamed", port=port, interval="5s")
        write(config, checks, "moved: {c2: renamed}\n")
        running.hang_up()
        running.until(
            "the new configuration holds",
            lambda: (
                'watchbill_check_interval_seconds{check="renamed",location="",service="",type="tcp"}'
                in running.metrics()
            ),
        )
        after = running.metrics()
        for name, value in before.items():
            if name.startswith("watchbill_check_slots_total") and not any(
                f'check="{gone}"' in name for gone in ("c1", "c2")
            ):
                assert after[name] >= value, name
        assert not [name for name in after if 'check="c1"' in name or 'check="c2"' in name]
        assert after['watchbill_checks{type="tcp"}'] == 1000
        seen = after["watchbill_config_last_reload_success_timestamp_seconds"]
        assert seen > before["watchbill_config_last_reload_success_timestamp_seconds"]
        slots = running.total("watchbill_check_slots_total", 'outcome="success"')
        running.until(
            "slots go on",
            lambda: running.total("watchbill_check_slots_total", 'outcome="success"') > slots + 1000,
        )
        assert running.total("watchbill_check_slots_total", 'outcome="missed"') == 0
        assert running.total("watchbill_check_slots_total", 'outcome="skipped"') <= 1
        report = running.request("/api/v1/report").json()
        assert sum(row["unaccounted"] for row in report["checks"]) == 0
        renamed = running.request("/api/v1/checks/renamed/results?limit=1000").json()["results"]
        assert len(renamed) >= 2


TEN_MISTAKES = """version: 1
defaults:
  intervall: 30s
services:
  shop: {ownr: me}
checks:
  Bad_Id: {type: tcp, host: h, port: 1}
  a: {type: tcp, host: h, port: 70000}
  b: {type: http, url: "ftp://x/"}
  c: {type: http, url: "http://x/", interval: 500ms}
  d: {type: http, url: "http://x/", interval: 5s, timeout: 10s}
  e: {type: htpp, url: "http://x/"}
  f: {type: http, url: "http://x/", labels: {job: x}}
  g: {type: http, url: "http://x/", expect: {body: {matches: "("}}}
"""
PLACES = ["3:3", "5:10", "7:3", "8:33", "9:24", "10:47", "11:60", "12:13", "13:46", "14:62"]


def test_ten_mistakes_are_all_told_and_the_old_configuration_runs_on(tmp_path: Path) -> None:
    config, port = tmp_path / "checks.yaml", free_port()
    good = "version: 1\nchecks:\n" + TCP.format(name="self", port=port, interval="1s")
    config.write_text(good)
    with exporter(config, tmp_path / "run", port=port) as running:
        was = digest(running)
        config.write_text(TEN_MISTAKES)
        answer = running.request("/-/reload", method="POST")
        assert answer.status == 500
        told = answer.text
        for place in PLACES:
            assert f"checks.yaml:{place}:" in told, f"{place} is not among:\n{told}"
        assert told.count("checks.yaml:") == len(PLACES)
        metrics = running.metrics()
        assert metrics["watchbill_config_last_reload_successful"] == 0
        assert digest(running) == was
        running.hang_up()
        slots = running.total("watchbill_check_slots_total", 'outcome="success"')
        running.until(
            "the old configuration probes on",
            lambda: running.total("watchbill_check_slots_total", 'outcome="success"') > slots + 1,
        )
        config.write_text(good)
        assert running.request("/-/reload", method="PUT").status == 200
        assert running.metrics()["watchbill_config_last_reload_successful"] == 1


def test_a_config_map_swap_is_noticed_and_read_whole(tmp_path: Path) -> None:
    mount, port = tmp_path / "config", free_port()
    mount.mkdir()

    def generation(number: int) -> str:
        name = f"..2026_{number}"
        (mount / name).mkdir()
        for part in ("one", "two"):
            (mount / name / f"{part}.yaml").write_text(
                "version: 1\nchecks:\n"
                f"  {part}-{number}: {{type: tcp, host: 127.0.0.1, port: {port}, interval: 1s}}\n"
            )
        return name

    def swap(number: int) -> None:
        os.symlink(generation(number), mount / "..data_tmp")
        os.rename(mount / "..data_tmp", mount / "..data")

    swap(0)
    for part in ("one", "two"):
        os.symlink(f"..data/{part}.yaml", mount / f"{part}.yaml")
    with exporter(mount, tmp_path / "run", "--reload-on", "signal,change", port=port) as running:
        for number in range(4):
            if number:
                swap(number)
            wanted = {f"one-{number}", f"two-{number}"}
            seen: set[frozenset[str]] = set()

            def whole(wanted: set[str] = wanted, seen: set[frozenset[str]] = seen) -> bool:
                ids = frozenset(running.request("/api/v1/config").json()["checks"])
                seen.add(ids)
                return ids == wanted

            running.until(f"generation {number} runs", whole)
            assert all(len({name.partition("-")[2] for name in ids}) == 1 for ids in seen)


def test_a_commit_and_a_checkout_move_the_revision(tmp_path: Path) -> None:
    tree, port = tmp_path / "tree", free_port()
    tree.mkdir()

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@t.test", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tree, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    config = tree / "checks.yaml"
    revisions = []
    for interval in ("1s", "2s"):
        config.write_text(
            f"version: 1\nchecks:\n  self: {{type: tcp, host: 127.0.0.1, port: {port}, interval: {interval}}}\n"
        )
        git("add", "checks.yaml")
        git("commit", "-q", "-m", interval)
        revisions.append(git("rev-parse", "HEAD"))
    with exporter(config, tmp_path / "run", "--reload-on", "signal,change", port=port) as running:

        def revision_is(wanted: str) -> bool:
            return any(
                name.startswith("watchbill_config_info") and f'revision="{wanted}"' in name
                for name in running.metrics()
            )

        running.until("the second revision is told", lambda: revision_is(revisions[1]))
        git("checkout", "-q", revisions[0])
        running.until("the checkout is told", lambda: revision_is(revisions[0]))
        config.write_text(config.read_text().replace("interval: 1s", "interval: 3s"))
        running.until(
            "the change is taken up before it is committed",
            lambda: any(
                name.startswith("watchbill_check_interval_seconds") and value == 3
                for name, value in running.metrics().items()
            ),
        )
        git("commit", "-q", "-am", "third")
        running.until("the new commit is told", lambda: revision_is(git("rev-parse", "HEAD")))


def test_a_storm_of_signals_is_a_handful_of_reloads_and_the_last_wish_counts(tmp_path: Path) -> None:
    config, port = tmp_path / "checks.yaml", free_port()
    write(config, tcp_checks(20, port, interval="1s"))
    with exporter(config, tmp_path / "run", "--log-format", "json", port=port) as running:
        for number in range(200):
            write(config, tcp_checks(20 + number, port, interval="1s"))
            running.hang_up()
        running.until(
            "the last configuration runs", lambda: running.metrics()['watchbill_checks{type="tcp"}'] == 219
        )
        reloads = running.log.read_text().count('"config.reloaded"')
        assert reloads < 100
        assert running.total("watchbill_check_slots_total", 'outcome="missed"') == 0
