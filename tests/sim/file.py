"""The file that people edit: what they declare, how they change it, and the mistakes they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio

from watchbill.domain.checks import Check, parse_check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError, Problem
from watchbill.testing import config_of

INTERVALS = (*("1m",) * 12, "30s", "2m", "15s")
DENSE = ("2s", "2s", "3s", "5s", "7s", "20s")
SHORT = {"interval": "2s"}
"""As short as the timeout, so that one probe may still run when the next is due."""
SERVICES = ("shop", "mail", None, None)
TARGETS = 60
SHORT_SHARE = 0.4
HOLDS_UP_SHARE = 0.5
Declared = Mapping[str, Any]


@dataclass
class File:
    """``content`` is what a reload reads; what each loaded configuration was made of is remembered."""

    random: Random
    size: int
    dense: bool = False
    """Checks are due every few seconds, so that their probes meet more often."""
    checks: dict[str, Declared] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    limits: dict[str, Any] = field(
        default_factory=lambda: {"mass_delete": "refuse", "concurrent_probes": 1000}
    )
    content: LoadedConfig | Exception = field(default_factory=config_of)
    slow: bool = True
    stand_still: Callable[[float], None] = lambda _: None
    """What loading does now and then to everybody else, so that much falls due at once when it is done."""
    _made_of: dict[int, tuple[LoadedConfig, dict[str, Declared]]] = field(default_factory=dict)
    _named: int = 0
    _parsed: dict[str, tuple[Declared, Check]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for _ in range(self.size):
            self.checks[self._name()] = self._draw()
        if self.random.random() < SHORT_SHARE:
            self.checks[f"c{self._named}"] = {**self._draw(), **SHORT}
        self.save()

    async def load(self, _: Mapping[str, Check]) -> LoadedConfig:
        """A :data:`~watchbill.ports.LoadConfig` that reads at some instant while it is under way."""
        await anyio.sleep(self.random.choice((0, 0.02, 1.5)) if self.slow else 0)
        content = self.content
        if self.slow and self.random.random() < HOLDS_UP_SHARE:
            self.stand_still(self.random.choice((0.01, 0.04, 0.5)))
        await anyio.sleep(self.random.choice((0, 0.02, 1.5)) if self.slow else 0)
        if isinstance(content, Exception):
            raise content
        return content

    # --- what people do -----------------------------------------------------------------------------

    def edit(self) -> str:
        """Change some of it."""
        done = [
            self._change(name) for name in self.random.sample(list(self.checks), min(4, len(self.checks)))
        ]
        self.limits["concurrent_probes"] = self.random.choice((1, 5, 1000, 1000))
        self.save()
        return f"edits: {', '.join(filter(None, done)) or 'nothing'}"

    def spoil(self) -> str:
        """Save what must be refused."""
        match self.random.randrange(3):
            case 0:
                self.content = ConfigError((Problem("checks.yaml", 1, 1, "not what it should be"),))
                return "saves a mistake"
            case 1:
                self.content = RuntimeError("the loader has a bug")
                return "saves what crashes the loader"
            case _:
                kept = dict(list(self.checks.items())[: max(1, len(self.checks) // 3)])
                self._save(kept)
                return f"saves {len(kept)} of {len(self.checks)} checks"

    def save(self) -> None:
        self._save(self.checks)

    def newest(self) -> LoadedConfig:
        assert isinstance(self.content, LoadedConfig)
        return self.content

    def declared_in(self, loaded: LoadedConfig) -> dict[str, Declared]:
        return self._made_of[id(loaded)][1]

    # --- inside -------------------------------------------------------------------------------------

    def _save(self, checks: Mapping[str, Declared]) -> None:
        parsed = [self._parse(name, declared) for name, declared in checks.items()]
        self.content = loaded = config_of(*parsed, moved=dict(self.moved), limits=dict(self.limits))
        self._made_of[id(loaded)] = loaded, dict(checks)

    def _parse(self, name: str, declared: Declared) -> Check:
        known = self._parsed.get(name)
        if known is None or known[0] is not declared or self.random.random() < 0.1:
            known = self._parsed[name] = declared, parse_check({"id": name, **declared})
        return known[1]

    def _change(self, name: str) -> str:
        match self.random.randrange(8):
            case 0:
                self.checks[name] = self._draw()
                return f"{name} is another"
            case 1:
                interval = self._interval()
                self.checks[name] = {**self.checks[name], "interval": interval}
                return f"{name} every {interval}"
            case 2:
                parked = self.checks[name].get("enabled", True)
                self.checks[name] = {**self.checks[name], "enabled": not parked}
                return f"{name} {'parked' if parked else 'enabled'}"
            case 3:
                del self.checks[name]
                new = self._revived() or self._name()
                self.checks[new] = self._draw()
                return f"{name} gone, {new} new"
            case 4:
                return self._move(name, self._name())
            case 5:
                between = self._name()
                self._move(name, between)
                return self._move(between, self._name())
            case 6:
                self.checks[name] = {**self.checks[name], "service": self.random.choice(SERVICES)}
                return f"{name} to another service"
            case _:
                return ""

    def _move(self, old: str, new: str) -> str:
        self.checks[new] = self.checks.pop(old)
        self.moved[old] = new
        return f"{old} is now {new}"

    def _revived(self) -> str | None:
        """Now and then a name that there was before comes back for something else."""
        former = [name for number in range(1, self._named) if (name := f"c{number}") not in self.checks]
        if not former or self.random.random() < 0.5:
            return None
        name = self.random.choice(former)
        self.moved.pop(name, None)
        return name

    def _name(self) -> str:
        self._named += 1
        return f"c{self._named}"

    def _interval(self) -> str:
        return self.random.choice(DENSE if self.dense else INTERVALS)

    def _draw(self) -> Declared:
        host = f"t{self.random.randrange(TARGETS)}.test"
        fields: dict[str, Any] = {
            "interval": self._interval(),
            "timeout": "2s",
            "service": self.random.choice(SERVICES),
            "enabled": self.random.random() > 0.05,
        }
        match self.random.randrange(12):
            case 0 | 1:
                return {**fields, "type": "tcp", "host": host, "port": 5432}
            case 2:
                return {**fields, "type": "dns", "name": "shop.test", "server": host}
            case 3:
                return {**fields, "type": "icmp", "host": host, "count": self.random.choice((1, 3))}
            case 4:
                return {**fields, "type": "tls", "host": host}
            case 5:
                return {**fields, "type": "heartbeat", "every": "2m", "grace": "30s"}
            case 6:
                return {**fields, "type": "http", "url": f"https://{host}/"}
            case 7:
                return {**fields, "type": "http", "url": f"http://{host}/", "connection": "reuse"}
            case 8:
                expect = {"latency": "1200ms"}
                return {**fields, "type": "http", "url": f"http://{host}/", "expect": expect}
            case _:
                return {**fields, "type": "http", "url": f"http://{host}/"}
