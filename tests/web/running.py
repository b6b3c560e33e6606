"""A running application as the web sees it, without one running: a board, a bus and a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from fastapi import FastAPI
from tests.metrics.states import FixedClock, Scene, declare

from watchbill.board import Board
from watchbill.bus import Bus
from watchbill.domain.checks import Check
from watchbill.domain.config import Config, LoadedConfig, config_digest
from watchbill.domain.errors import WatchbillError
from watchbill.domain.fields import Service
from watchbill.domain.history import Coverage, StoredResult
from watchbill.domain.messages import ConfigReloaded, Event, RecordHeartbeat, ReloadConfig
from watchbill.domain.places import NOWHERE, Places
from watchbill.domain.plan import Change, FieldChange, Plan
from watchbill.metrics import Metrics
from watchbill.ports import Copies
from watchbill.testing import inline
from watchbill.web import HttpTally, Live, Passwords, create_app
from watchbill.web.app import application
from watchbill.web.backup import Backups
from watchbill.web.parts import Parts


def loaded_config(*checks: Check, **sections: Any) -> LoadedConfig:
    config = Config(checks={check.id: check for check in checks}, **sections)
    return LoadedConfig(config, config_digest(config), "c0ffee")


@dataclass
class FakeStorage:
    """Answers what it was given, and remembers what it was asked; or fails."""

    rows: Sequence[StoredResult] = ()
    coverages: Sequence[Coverage] = ()
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    error: WatchbillError | None = None

    async def results(self, check_id: str, *, since: int, until: int, limit: int) -> Sequence[StoredResult]:
        self.asked.append((check_id, since, until, limit))
        if self.error:
            raise self.error
        return self.rows

    async def coverage(self, *, since: int, until: int) -> Sequence[Coverage]:
        self.asked.append((since, until))
        if self.error:
            raise self.error
        return self.coverages


class _Anything:
    """Stands for what nobody asks."""

    def __getattr__(self, name: str) -> Any:
        return self


def bare_application() -> FastAPI:
    """Every route, and nothing behind it."""
    nothing: Any = _Anything()
    return application(Parts(nothing, nothing, nothing, "", True, nothing), Backups(None, allowed=True))


@dataclass
class Site:
    """What a web application is made of; ``client()`` speaks to it without a socket."""

    scene: Scene = field(default_factory=Scene)
    loaded: LoadedConfig = field(default_factory=loaded_config)
    storage: FakeStorage = field(default_factory=FakeStorage)
    copies: Copies | None = None
    location: str = ""
    lifecycle: bool = True
    live: Live | None = None
    places: Places = NOWHERE
    rejection: Exception | None = None
    is_ready: bool = True
    is_healthy: bool = True
    commands: list[ReloadConfig | RecordHeartbeat] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bus = Bus({ReloadConfig: self._reload, RecordHeartbeat: self._heartbeat})
        self.tally = HttpTally()
        self.app = create_app(
            self,
            storage=self.storage,
            copies=self.copies,
            http=self.tally,
            offload=inline,
            enable_lifecycle=self.lifecycle,
            version="1.2.3",
            live=self.live,
            passwords=Passwords(b"k" * 32, inline),
            places=self.places,
        )

    @property
    def clock(self) -> FixedClock:
        return self.scene.clock

    @property
    def board(self) -> Board:
        return self.scene.board

    @property
    def metrics(self) -> Metrics:
        return self.scene.metrics

    def ready(self) -> bool:
        return self.is_ready

    def healthy(self) -> bool:
        return self.is_healthy

    def _reload(self, command: ReloadConfig) -> Sequence[Event]:
        self.commands.append(command)
        if self.rejection:
            raise self.rejection
        changed = (Change("b", (FieldChange("url", "http://old/", "http://new/"),)),)
        moved = (Change("new", (), moved_from="old"),)
        plan = Plan(added=("a",), changed=changed, removed=("c", "d"), moved=moved)
        return [ConfigReloaded(self.loaded, plan, self.clock.now(), command.cause)]

    def _heartbeat(self, command: RecordHeartbeat) -> Sequence[Event]:
        self.commands.append(command)
        return []

    def client(self) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://watchbill.test")

    def run(self, *checks: Check, **sections: Any) -> None:
        """Declare and register these checks."""
        services = {check.service: Service() for check in checks if check.service}
        self.loaded = loaded_config(*checks, **{"services": services, **sections})
        self.scene.register(*checks)
        self.board.declared_services = self.loaded.config.services


def site_with(*checks: Check, **parts: Any) -> Site:
    site = Site(**parts)
    site.run(*(checks or (declare(),)))
    return site
