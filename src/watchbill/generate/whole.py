"""All the groups of rules that were asked for, of one configuration."""

from __future__ import annotations

from watchbill.domain.config import LoadedConfig
from watchbill.generate.asked import Asked
from watchbill.generate.checks import check_groups
from watchbill.generate.own import own_groups
from watchbill.generate.rules import Group
from watchbill.generate.slos import slo_groups


def rule_groups(loaded: LoadedConfig, asked: Asked) -> tuple[list[Group], list[str]]:
    """The groups in their order, and what the user should know of what was left out."""
    groups: list[Group] = []
    warnings: list[str] = []
    if "slo" in asked.only:
        groups, warnings = slo_groups(loaded.config, asked)
    if "check" in asked.only:
        found, said = check_groups(loaded.config, asked)
        groups, warnings = groups + found, warnings + said
    if "self" in asked.only:
        groups += own_groups(asked, asked.checks(loaded.config), digest=loaded.digest)
    return groups, warnings
