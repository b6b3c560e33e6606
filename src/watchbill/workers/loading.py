"""Loading a configuration aside: a worker parses it, and only what has changed comes over, a few checks at a time.

The worker lives for one configuration. Kept, it would hold hundreds of megabytes for thousands of checks; starting it
takes a third of a second, which a load that is worth a process does not notice.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from watchbill.config import load
from watchbill.config.files import Reading
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import WatchbillError
from watchbill.workers.process import Worker, WorkerLostError, open_worker

SMALL_BYTES = 256 * 1024
"""What is not larger is loaded at the start without a worker: in less time than that takes to start."""
DIGESTS_A_STEP = 2000
LONGEST_LOAD_SECONDS = 600.0
"""A worker that was stopped or waits for a dead file server must not keep every later reload waiting."""


class Loader:
    """Loads what stands under one path, again and again; from one time to the next it keeps digests alone."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[str, tuple[weakref.ref[Check], bytes]] = {}
        self._first: LoadedConfig | None = None

    def start(self) -> None:
        """Load for the first time, before there is an event loop to hold; :meth:`first` hands it over.

        :raises ConfigError: the configuration is not valid.
        :raises WatchbillError: the worker ended before it could say.
        """
        if _size(self._path) <= SMALL_BYTES:
            self._first = load(self._path, environ=os.environ)
        else:
            options = {"use_uvloop": True}
            self._first = anyio.run(self.load, {}, backend="asyncio", backend_options=options)

    def first(self) -> LoadedConfig:
        """What was loaded at the start, once: whoever kept it would keep every check that a reload replaces."""
        loaded, self._first = self._first, None
        if loaded is None:
            raise LookupError("nothing was loaded, or it was handed over before")
        return loaded

    async def load(self, running: Mapping[str, Check]) -> LoadedConfig:
        """A check that is declared as it runs is the object that runs.

        :raises ConfigError: the configuration is not valid.
        :raises WatchbillError: the worker ended before it could say, or took too long.
        """
        try:
            with anyio.move_on_after(LONGEST_LOAD_SECONDS):
                async with open_worker("parse") as worker:
                    return await self._load(worker, running)
        except WorkerLostError as error:
            reason = (
                "the process that loads the configuration ended early (out of memory?); nothing was changed"
            )
            raise WatchbillError(reason) from error
        raise WatchbillError(
            f"loading the configuration took longer than {LONGEST_LOAD_SECONDS:.0f} s; nothing was changed"
        )

    async def _load(self, worker: Worker, running: Mapping[str, Check]) -> LoadedConfig:
        await worker.send((self._path, dict(os.environ)))
        loaded: LoadedConfig = _found(await worker.receive())
        digests: dict[str, bytes] = _found(await worker.receive())
        checks = await self._unchanged(digests, running)
        wanted = [check_id for check_id in digests if check_id not in checks]
        await worker.send(wanted)
        while len(checks) < len(digests):
            for check in _found(await worker.receive()):
                # It may run all the same: declared twice, or loaded before by another way.
                runs = running.get(check.id)
                checks[check.id] = runs if runs is not None and runs == check else check
        await self._remember(digests, checks)
        declared = {check_id: checks[check_id] for check_id in digests}
        return replace(loaded, config=loaded.config.model_copy(update={"checks": declared}))

    async def _unchanged(
        self, digests: Mapping[str, bytes], running: Mapping[str, Check]
    ) -> dict[str, Check]:
        found = {}
        for number, (check_id, digest) in zip(count(1), digests.items(), strict=False):
            check = running.get(check_id)
            known = self._known.get(check_id)
            if check is not None and known is not None and known[1] == digest and known[0]() is check:
                found[check_id] = check
            if number % DIGESTS_A_STEP == 0:
                await anyio.lowlevel.checkpoint()
        return found

    async def _remember(self, digests: Mapping[str, bytes], checks: Mapping[str, Check]) -> None:
        # By weak references: what no longer runs must not live on for the sake of comparing.
        known = {}
        for number, (check_id, digest) in zip(count(1), digests.items(), strict=False):
            known[check_id] = weakref.ref(checks[check_id]), digest
            if number % DIGESTS_A_STEP == 0:
                await anyio.lowlevel.checkpoint()
        self._known = known


def _found(answer: object) -> Any:
    if isinstance(answer, WatchbillError):
        raise answer
    return answer


def _size(path: str) -> int:
    """Of all files together, in bytes; what cannot be looked at is nothing here, and a mistake to whoever loads it."""
    try:
        return sum(Path(file).stat().st_size for file in Reading(path).paths())
    except (OSError, ValueError):
        return 0
