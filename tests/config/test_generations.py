"""A folder that is swapped as Kubernetes does it is read whole, and a change of content is noticed once."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from watchbill.config import load
from watchbill.config.files import MOST_WAITED_SECONDS, STILL_SECONDS, Reading
from watchbill.config.watch import Watcher, watch
from watchbill.domain.errors import ConfigError

NAMES = ("a", "b")


def generation(folder: Path, number: int) -> str:
    """A folder as a kubelet writes it, not yet in force."""
    made = folder / f"..2026_11_22_{number}"
    made.mkdir()
    for name in NAMES:
        text = f"version: 1\nchecks: {{{name}: {{type: icmp, host: x.example, description: g{number}}}}}\n"
        (made / f"{name}.yaml").write_text(text)
    return made.name


def swap(folder: Path, name: str) -> None:
    (folder / "..data_tmp").symlink_to(name)
    (folder / "..data_tmp").rename(folder / "..data")


@pytest.fixture
def config_map(tmp_path: Path) -> Path:
    folder = tmp_path / "map"
    folder.mkdir()
    swap(folder, generation(folder, 1))
    for name in NAMES:
        (folder / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    return folder


def generations(path: Path) -> set[str]:
    return {check.description for check in load(path, environ={}).config.checks.values()}


def test_a_config_map_is_read_once_through_its_links(config_map: Path) -> None:
    loaded = load(config_map, environ={})
    assert list(loaded.config.checks) == ["a", "b"]
    assert loaded.files == (f"{config_map}/a.yaml", f"{config_map}/b.yaml")


def test_a_swap_while_reading_makes_no_mixture(config_map: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped: list[int] = []
    read = Reading._read

    def swapping(reading: Reading, shown: str) -> bytes | None:
        content = read(reading, shown)
        if shown.endswith("a.yaml") and len(swapped) < 2:
            swapped.append(len(swapped) + 2)
            swap(config_map, generation(config_map, swapped[-1]))
        return content

    monkeypatch.setattr(Reading, "_read", swapping)
    assert generations(config_map) == {"g3"}
    assert swapped == [2, 3]


def test_an_old_generation_that_is_removed_while_it_is_read_is_no_error(
    config_map: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reading._read
    old = config_map / os.readlink(config_map / "..data")

    def removing(reading: Reading, shown: str) -> bytes | None:
        if old.exists():
            swap(config_map, generation(config_map, 2))
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        return read(reading, shown)

    monkeypatch.setattr(Reading, "_read", removing)
    assert generations(config_map) == {"g2"}


def test_a_folder_that_never_stands_still_is_an_error(
    config_map: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reading, "torn", lambda _: True)
    with pytest.raises(ConfigError, match="changed 5 times while it was read; try again"):
        load(config_map, environ={})


def test_a_link_that_becomes_something_else_while_it_is_followed_is_no_riddle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real.yaml").write_text("version: 1\nchecks: {a: {type: icmp, host: x.example}}\n")
    (tmp_path / "checks.yaml").symlink_to("real.yaml")

    def gone(path: str) -> str:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "readlink", gone)
    assert list(load(tmp_path / "checks.yaml", environ={}).config.checks) == ["a"]


def test_a_root_that_is_a_link_is_one_generation_too(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"rev{number}").mkdir()
        (tmp_path / f"rev{number}/a.yaml").write_text(
            f"version: 1\nchecks: {{a: {{type: icmp, host: x, description: g{number}}}}}"
        )
    (tmp_path / "..data_tmp").symlink_to("rev1")
    (tmp_path / "..data_tmp").rename(tmp_path / "current")
    reading = Reading(str(tmp_path / "current"))
    assert not reading.torn()
    (tmp_path / "next").symlink_to("rev2")
    (tmp_path / "next").rename(tmp_path / "current")
    assert reading.torn()
    assert generations(tmp_path / "current") == {"g2"}


WHOLE = "version: 1\nchecks:\n  a: {type: icmp, host: x, description: g1}\n  b: {type: icmp, host: x, description: g1}\n"
CUTS = {
    "where it is valid": WHOLE.index("  b:"),
    "in the middle of a line": WHOLE.index("b:"),
    "before all of it": 0,
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_file_that_is_written_in_two_parts_is_not_read_between_them(
    cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one who writes pauses for less than a reload waits for a file that was written to just now."""
    file = tmp_path / "checks.yaml"
    file.write_text(WHOLE[: CUTS[cut]])

    def go_on_writing(_: float) -> None:
        file.write_text(WHOLE)
        os.utime(file, (1, 1))  # long ago

    monkeypatch.setattr(time, "sleep", go_on_writing)
    assert list(load(file, environ={}, patient=True).config.checks) == ["a", "b"]


