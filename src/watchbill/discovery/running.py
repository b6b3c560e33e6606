"""The sources of all blocks, each a task of its own, and one task that hands on what they find, block by block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from watchbill.clock import Clock
from watchbill.discovered import Discovered
from watchbill.discovery.sources import Source
from watchbill.domain.config import LoadedConfig
from watchbill.domain.discovery import Discovery, SourceOptions, TargetGroup
from watchbill.domain.errors import MassDeleteError, WatchbillError
from watchbill.domain.messages import ApplyTargets, ConfigReloaded
from watchbill.domain.units import SECOND

log = structlog.get_logger()

REASONS_KEPT = 1000
BACK_AFTER_SECONDS = 60.0
"""A source that crashed begins again after so long."""


@dataclass(frozen=True, slots=True)
class BlockNumbers:
    """Of one block. ``checks``: those it has now; ``kept`` of them the source has no more and were not let go.

    ``failures``: how often its source could not be followed; ``succeeded_at``: when it was last, in seconds, 0 if never.
    """

    checks: int = 0
    invalid: int = 0
    duplicate: int = 0
    kept: int = 0
    failures: int = 0
    succeeded_at: float = 0.0


@dataclass(slots=True)
class _Block:
    """One source that runs. What it has found and nobody has looked at yet is ``pending``."""

    declared: SourceOptions
    folder: str
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    pending: Sequence[TargetGroup] | None = None
    failures: int = 0
    succeeded_at: float = 0.0
    failing: set[str] = field(default_factory=set)
    """Why, as the log was told since all went well: parts of a source that fail take turns."""
    failed_lately: bool = False
    """Since it found something: a part of a source may fail while the rest of it is followed."""


class Discoveries:
    """Follows the blocks of the configuration that holds."""

    def __init__(
        self,
        discovered: Discovered,
        *,
        source_of: Callable[[Discovery, str], Source],
        send: Callable[[ApplyTargets], Awaitable[object]],
        loaded: Callable[[], LoadedConfig],
        clock: Clock,
    ) -> None:
        self._discovered = discovered
        self._source_of = source_of
        self._send = send
        self._loaded = loaded
        self._clock = clock
        self._blocks: dict[str, _Block] = {}
        self._changed = anyio.Event()
        self._found = anyio.Event()

    def configured(self, _: ConfigReloaded) -> None:
        """There may be other blocks now."""
        self._changed.set()

    def statistics(self) -> Mapping[str, BlockNumbers]:
        return {name: self._numbers(name) for name in self._loaded().config.discover}

    def _numbers(self, name: str) -> BlockNumbers:
        tally, block = self._discovered.tally(name), self._blocks.get(name)
        numbers = BlockNumbers(tally.checks, tally.invalid, tally.duplicate, tally.kept)
        if block is None:
            return numbers
        return replace(numbers, failures=block.failures, succeeded_at=block.succeeded_at)

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._hand_on, name="targets")
            while True:
                self._settle(group)
                await self._changed.wait()
                self._changed = anyio.Event()

    # --- sources --------------------------------------------------------------------------------------

    def _settle(self, group: TaskGroup) -> None:
        """A source that is declared as before goes on."""
        loaded = self._loaded()
        declared = loaded.config.discover
        for name, block in list(self._blocks.items()):
            if name not in declared:
                block.scope.cancel()
                del self._blocks[name]
        for name, wanted in declared.items():
            folder = loaded.templates[name].folder
            runs = self._blocks.get(name)
            if runs is not None and (runs.declared, runs.folder) == (wanted.source, folder):
                continue
            block = _Block(wanted.source, folder)
            if runs is not None:
                runs.scope.cancel()
                block.failures, block.succeeded_at = runs.failures, runs.succeeded_at
            self._blocks[name] = block
            group.start_soon(self._follow, name, block, wanted, name=f"discovery {name}")

    async def _follow(self, name: str, block: _Block, declared: Discovery) -> None:
        report = _Report(self, name, block)
        with block.scope:
            while True:
                try:
                    await self._source_of(declared, block.folder)(report)
                except Exception as error:  # the border: one broken source must not end the others
                    log.exception("discovery.crashed", discovery=name)
                    report.failed(
                        f"its source crashed with {type(error).__name__}; the log has the traceback"
                    )
                await anyio.sleep(BACK_AFTER_SECONDS)

    # --- what they find -------------------------------------------------------------------------------

    def last(self, name: str) -> Sequence[TargetGroup]:
        return self._discovered.found.get(name, ())

    def found(self, name: str, block: _Block, groups: Sequence[TargetGroup]) -> None:
        if self._blocks.get(name) is block:
            block.pending = tuple(groups)
            if not block.failed_lately:
                self._recover(name, block)
            block.failed_lately = False
            self._found.set()

    def failed(self, name: str, block: _Block, reason: str) -> None:
        block.failures += 1
        say = log.warning if reason not in block.failing else log.debug  # each minute the same is no news
        say("discovery.failed", discovery=name, reason=reason)
        if len(block.failing) >= REASONS_KEPT:
            block.failing.clear()
        block.failing.add(reason)
        block.failed_lately = True

    async def _hand_on(self) -> None:
        """One after the other: what is found meanwhile takes the place of what was found before."""
        while True:
            await self._found.wait()
            self._found = anyio.Event()
            for name, block in list(self._blocks.items()):
                groups, block.pending = block.pending, None
                if groups is not None:
                    await self._apply(name, block, groups)

    async def _apply(self, name: str, block: _Block, groups: Sequence[TargetGroup]) -> None:
        if not await self._discovered.is_news(name, groups):
            block.succeeded_at = self._clock.now() / SECOND
            return
        try:
            await self._send(ApplyTargets(name, groups))
        except MassDeleteError as error:
            # It was understood and not followed, which is no failure of the source: `kept` says so.
            log.error("discovery.refused", discovery=name, reason=str(error))  # noqa: TRY400 - no traceback
            block.succeeded_at = self._clock.now() / SECOND
        except WatchbillError as error:
            self.failed(name, block, str(error))
        except Exception as error:  # the border: what is found next must be taken on all the same
            log.exception("discovery.not_applied", discovery=name)
            self.failed(name, block, f"its targets could not be taken on ({type(error).__name__})")
        else:
            block.succeeded_at = self._clock.now() / SECOND

    def _recover(self, name: str, block: _Block) -> None:
        if block.failing:
            log.info("discovery.recovered", discovery=name)
            block.failing.clear()


@asynccontextmanager
async def followed(discoveries: Discoveries) -> AsyncIterator[None]:
    """Within the block, and no longer: what is being taken on is finished before it ends."""
    async with anyio.create_task_group() as group:
        group.start_soon(discoveries.run, name="discovery")
        try:
            yield
        finally:
            group.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Report:
    """What one source tells, as long as it is the one that its block has."""

    discoveries: Discoveries
    name: str
    block: Any

    def found(self, groups: Sequence[TargetGroup]) -> None:
        self.discoveries.found(self.name, self.block, groups)

    def failed(self, reason: str) -> None:
        self.discoveries.failed(self.name, self.block, reason)

    def last(self) -> Sequence[TargetGroup]:
        return self.discoveries.last(self.name)
