"""The checks that discovery makes: what sources found last, each target made a check of by its block's template.

It changes nothing that runs: it says what there is to be (:class:`Whole`), and takes that on once it has been made so.
Only targets that are new or other than before are made anew, since a check is a function of its target and template.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import anyio.lowlevel
import structlog

from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.discovery import (
    ADDRESS,
    Differences,
    TargetGroup,
    Template,
    targets_of,
    without_credentials,
)
from watchbill.domain.errors import WatchbillError
from watchbill.domain.messages import TargetsFound
from watchbill.domain.plan import MASS_DELETE_FLOOR, Plan
from watchbill.domain.units import Instant

log = structlog.get_logger()

TARGETS_A_STEP = 50
"""Unpickling as many checks takes the event loop half a millisecond."""
GROUPS_A_STEP = 500
MOST_CHECKS = 100_000
"""Of all blocks and those that are declared; a target beyond them is none."""
MOST_LINES = 10
"""Of the log, for targets that cannot be made checks of."""

Made: TypeAlias = Check | str | None
"""The check of a target, or why there can be none; ``None`` where a rule of the block leaves the target out."""
Expand: TypeAlias = Callable[[Template, Sequence[Mapping[str, str]]], Awaitable[Sequence[Made]]]
"""What a template makes of each of these targets, made where it holds nobody."""
Labels: TypeAlias = tuple[tuple[str, str], ...]
Groups: TypeAlias = tuple[TargetGroup, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of one block's targets. ``kept``: checks that the source has no more, and that were not let go."""

    checks: int = 0
    invalid: int = 0
    duplicate: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """What a source has now and was not followed in, since it would have deleted most of its block."""

    groups: Groups
    gone: int


@dataclass(frozen=True, slots=True)
class Whole:
    """A configuration with its discovered checks among the declared ones, and how they came to be."""

    loaded: LoadedConfig
    found: Mapping[str, Groups]
    made: Mapping[str, tuple[bytes, Mapping[Labels, Made]]]
    tallies: Mapping[str, Tally]
    changes: Mapping[str, Differences]
    problems: Sequence[tuple[str, str, str]] = ()
    """(block, target, why) of targets that were looked at now and are no checks."""


async def _nobody(_: Template, __: Sequence[Mapping[str, str]]) -> Sequence[Made]:
    raise WatchbillError("nobody makes checks of targets here")


@dataclass(slots=True)
class Discovered:
    """What holds now, by block. Not to be changed by two at once: whoever reconciles holds a lock."""

    expand: Expand = _nobody
    found: Mapping[str, Groups] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    _made: Mapping[str, tuple[bytes, Mapping[Labels, Made]]] = field(default_factory=dict)

    async def complete(
        self,
        loaded: LoadedConfig,
        running: Mapping[str, Check],
        *,
        found: Mapping[str, Iterable[TargetGroup]] | None = None,
        allow_mass_delete: bool = False,
    ) -> Whole:
        """``loaded`` with the checks of what was found last; of the blocks in ``found`` with those instead.

        What was refused is followed after all where it is allowed now. A check that comes out as it runs is the object
        that runs.

        :raises WatchbillError: checks could not be made.
        """
        checks, origins = loaded.declared(), dict[str, str]()
        groups, made, tallies = dict[str, Groups](), {}, {}
        changes = {
            block: Differences((), tuple(group.source for group in before))
            for block, before in self.found.items()
            if block not in loaded.templates
        }
        problems: list[tuple[str, str, str]] = []
        for block, template in loaded.templates.items():
            groups[block] = self._groups(loaded, block, found or {}, allow=allow_mass_delete)
            changes[block] = await _differences(self.found.get(block, ()), groups[block])
            made[block] = (
                template.digest,
                await self._expanded(block, template, groups[block], running, problems),
            )
            tallies[block] = await _merge(block, groups[block], made[block][1], checks, origins)
        if loaded.templates:  # without blocks it is whole as it is
            config = loaded.config.model_copy(update={"checks": checks})
            loaded = replace(loaded, config=config, discovered=origins)
        return Whole(loaded, groups, made, tallies, changes, problems)

    def adopt(self, whole: Whole, at: Instant) -> list[TargetsFound]:
        """What holds now, and for history how it differs from before."""
        events = [
            TargetsFound(block, differs.changed, differs.gone, at)
            for block, differs in whole.changes.items()
            if differs.changed or differs.gone
        ]
        for block in list(self.refused):
            # Whatever was taken on instead, what was refused before it is no longer what the source has.
            if self.found.get(block) is not whole.found.get(block):
                del self.refused[block]
        _tell(whole, self.tallies)
        self.found, self._made, self.tallies = whole.found, whole.made, whole.tallies
        return events

    async def is_news(self, block: str, groups: Sequence[TargetGroup]) -> bool:
        """Whether there is anything to do: it is not what holds, nor what was refused the last time."""
        found, refused = self.found.get(block), self.refused.get(block)
        if found is not None and await _equal(found, groups):
            self.refused.pop(block, None)
            return False
        return refused is None or not await _equal(refused.groups, groups)

    def refuse(self, block: str, groups: Iterable[TargetGroup], gone: int) -> None:
        self.refused[block] = Refused(tuple(groups), gone)

    def tally(self, block: str) -> Tally:
        tally = self.tallies.get(block, Tally())
        refused = self.refused.get(block)
        return tally if refused is None else replace(tally, kept=refused.gone)

    def _groups(
        self, loaded: LoadedConfig, block: str, found: Mapping[str, Iterable[TargetGroup]], *, allow: bool
    ) -> Groups:
        if block in found:
            return tuple(found[block])
        if block in self.refused and (allow or may_delete_most(loaded, block)):
            return self.refused[block].groups
        return self.found.get(block, ())

    async def _expanded(
        self,
        block: str,
        template: Template,
        groups: Groups,
        running: Mapping[str, Check],
        problems: list[tuple[str, str, str]],
    ) -> Mapping[Labels, Made]:
        digest, known = self._made.get(block, (b"", {}))
        known = known if digest == template.digest else {}
        made: dict[Labels, Made] = {}
        missing: dict[Labels, dict[str, str]] = {}
        async for target in _each(groups):
            labels = _key(target)
            if labels in known:
                made[labels] = known[labels]
            else:
                missing[labels] = target
        wanted = list(missing.items())
        for start in range(0, len(wanted), TARGETS_A_STEP):
            step = wanted[start : start + TARGETS_A_STEP]
            answers = await self.expand(template, [target for _, target in step])
            for (labels, target), answer in zip(step, answers, strict=True):
                made[labels] = _as_it_runs(answer, running)
                if isinstance(answer, str):
                    problems.append((block, without_credentials(target.get(ADDRESS, "")), answer))
        return made


