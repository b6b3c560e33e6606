"""What makes the exporter read its configuration again: whoever asks, and a change of its content."""

from __future__ import annotations

from functools import partial

import anyio
import structlog

from watchbill import systemd
from watchbill.bus import Bus
from watchbill.config.watch import Named, watch
from watchbill.domain.errors import WatchbillError
from watchbill.domain.messages import ReloadConfig

log = structlog.get_logger()


class Reloader:
    """Asked from anywhere, any number of times; reloads one after the other, and never misses the last wish."""

    def __init__(self, bus: Bus, *, allow_mass_delete: bool) -> None:
        self._bus = bus
        self._allow_mass_delete = allow_mass_delete
        self._asked = anyio.Event()
        self._cause = ""

    def ask(self, cause: str) -> None:
        self._cause = cause
        self._asked.set()

    async def run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked = anyio.Event()
            systemd.notify(*systemd.reloading())
            try:
                await self._bus.send(ReloadConfig(self._cause, self._allow_mass_delete))
            except WatchbillError:
                pass  # told and counted where it was rejected; the old configuration runs on
            except Exception:  # the border: reloading must work the next time
                log.exception("config.reload_failed")
            systemd.notify(systemd.READY)


async def follow(path: str, reloader: Reloader, *, named: Named) -> None:
    """Ask whenever the content under ``path``, or of the files that are ``named``, has changed."""

    async def changed() -> None:
        reloader.ask("change")

    # What changed between loading and the first look is asked for once.
    await watch(path, changed, also=named, started=partial(reloader.ask, "change"))
