"""`reload`: what changed, or why nothing did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.support import Exporter, Run
from watchbill.domain.units import SECOND


def _config(**hosts: str) -> dict[str, Any]:
    return {
        "digest": "d",
        "revision": "0123456789abcdef",
        "location": "",
        "checks": {
            name: {"spec": {"type": "icmp", "host": host}, "interval_us": 30 * SECOND}
            for name, host in hosts.items()
        },
        "moved": {},
    }


def _reloaded(*changed: tuple[str, list[str]], **counts: int) -> dict[str, Any]:
    whole = {"added": 0, "changed": len(changed), "removed": 0, "moved": 0, **counts}
    changes = [{"id": check_id, "fields": paths} for check_id, paths in changed]
    checks = {"added": [], "changed": changes, "removed": [], "moved": []}
    return {**whole, "digest": "d", "revision": "0123456789abcdef", "checks": checks}


def _in_turn(exporter: Exporter, *configs: dict[str, Any]) -> None:
    turn: Iterator[dict[str, Any]] = iter(configs)
    exporter.answers["GET /api/v1/config"] = lambda _: (200, next(turn))


def test_what_changed_is_printed_with_its_fields(run: Run, exporter: Exporter) -> None:
    _in_turn(exporter, _config(a="x", b="y"), _config(a="z", c="w"))
    exporter.answers["POST /-/reload"] = (200, _reloaded(("a", ["host"]), added=1, removed=1))
    answer = run("reload", "--server", exporter.url)
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.splitlines() == [
        "+ c  icmp       w  every 30s",
        "~ a",
        "    host  x -> z",
        "- b  icmp       y  every 30s",
        "reloaded at 0123456789ab: 1 added, 1 changed, 1 removed, 0 moved",
    ]
    assert [path for _, path, _ in exporter.asked] == ["/api/v1/config", "/-/reload", "/api/v1/config"]


def test_a_rotated_secret_is_told_although_it_cannot_be_seen(run: Run, exporter: Exporter) -> None:
    _in_turn(exporter, _config(a="${SECRET_HOST}", b="x"), _config(a="${SECRET_HOST}", b="y"))
    exporter.answers["POST /-/reload"] = (200, _reloaded(("a", ["host"]), ("b", ["host"])))
    answer = run("reload", "--server", exporter.url)
    assert answer.stdout.splitlines() == [
        "~ a",
        "    host  ${SECRET_HOST}  (secret changed)",
        "~ b",
        "    host  x -> y",
        "reloaded at 0123456789ab: 0 added, 2 changed, 0 removed, 0 moved",
    ]


def test_a_refused_configuration_lists_its_mistakes(run: Run, exporter: Exporter) -> None:
    _in_turn(exporter, _config(a="x"))
    problems = ["checks.yaml:3:5: unknown key `ulr`"]
    exporter.answers["POST /-/reload"] = (500, {"error": "1 problem", "problems": problems})
    answer = run("reload", "--server", exporter.url)
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr.splitlines() == [
        "checks.yaml:3:5: unknown key `ulr`",
        "not reloaded: the configuration that ran goes on running",
    ]


@pytest.mark.parametrize("flags", [[], ["--allow-mass-delete"]])
def test_a_mass_delete_is_allowed_on_demand(run: Run, exporter: Exporter, flags: list[str]) -> None:
    _in_turn(exporter, _config(), _config())
    exporter.answers["POST /-/reload"] = (200, _reloaded())
    assert run("reload", "--server", exporter.url, *flags).exit_code == 0
    assert exporter.asked[1][1] == "/-/reload" + ("?allow_mass_delete=true" if flags else "")


def test_lifecycle_off_says_what_to_do(run: Run, exporter: Exporter) -> None:
    _in_turn(exporter, _config())
    exporter.answers["POST /-/reload"] = (403, {"error": "off"})
    answer = run("reload", "--server", exporter.url)
    assert answer.exit_code == 1
    assert "start it with --web.enable-lifecycle, or send it SIGHUP" in answer.stderr