def may_delete_most(loaded: LoadedConfig, block: str) -> bool:
    return (loaded.config.discover[block].mass_delete or loaded.config.limits.mass_delete) == "allow"


def deleted_of(block: str, plan: Plan, loaded: LoadedConfig) -> tuple[int, int]:
    """How many checks of this block a plan deletes, and how many it has."""
    return (
        sum(loaded.discovered.get(check_id) == block for check_id in plan.removed),
        sum(origin == block for origin in loaded.discovered.values()),
    )


def deletes_most(deleted: int, running: int) -> bool:
    """More than half, and more than ten."""
    return deleted > MASS_DELETE_FLOOR and 2 * deleted > running


async def _each(groups: Groups) -> AsyncIterator[dict[str, str]]:
    """Every target with all its labels; others run in between."""
    number = 0
    for group in groups:
        for target in targets_of(group):
            yield target
            number += 1
            if number % TARGETS_A_STEP == 0:
                await anyio.lowlevel.checkpoint()


async def _equal(one: Sequence[TargetGroup], other: Sequence[TargetGroup]) -> bool:
    if len(one) != len(other):
        return False
    for start in range(0, len(one), GROUPS_A_STEP):
        if one[start : start + GROUPS_A_STEP] != other[start : start + GROUPS_A_STEP]:
            return False
        await anyio.lowlevel.checkpoint()
    return True


async def _differences(before: Groups, after: Groups) -> Differences:
    if before is after:
        return Differences((), ())
    known = {group.source: group for group in before}
    changed = []
    for number, group in enumerate(after):
        if known.pop(group.source, None) != group:
            changed.append(group)
        if number % GROUPS_A_STEP == 0:
            await anyio.lowlevel.checkpoint()
    return Differences(tuple(changed), tuple(known))


async def _merge(
    block: str,
    groups: Groups,
    made: Mapping[Labels, Made],
    checks: dict[str, Check],
    origins: dict[str, str],
) -> Tally:
    """Put the block's checks among the others: what is there already stays."""
    before, invalid, duplicate = len(checks), 0, 0
    async for target in _each(groups):
        match made[_key(target)]:
            case None:
                pass
            case str():
                invalid += 1
            case _ if len(checks) >= MOST_CHECKS:
                invalid += 1
            case check if check.id in checks:
                duplicate += 1
            case check:
                checks[check.id] = check
                origins[check.id] = block
    return Tally(len(checks) - before, invalid, duplicate)


def _key(target: Mapping[str, str]) -> Labels:
    return tuple(sorted(target.items()))


def _as_it_runs(made: Made, running: Mapping[str, Check]) -> Made:
    if made is None or isinstance(made, str):
        return made
    runs = running.get(made.id)
    return runs if runs is not None and runs == made else made


def _tell(whole: Whole, before: Mapping[str, Tally]) -> None:
    for block, target, reason in whole.problems[:MOST_LINES]:
        log.warning("discovery.target_dropped", discovery=block, target=target, reason=reason)
    if len(whole.problems) > MOST_LINES:
        log.warning("discovery.targets_dropped", more=len(whole.problems) - MOST_LINES)
    for block, tally in whole.tallies.items():
        if tally.duplicate > before.get(block, Tally()).duplicate:
            log.warning("discovery.duplicate_ids", discovery=block, targets=tally.duplicate)
