"""Targets in files: read when a file stands still after a change, and every now and then all the same.

A file that cannot be read, or makes no sense, keeps the targets that it had, and the others are followed. One that is
gone has none. A file that is being written to is waited for: its state has to be the same twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import anyio

from watchbill.discovery.formats import NoGroupsError, groups_in
from watchbill.discovery.sources import Report, Source
from watchbill.domain.discovery import FileSd, TargetGroup
from watchbill.ports import Files, FilesError, Judge, UnjudgedError

LOOK_SECONDS = 0.8
"""Two looks, one that sees a change and one that sees it settled, take less than two seconds."""
MOST_BYTES = 32 << 20
FILE_LABEL = "__meta_filepath"


def file_sd(declared: FileSd, *, folder: str, files: Files, judge: Judge) -> Source:
    """``folder``: what the paths are relative to."""
    patterns = tuple(os.path.normpath(os.path.join(folder, pattern)) for pattern in declared.files)  # noqa: PTH118 - text in, text out
    return partial(_follow, patterns, declared.refresh.total_seconds(), files, judge)


async def _follow(
    patterns: tuple[str, ...], refresh_seconds: float, files: Files, judge: Judge, report: Report
) -> None:
    following = _Following(patterns, files, judge, report)
    following.remember()
    looks = max(1, round(refresh_seconds / LOOK_SECONDS))
    while True:
        for _ in range(looks):
            await following.look()
            await anyio.sleep(LOOK_SECONDS)
        following.forget()


@dataclass(slots=True)
class _Following:
    """What is known of the files. ``read``: their state when they were read last; ``seen``: at the last look."""

    patterns: tuple[str, ...]
    files: Files
    judge: Judge
    report: Report
    read: dict[str, str] = field(default_factory=dict)
    seen: Mapping[str, str] | None = None
    groups: dict[str, tuple[TargetGroup, ...]] = field(default_factory=dict)
    told: bool = False
    """Whether what is known was told since everything was read anew."""
    failing: bool = False

    def remember(self) -> None:
        """What was found before this process began stays for files that cannot be read just now."""
        for group in self.report.last():
            path = group.source.rpartition(":")[0]
            self.groups[path] = (*self.groups.get(path, ()), group)

    def forget(self) -> None:
        """Read everything again."""
        self.read, self.told, self.failing = {}, False, False

    async def look(self) -> None:
        try:
            now = await self.files.look(self.patterns)
        except FilesError as error:
            if not self.failing:
                self.report.failed(str(error))
            self.seen, self.told, self.failing = None, False, True
            return
        before, self.seen, self.failing = self.seen, now, False
        if before is not None:  # half a file may be there already: what stands still is seen at the next look
            await self._compare(before, now)

    async def _compare(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        gone = self.groups.keys() - now.keys()
        for path in gone:
            del self.groups[path]
        self.read = {path: state for path, state in self.read.items() if path in now}
        settled = [path for path, state in now.items() if before.get(path) == state != self.read.get(path)]
        worked = [await self._read(path, now[path]) for path in settled]
        if any(worked) or gone or not (self.told or worked or before != now):
            self.report.found([group for path in sorted(self.groups) for group in self.groups[path]])
        self.told = self.told or bool(worked) or before == now

    async def _read(self, path: str, state: str) -> bool:
        """Whether its targets are known now."""
        self.read[path] = state
        form = "json" if path.lower().endswith(".json") else "yaml"
        try:
            content = await self.files.read(path, MOST_BYTES)
            if (await self.files.look((path,))).get(path) != state:
                del self.read[
                    path
                ]  # it was written to while it was read: when it stands still, it is read again
                return False
            self.groups[path] = await groups_in(
                content, path, form=form, labels={FILE_LABEL: path}, judge=self.judge
            )
        except UnjudgedError as error:
            self.report.failed(f"{path}: {error}")
            return False
        except (FilesError, NoGroupsError) as error:
            self.report.failed(str(error))
            return False
        return True
