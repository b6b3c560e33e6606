"""All the rules that were asked for of one configuration, and all their tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.generate.asked import Asked
from watchbill.generate.check_trials import SLOW_EVALUATION, check_trials, slow_alerts
from watchbill.generate.checks import check_groups, ruled_checks
from watchbill.generate.discovery_trials import discovery_trials
from watchbill.generate.own import own_groups
from watchbill.generate.own_trials import own_trials, quiet_trials
from watchbill.generate.rules import Alert, Group
from watchbill.generate.slo_tests import slo_trials
from watchbill.generate.slos import slo_groups
from watchbill.generate.trials import Trial

_PACES = "no tests of objectives: they are evaluated at each scrape, and promtool knows one pace; --only slo writes them alone"
_UNKNOWN = "no WatchbillConfigMismatch: without the values of its variables nobody knows the digest that the exporter will have"


def rule_groups(loaded: LoadedConfig, asked: Asked) -> tuple[list[Group], list[str]]:
    """The groups in their order, and what the user should know of what was left out."""
    groups: list[Group] = []
    warnings: list[str] = []
    if "slo" in asked.only:
        groups, warnings = slo_groups(loaded.config, asked)
    if "check" in asked.only:
        found, warned = check_groups(loaded.config, asked)
        groups, warnings = groups + found, warnings + warned
    if "self" in asked.only:
        groups += _own_groups(loaded, asked)
        warnings += [] if loaded.digest else [_UNKNOWN]
    return groups, warnings


def rule_trials(loaded: LoadedConfig, asked: Asked, *, slow: bool = False) -> tuple[list[Trial], list[str]]:
    """Tests of the rules that ``rule_groups`` gives for the same; ``slow``: of those that wait for very long."""
    if slow:
        return check_trials(loaded.config, asked, slow=True) if "check" in asked.only else [], []
    asked = at_pace(asked)
    trials = quiet_trials(_one_of_each_rule(loaded, asked), asked, digest=loaded.digest)
    warnings: list[str] = []
    if "slo" in asked.only and asked.evaluation_interval == asked.scrape_interval:
        trials += slo_trials(loaded.config, asked)
    elif "slo" in asked.only and loaded.config.slos:
        warnings.append(_PACES)
    if "check" in asked.only:
        trials += check_trials(loaded.config, asked)
        waiting = slow_alerts(loaded.config, asked)
        warnings += [_slow(waiting)] if waiting else []
    if "self" in asked.only:
        groups = _own_groups(loaded, asked)
        alerts = [rule for group in groups for rule in group.rules if isinstance(rule, Alert)]
        trials += own_trials(alerts, asked.checks(loaded.config), asked, digest=loaded.digest)
        trials += discovery_trials(alerts, loaded.config.discover, asked)
    return trials, warnings


def _own_groups(loaded: LoadedConfig, asked: Asked) -> list[Group]:
    checks, blocks = asked.checks(loaded.config), loaded.config.discover
    return own_groups(asked, checks, digest=loaded.digest, blocks=blocks)


def evaluation_pace(asked: Asked, *, slow: bool) -> timedelta:
    return SLOW_EVALUATION if slow else at_pace(asked).evaluation_interval


def at_pace(asked: Asked) -> Asked:
    """Objectives are evaluated at each scrape, whatever else is; promtool knows one pace for all groups."""
    return replace(asked, evaluation_interval=asked.scrape_interval) if asked.only == {"slo"} else asked


def _one_of_each_rule(loaded: LoadedConfig, asked: Asked) -> list[Check]:
    """The first and the last check of each rule, by their ids."""
    found = {
        check.id: check
        for ruled in ruled_checks(loaded.config, asked)
        for check in (ruled.checks[0], ruled.checks[-1])
    }
    return [found[check_id] for check_id in sorted(found)]


def _slow(count: int) -> str:
    they = "alert waits" if count == 1 else "alerts wait"
    return f"{count} {they} too long for these tests: --slow writes its own"