def waited(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long it waits, one time after the other, while no time passes."""
    waits: list[float] = []
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "sleep", waits.append)
    assert len(load(path, environ={}, patient=True).config.checks) == 2
    return waits


@pytest.mark.parametrize("ahead_seconds", [0.06, 5, 86_400])
def test_a_file_from_the_future_is_not_waited_for(
    ahead_seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checks.yaml"
    file.write_text(WHOLE)
    os.utime(file, (time.time() + ahead_seconds,) * 2)
    assert waited(file, monkeypatch) == []


def test_a_folder_in_which_somebody_writes_without_end_is_waited_for_no_longer_than_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        text = f"version: 1\nchecks: {{{name}: {{type: icmp, host: x}}}}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
        os.utime(tmp_path / f"{name}.yaml", (time.time(),) * 2)
    waits = waited(tmp_path, monkeypatch)
    assert waits[0] > 0
    assert sum(waits) == pytest.approx(MOST_WAITED_SECONDS, abs=STILL_SECONDS)


def test_a_file_that_is_renamed_over_before_it_is_read_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checks.yaml"
    file.write_text(WHOLE)

    def replace_it(_: float) -> None:
        os.utime(file, (1, 1))
        (tmp_path / "aside").write_text(WHOLE[: CUTS["where it is valid"]])
        (tmp_path / "aside").rename(file)

    monkeypatch.setattr(time, "sleep", replace_it)
    assert list(load(file, environ={}, patient=True).config.checks) == ["a", "b"]


def test_a_file_that_is_written_to_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "checks.yaml"
    file.write_text(WHOLE[: CUTS["where it is valid"]])
    read = Reading._read

    def writing(reading: Reading, shown: str) -> bytes | None:
        content = read(reading, shown)
        file.write_text(WHOLE)
        os.utime(file, (1, 1))
        return content

    monkeypatch.setattr(Reading, "_read", writing)
    assert list(load(file, environ={}).config.checks) == ["a", "b"]


def settled(watcher: Watcher) -> list[bool]:
    return [watcher.changed() for _ in range(3)]


def replace(folder: Path, text: str) -> None:
    """As an editor saves: a new file, renamed over the old one."""
    (folder / "a.yaml.new").write_text(text)
    (folder / "a.yaml.new").rename(folder / "a.yaml")


def make_a_pipe(folder: Path) -> None:
    (folder / "b.yaml").unlink()
    os.mkfifo(folder / "b.yaml")


def add_below(folder: Path) -> None:
    (folder / "team").mkdir()
    (folder / "team/c.yml").write_text("")


EMPTY = "version: 1\nchecks: {}\n"
CHANGES: dict[str, Callable[[Path], object]] = {
    "written in place": lambda folder: (folder / "a.yaml").write_text(EMPTY),
    "renamed over": lambda folder: replace(folder, EMPTY),
    "added": lambda folder: (folder / "c.yaml").write_text(EMPTY),
    "added below": add_below,
    "removed": lambda folder: (folder / "b.yaml").unlink(),
    "no file any more": make_a_pipe,
    "renamed": lambda folder: (folder / "b.yaml").rename(folder / "z.yaml"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / f"{name}.yaml").write_text(f"version: 1\nchecks: {{}} # {name}\n")
    return tmp_path


@pytest.mark.parametrize("how", CHANGES)
def test_a_change_is_seen_once_after_it_has_settled(how: str, folder: Path) -> None:
    watcher = Watcher(str(folder))
    assert settled(watcher) == [False, False, False]
    CHANGES[how](folder)
    assert settled(watcher) == [False, True, False]


def test_a_swapped_config_map_is_seen_once(config_map: Path) -> None:
    watcher = Watcher(str(config_map))
    swap(config_map, generation(config_map, 2))
    assert settled(watcher) == [False, True, False]


def test_unchanged_content_is_no_change_however_it_was_written(config_map: Path, folder: Path) -> None:
    watcher = Watcher(str(folder))
    replace(folder, (folder / "a.yaml").read_text())
    os.utime(folder / "b.yaml", (1, 1))
    assert settled(watcher) == [False, False, False]


def test_a_file_that_is_still_being_written_is_waited_for(folder: Path) -> None:
    watcher = Watcher(str(folder))
    seen = []
    for size in range(4):
        (folder / "a.yaml").write_text("#" * (100 + size))
        seen.append(watcher.changed())
    assert (seen, settled(watcher)) == ([False] * 4, [True, False, False])


def test_a_change_and_its_undoing_are_no_change(folder: Path) -> None:
    watcher = Watcher(str(folder))
    before = (folder / "a.yaml").read_text()
    (folder / "a.yaml").write_text("other")
    assert watcher.changed() is False
    (folder / "a.yaml").write_text(before)
    assert settled(watcher) == [False, False, False]


def test_files_that_the_configuration_names_are_watched_too(folder: Path) -> None:
    secret = folder / "secret"
    secret.write_text("one")
    watcher = Watcher(str(folder), lambda: [str(secret)])
    secret.write_text("another")
    assert settled(watcher) == [False, True, False]


@pytest.mark.anyio
async def test_watching_calls_back_once_for_each_content(config_map: Path) -> None:
    calls: list[set[str]] = []
    ready, called = anyio.Event(), [anyio.Event(), anyio.Event()]

    async def on_change() -> None:
        calls.append(generations(config_map))
        called[len(calls) - 1].set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(
                lambda: watch(config_map, on_change, interval=0.01, started=ready.set), name="watch"
            )
            await ready.wait()
            for number in (2, 3):
                swap(config_map, generation(config_map, number))
                await called[number - 2].wait()
            group.cancel_scope.cancel()
    assert calls == [{"g2"}, {"g3"}]
