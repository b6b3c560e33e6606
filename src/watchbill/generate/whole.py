"""All the groups of rules that were asked for, of one configuration."""

from __future__ import annotations

from watchbill.domain.config import LoadedConfig
from watchbill.generate.asked import Asked
from watchbill.generate.own import own_groups
from watchbill.generate.rules import Group


def rule_groups(loaded: LoadedConfig, asked: Asked) -> tuple[list[Group], list[str]]:
    """The groups in their order, and what the user should know of what was left out."""
    groups: list[Group] = []
    warnings: list[str] = []
    if "self" in asked.only:
        groups += own_groups(asked)
    return groups, warnings
