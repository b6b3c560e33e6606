"""The web configuration, read at the start and again whenever it changes; a broken one leaves what held."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import structlog

from watchbill.config.watch import watch
from watchbill.config.webfile import WebFile
from watchbill.domain.errors import ConfigError
from watchbill.domain.units import Instant
from watchbill.domain.web import WebSettings, WebSettingsError
from watchbill.ports import Offload
from watchbill.web import Live, opened

MOST_PROBLEMS_LOGGED = 20

log = structlog.get_logger()


class Rereading:
    """Follows one file and those it names: its own content, certificates, keys, authorities."""

    def __init__(self, file: WebFile, live: Live, *, now: Callable[[], Instant], offload: Offload) -> None:
        self._file = file
        self.live = live
        self._now = now
        self._offload = offload
        self._one_at_a_time = anyio.Lock()

    async def run(self, following: Callable[..., Coroutine[Any, Any, None]] = watch) -> None:
        looking = anyio.Event()
        async with anyio.create_task_group() as group:
            follow = partial(
                following, self._file.path, self.read, also=lambda: self._file.named, started=looking.set
            )
            group.start_soon(follow, name="web configuration, followed")
            await looking.wait()
            # Opening a long history takes minutes: what changed between the first reading and the first look is read too.
            await self.read()

    async def read(self) -> None:
        """Once more; never raises for what is in the files. One after the other, so that the last to begin holds."""
        async with self._one_at_a_time:
            await self._read()

    async def _read(self) -> None:
        try:
            settings: WebSettings = await self._offload(self._file.load)
            context = await self._offload(partial(self.live.prepared, settings))
            self.live.replace(settings, context, at=self._now())
        except ConfigError as error:
            self._reject([str(problem) for problem in error.problems])
        except WebSettingsError as error:
            self._reject([str(self._file.problem(error.key, str(error)))])
        except Exception:  # the border: whatever a file does to those who read it, what held goes on
            self.live.rejected()
            log.exception("web.config_failed", file=self._file.path)
        else:
            log.info("web.config_reloaded", file=self._file.path)

    def _reject(self, problems: list[str]) -> None:
        self.live.rejected()
        log.error("web.config_rejected", file=self._file.path, problems=problems[:MOST_PROBLEMS_LOGGED])


def first(path: str, *, now: Callable[[], Instant], offload: Offload) -> Rereading:
    """:raises ConfigError: the web configuration cannot be used; with every mistake and its place."""
    file = WebFile(path)
    settings = file.load()
    try:
        live = opened(settings, at=now())
    except WebSettingsError as error:
        raise ConfigError((file.problem(error.key, str(error)),)) from None
    return Rereading(file, live, now=now, offload=offload)
