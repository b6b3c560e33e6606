"""Files of targets: real ones on disk, and fakes where a disk would have to fail. Looks come one after the other, without a wait."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.discovery.reports import Told, running
from watchbill.config.targetfiles import DiskFiles
from watchbill.discovery.file_sd import _Following, file_sd
from watchbill.discovery.formats import read_groups
from watchbill.domain.discovery import FileSd, TargetGroup
from watchbill.ports import Files, FilesError
from watchbill.testing import judge_inline

pytestmark = pytest.mark.anyio


def groups(*addresses: str) -> str:
    return json.dumps([{"targets": list(addresses)}])


@dataclass
class Looking:
    """A source whose looks are asked for one by one."""

    patterns: tuple[str, ...]
    told: Told = field(default_factory=Told)
    files: Files = field(default_factory=DiskFiles)

    def __post_init__(self) -> None:
        self.following = _Following(self.patterns, self.files, judge_inline, self.told)
        self.following.remember()

    async def look(self, times: int = 2) -> Told:
        for _ in range(times):
            await self.following.look()
        return self.told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "targets").mkdir()
    return tmp_path / "targets"


def looking(folder: Path, *, told: Told | None = None, pattern: str = "*.json") -> Looking:
    return Looking((f"{folder}/{pattern}",), told or Told())


async def test_what_stands_in_the_files_is_found_at_the_second_look(folder: Path) -> None:
    (folder / "b.json").write_text(groups("b:1"))
    (folder / "a.json").write_text(groups("a:1", "a:2"))
    (folder / "c.txt").write_text(groups("c:1"))
    source = looking(folder)
    assert (await source.look(1)).all_found == []
    told = await source.look(1)
    assert told.addresses() == ["a:1", "a:2", "b:1"]
    assert {target["__meta_filepath"] for group in told.targets().values() for target in group} == {
        f"{folder}/a.json",
        f"{folder}/b.json",
    }
    await source.look(5)
    assert (len(told.all_found), told.failures) == (1, [])


async def test_a_file_that_changes_is_waited_for_until_it_stands_still(folder: Path) -> None:
    file = folder / "a.json"
    file.write_text(groups("a:1"))
    source = looking(folder)
    await source.look()
    for piece in ("[{", '[{"targets": ["a:1",', groups("a:1", "a:2", "a:3")):
        file.write_text(piece)
        assert (await source.look(1)).addresses() == ["a:1"]
    assert (await source.look(1)).addresses() == ["a:1", "a:2", "a:3"]
    assert source.told.failures == []


@pytest.mark.parametrize("broken", ["[{", "", "null", "{}", '[{"targets": [1]}]'])
async def test_a_file_that_makes_no_sense_keeps_what_it_had_and_counts_once(
    folder: Path, broken: str
) -> None:
    for name in "ab":
        (folder / f"{name}.json").write_text(groups(f"{name}:1"))
    source = looking(folder)
    await source.look()
    (folder / "a.json").write_text(broken)
    (folder / "b.json").write_text(groups("b:2"))
    told = await source.look(6)
    assert told.addresses() == ["a:1", "b:2"]
    assert len(told.failures) == 1
    assert f"{folder}/a.json" in told.failures[0]
    (folder / "a.json").write_text(groups("a:9"))
    assert (await source.look()).addresses() == ["a:9", "b:2"]


async def test_one_that_makes_no_sense_alone_is_no_finding(folder: Path) -> None:
    (folder / "a.json").write_text("[{")
    told = await looking(folder).look(5)
    assert (told.all_found, len(told.failures)) == ([], 1)


async def test_a_file_that_is_deleted_or_holds_an_empty_list_has_no_targets(folder: Path) -> None:
    for name in "abc":
        (folder / f"{name}.json").write_text(groups(f"{name}:1"))
    source = looking(folder)
    await source.look()
    (folder / "a.json").unlink()
    assert (await source.look()).addresses() == ["b:1", "c:1"]
    (folder / "b.json").write_text("[]")
    assert (await source.look()).addresses() == ["c:1"]
    (folder / "c.json").unlink()
    folder.rmdir() if not list(folder.iterdir()) else (folder / "b.json").unlink()
    told = await source.look()
    assert (told.addresses(), told.failures) == ([], [])


async def test_no_file_at_all_is_no_targets_told_once(folder: Path) -> None:
    told = await looking(folder).look(4)
    assert (told.all_found, told.failures) == ([[]], [])
    assert (await looking(folder / "nowhere").look(3)).all_found == [[]]


async def test_a_file_that_is_renamed_over_and_a_link_that_moves_are_seen(folder: Path) -> None:
    """As a Kubernetes ConfigMap is swapped: the names stay, what ``..data`` leads to does not."""
    for generation in ("1", "2"):
        (folder / f"..{generation}").mkdir()
        (folder / f"..{generation}" / "a.json").write_text(groups(f"a:{generation}"))
    (folder / "..data").symlink_to("..1")
    (folder / "a.json").symlink_to("..data/a.json")
    source = looking(folder)
    assert (await source.look()).addresses() == ["a:1"]
    (folder / "..new").symlink_to("..2")
    (folder / "..new").rename(folder / "..data")
    assert (await source.look()).addresses() == ["a:2"]


async def test_after_a_restart_a_broken_file_has_what_was_found_before(folder: Path) -> None:
    (folder / "a.json").write_text("[{")
    (folder / "b.json").write_text(groups("b:2"))
    before = [found for name in ("a", "b", "gone") for found in known(folder / f"{name}.json", f"{name}:1")]
    told = await looking(folder, told=Told(before)).look()
    assert told.addresses() == ["a:1", "b:2"]
    assert len(told.failures) == 1


def known(file: Path, *addresses: str) -> Sequence[TargetGroup]:
    found = read_groups(groups(*addresses).encode(), str(file), form="json", labels={})
    assert not isinstance(found, str)
    return found


async def test_everything_is_read_again_now_and_then(folder: Path) -> None:
    (folder / "a.json").write_text(groups("a:1"))
    (folder / "b.json").write_text("[{")
    source = looking(folder)
    await source.look(4)
    source.following.forget()
    told = await source.look()
    assert (len(told.all_found), len(told.failures)) == (2, 2)


@dataclass
class FakeFiles:
    """Files whose folder, or some of which, cannot be read; ``held`` maps a path to its content."""

    held: dict[str, str]
    error: str = ""
    unreadable: str = ""

    async def look(self, patterns: Sequence[str]) -> Mapping[str, str]:
        if self.error:
            raise FilesError(self.error)
        return dict(sorted(self.held.items()))

    async def read(self, path: str, most: int) -> bytes:
        if path == self.unreadable:
            raise FilesError(f"{path} cannot be read: Permission denied")
        return self.held[path].encode()


async def test_a_folder_that_cannot_be_looked_at_keeps_everything_and_is_told_once() -> None:
    files = FakeFiles({"/t/a.json": groups("a:1")})
    source = Looking(("/t/*.json",), files=files)
    await source.look()
    files.error = "/t cannot be read: Permission denied"
    told = await source.look(5)
    assert (told.addresses(), told.failures) == (["a:1"], ["/t cannot be read: Permission denied"])
    files.error = ""
    assert len((await source.look()).all_found) == 2


async def test_what_is_written_while_it_is_read_is_read_again() -> None:
    files = FakeFiles({"/t/a.json": groups("a:1", "a:2")})
    source = Looking(("/t/*.json",), files=files)
    await source.look()
    whole = groups("a:3", "a:4")

    class Torn(FakeFiles):
        async def read(self, path: str, most: int) -> bytes:
            seen, self.held[path] = self.held[path], whole
            return seen.encode()

    source.following.files = Torn({"/t/a.json": groups("a:3")})
    told = await source.look(3)
    assert told.addresses() == ["a:1", "a:2"]
    assert (await source.look(2)).addresses() == ["a:3", "a:4"]
    assert told.failures == []


async def test_a_file_that_cannot_be_read_keeps_its_targets() -> None:
    files = FakeFiles({"/t/a.json": groups("a:1"), "/t/b.json": groups("b:1")})
    source = Looking(("/t/*.json",), files=files)
    await source.look()
    files.held |= {"/t/a.json": groups("a:2"), "/t/b.json": groups("b:2")}
    files.unreadable = "/t/a.json"
    told = await source.look(4)
    assert told.addresses() == ["a:1", "b:2"]
    assert told.failures == ["/t/a.json cannot be read: Permission denied"]


async def test_a_pipe_under_the_name_of_a_file_holds_nobody(folder: Path) -> None:
    os.mkfifo(folder / "a.json")
    told = await looking(folder).look(3)
    assert told.failures == [f"{folder}/a.json is not a regular file"]


async def test_paths_are_relative_to_the_file_that_names_them(folder: Path) -> None:
    (folder / "a.yml").write_text("- targets: [a:1]\n")
    seen: list[Any] = []

    class Noted(DiskFiles):
        async def look(self, patterns: Sequence[str]) -> Mapping[str, str]:
            seen.append(patterns)
            raise FilesError("enough")

    told = Told()
    source = file_sd(
        FileSd(files=("x/../targets/*.yml",)), folder=str(folder.parent), files=Noted(), judge=judge_inline
    )
    async with running(source, told):
        await told.until(lambda: bool(told.failures))
    assert seen[0] == (f"{folder}/*.yml",)
