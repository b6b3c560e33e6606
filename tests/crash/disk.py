"""A folder on a disk that loses its power: what was synced is there, of the rest anything may be.

What was written to a file counts once the file was synced; a name (a file made, renamed, removed) once the folder was.
Until then each write may have reached the disk whole, not at all, or some of its sectors; each name too, and in
another order.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from tests.crash.traced import (
    Copied,
    Cut,
    Deed,
    Linked,
    NotSynced,
    Opened,
    Removed,
    Renamed,
    Said,
    Synced,
    Written,
)

Image: TypeAlias = dict[str, bytes]
MANNERS = ("dropped", "prefix", "subset", "torn 512", "torn 4096", "names only", "writes only")
"""How the power cut treats what was not synced."""


@dataclass
class Inode:
    now: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    """(when, where, what was written there, or ``None``: the file was cut to that length)"""

    def sync(self) -> None:
        for _, at, data in self.waiting:
            _apply(self.durable, at, data)
        self.waiting.clear()


@dataclass(frozen=True)
class Naming:
    """What one call made of the names: all of it or nothing."""

    when: int
    names: Mapping[str, Inode | None]


class Disk:
    """Follows deeds; :meth:`image` says what a power cut now would leave."""

    def __init__(self, files: Image) -> None:
        self._names = {name: Inode(bytearray(data), bytearray(data)) for name, data in files.items()}
        self._durable = dict(self._names)
        self._waiting: list[Naming] = []
        self._appending: set[int] = set()
        self._positions: dict[int, int] = {}
        self._clock = 0

    def now(self) -> Image:
        """What the folder holds as long as there is power."""
        return {name: bytes(inode.now) for name, inode in self._names.items()}

    @property
    def waiting(self) -> int:
        """How much there is that a power cut may take, but for who holds the lock, which nobody needs to know."""
        files = (inode for name, inode in self._names.items() if not name.endswith(".lock"))
        return len(self._waiting) + sum(len(inode.waiting) for inode in files)

    def do(self, deed: Deed) -> None:
        self._clock += 1
        match deed:
            case Opened():
                self._open(deed)
            case Written():
                self._write(self._names[deed.name], deed.data, deed.at)
            case Copied():
                source = self._names[deed.source]
                at = self._positions.get(id(source), 0) if deed.source_at is None else deed.source_at
                if deed.source_at is None:
                    self._positions[id(source)] = at + deed.length
                self._write(self._names[deed.name], bytes(source.now[at : at + deed.length]), None)
            case Cut():
                self._change(self._names[deed.name], deed.length, None)
            case Synced(""):
                for naming in self._waiting:
                    _name(self._durable, naming.names)
                self._waiting.clear()
            case Synced():
                self._names[deed.name].sync()
            case NotSynced():
                # The pages count as clean from now on: no later sync brings them to the disk.
                self._names[deed.name].waiting.clear()
            case Renamed():
                self._rename({deed.to: self._names[deed.name], deed.name: None})
            case Linked():
                self._rename({deed.to: self._names[deed.name]})
            case Removed():
                self._rename({deed.name: None})
            case Said():
                pass
            case _:
                assert_never(deed)

    def image(self, manner: str, chance: random.Random) -> Image:
        until = chance.randint(0, self._clock) if manner == "prefix" else self._clock
        names = dict(self._durable)
        for naming in self._waiting:
            kept = {
                "dropped": False,
                "prefix": naming.when <= until,
                "writes only": False,
                "names only": True,
            }
            if kept.get(manner, chance.random() < 0.5):
                _name(names, naming.names)
        return {name: _survived(inode, manner, until, chance) for name, inode in names.items()}

    # --- inside -------------------------------------------------------------------------------------

    def _open(self, deed: Opened) -> None:
        if deed.name not in self._names:
            self._rename({deed.name: Inode()})
        inode = self._names[deed.name]
        self._positions[id(inode)] = 0
        (self._appending.add if deed.append else self._appending.discard)(id(inode))
        if deed.truncate and inode.now:
            self._change(inode, 0, None)

    def _write(self, inode: Inode, data: bytes, at: int | None) -> None:
        if at is None:
            appended = id(inode) in self._appending
            at = len(inode.now) if appended else self._positions.get(id(inode), 0)
            self._positions[id(inode)] = at + len(data)
        self._change(inode, at, data)

    def _change(self, inode: Inode, at: int, data: bytes | None) -> None:
        _apply(inode.now, at, data)
        inode.waiting.append((self._clock, at, data))

    def _rename(self, names: Mapping[str, Inode | None]) -> None:
        _name(self._names, names)
        self._waiting.append(Naming(self._clock, names))


def _survived(inode: Inode, manner: str, until: int, chance: random.Random) -> bytes:
    content = bytearray(inode.durable)
    for when, at, data in inode.waiting:
        match manner:
            case "dropped" | "names only":
                continue
            case "prefix":
                if when <= until:
                    _apply(content, at, data)
            case "writes only":
                _apply(content, at, data)
            case "torn 512" | "torn 4096" if data is not None:
                _tear(content, at, data, int(manner.split()[1]), chance)
            case _:
                if chance.random() < 0.5:
                    _apply(content, at, data)
    return bytes(content)


def _tear(content: bytearray, at: int, data: bytes, sector: int, chance: random.Random) -> None:
    """Of a write some of its sectors; where the file grew, what did not come is zeros, or not there."""
    rate = chance.choice((0.1, 0.5, 0.9))
    if chance.random() < 0.5 and len(content) < at + len(data):
        content.extend(bytes(at + len(data) - len(content)))
    start = at
    while start < at + len(data):
        end = min((start // sector + 1) * sector, at + len(data))
        if chance.random() < rate:
            _apply(content, start, data[start - at : end - at])
        start = end


def _apply(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    if data is not None:
        content[at : at + len(data)] = data


def _name(names: dict[str, Inode], changed: Mapping[str, Inode | None]) -> None:
    for name, inode in changed.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode
