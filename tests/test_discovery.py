"""Targets that come, change and go while the whole application runs: over fakes, on asyncio and on trio's virtual clock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
import trio
import trio.testing

from watchbill.app import App, open_app
from watchbill.config import load
from watchbill.discovery import running
from watchbill.discovery.formats import read_groups
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import MassDeleteError
from watchbill.domain.kubernetes_sd import KubernetesSd
from watchbill.domain.messages import (
    ApplyTargets,
    CheckDeleted,
    CheckRegistered,
    ConfigReloaded,
    ReloadConfig,
    TargetsApplied,
    TargetsFound,
)
from watchbill.ports import FilesError, Ports, Storage, UnjudgedError
from watchbill.storage import open_storage
from watchbill.testing import (
    FakeConfigFile,
    FakeNetwork,
    Recorder,
    config_of,
    inline,
    judge_inline,
    virtual_clock,
)

FILE = "/targets/hosts.json"
CHECK = "check: {type: tcp, host: target.test, port: 1, interval: 1h, labels: {note: declared}}"
BLOCK = f"""
  hosts:
    file_sd: {{files: [{FILE}]}}
    {CHECK}
"""
SETTLED_SECONDS = 5.0
"""Two looks at the files and what follows."""


def config(folder: Path, *, blocks: str = BLOCK, more: str = "") -> LoadedConfig:
    file = folder / "checks.yaml"
    file.write_text(f"version: 1\ndiscover:{blocks}{more}", encoding="utf-8")
    return load(file, environ={"KEPT_TOKEN": "s3cr3t-value"})


@dataclass
class Targets:
    """The files that the sources see; ``down``: why they see nothing."""

    held: dict[str, str] = field(default_factory=dict)
    down: str = ""

    def hosts(self, *names: str, file: str = FILE, **labels: str) -> None:
        """One group for each, so that it can be another without the others."""
        groups = [{"targets": [name], "labels": labels} for name in names]
        self.held[file] = json.dumps(groups)

    async def look(self, patterns: Sequence[str]) -> Mapping[str, str]:
        if self.down:
            raise FilesError(self.down)
        return {path: text for path, text in sorted(self.held.items()) if path in patterns}

    async def read(self, path: str, most: int) -> bytes:
        return self.held[path].encode()


@dataclass
class Stand:
    """What an application is opened over; it outlives the application, as disks do."""

    folder: Path
    storage: Storage
    targets: Targets = field(default_factory=Targets)
    file: FakeConfigFile = field(default_factory=lambda: FakeConfigFile(config_of()))
    said: Recorder = field(default_factory=Recorder)
    judge: Any = judge_inline

    @asynccontextmanager
    async def open(self, loaded: LoadedConfig | None = None) -> AsyncIterator[App]:
        loaded = loaded or config(self.folder)
        self.file.content = loaded
        ports = Ports(
            clock=virtual_clock(),
            network=FakeNetwork(),
            storage=self.storage,
            load_config=self.file.load,
            offload=inline,
            judge=self.judge,
            files=self.targets,
        )
        async with open_app(loaded, ports, recorder=self.said) as app:
            yield app

    async def settle(self) -> None:
        self.said.events.clear()
        await anyio.sleep(SETTLED_SECONDS)

    def touched(self) -> dict[str, list[str]]:
        """Since it settled last: the ids that were registered anew, replaced, deleted."""
        registered = self.said.of(CheckRegistered)
        return {
            "added": sorted(event.check.id for event in registered if event.previous is None),
            "changed": sorted(event.check.id for event in registered if event.previous is not None),
            "removed": sorted(event.check.id for event in self.said.of(CheckDeleted)),
        }


def on_virtual_time(tmp_path: Path, test: Any) -> None:

    async def main() -> None:
        async with open_storage("memory:") as storage:
            await test(Stand(tmp_path, storage))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def numbers(app: App, block: str = "hosts") -> dict[str, float]:
    text = app.metrics.render()[1].decode()
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("watchbill_discovery_") and f'discovery="{block}"' in name:
            key = name.partition("{")[0].removeprefix("watchbill_discovery_")
            reason = name.partition('reason="')[2].partition('"')[0]
            found[reason or key] = float(value)
    del found["last_success_timestamp_seconds"]
    return found


def expect(**changed: float) -> dict[str, float]:
    return {"targets": 0, "kept_targets": 0, "failures_total": 0, "invalid": 0, "duplicate": 0} | changed


def test_only_the_targets_that_change_are_touched(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts(*(f"h{number}" for number in range(30)))
        async with stand.open() as app:
            await stand.settle()
            assert stand.touched()["added"] == sorted(f"hosts-h{number}" for number in range(30))
            before = dict(app.board.checks)
            stand.targets.held[FILE] = json.dumps(
                [
                    {"targets": [f"h{number}"], "labels": {"v": "2"} if number == 3 else {}}
                    for number in range(1, 31)
                ]
            )
            await stand.settle()
            assert stand.touched() == {
                "added": ["hosts-h30"],
                "changed": ["hosts-h3"],
                "removed": ["hosts-h0"],
            }
            untouched = before.keys() - {"hosts-h0", "hosts-h3"}
            assert all(app.board.checks[name] is before[name] for name in untouched)
            assert all(app.board.checks[name].check is before[name].check for name in untouched)
            assert app.board.checks["hosts-h3"].check.labels == {"note": "declared", "v": "2"}
            assert app.loaded.discovered == dict.fromkeys(
                (f"hosts-h{number}" for number in range(1, 31)), "hosts"
            )
            await stand.settle()
            assert stand.said.of(TargetsApplied) == []
            assert numbers(app) == expect(targets=30)

    on_virtual_time(tmp_path, test)


def test_a_source_that_is_down_keeps_its_targets_and_counts(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b")
        async with stand.open() as app:
            await stand.settle()
            stand.targets.down = "/targets cannot be read: Input/output error"
            await stand.settle()
            assert stand.touched() == {"added": [], "changed": [], "removed": []}
            assert numbers(app) == expect(targets=2, failures_total=1)
            stand.targets.down = ""
            stand.targets.held[FILE] = "[{"
            await stand.settle()
            assert numbers(app) == expect(targets=2, failures_total=2)
            stand.targets.hosts("a")
            await stand.settle()
            assert stand.touched()["removed"] == ["hosts-b"]

    on_virtual_time(tmp_path, test)


@pytest.mark.parametrize("gone", ["deleted", "empty"])
def test_a_deleted_file_or_an_empty_list_removes_the_checks(tmp_path: Path, gone: str) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b")
        async with stand.open() as app:
            await stand.settle()
            if gone == "deleted":
                del stand.targets.held[FILE]
            else:
                stand.targets.held[FILE] = "[]"
            await stand.settle()
            assert stand.touched()["removed"] == ["hosts-a", "hosts-b"]
            assert dict(app.board.checks) == {}

    on_virtual_time(tmp_path, test)


def many(first: int, last: int) -> list[str]:
    return [f"m{number}" for number in range(first, last)]


def test_most_of_a_block_does_not_go_at_once_unless_that_is_allowed(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts(*many(0, 24))
        async with stand.open() as app:
            await stand.settle()
            stand.targets.hosts(*many(13, 26))
            await stand.settle()
            assert stand.touched() == {"added": [], "changed": [], "removed": []}
            assert numbers(app) == expect(targets=24, kept_targets=13)
            with pytest.raises(
                MassDeleteError, match=r"13 of the 24 checks of hosts.*mass_delete: allow in the block"
            ):
                await app.bus.send(ApplyTargets("hosts", await found_in(stand)))
            await app.bus.send(ReloadConfig("test"))
            assert len(app.board.checks) == 24
            await app.bus.send(ReloadConfig("test", allow_mass_delete=True))
            assert sorted(app.board.checks) == sorted(f"hosts-{name}" for name in many(13, 26))
            assert numbers(app) == expect(targets=13)

    on_virtual_time(tmp_path, test)


async def found_in(stand: Stand) -> Any:
    return read_groups(stand.targets.held[FILE].encode(), FILE, form="json", labels={"__meta_filepath": FILE})


def test_what_was_refused_is_forgotten_where_the_source_has_its_targets_again(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts(*many(0, 24))
        async with stand.open() as app:
            await stand.settle()
            stand.targets.held[FILE] = "[]"
            await stand.settle()
            assert numbers(app)["kept_targets"] == 24
            stand.targets.hosts(*many(0, 24))
            await stand.settle()
            assert numbers(app) == expect(targets=24)
            await app.bus.send(ReloadConfig("test", allow_mass_delete=True))
            assert len(app.board.checks) == 24

    on_virtual_time(tmp_path, test)


@pytest.mark.parametrize("where", ["block", "limits"])
def test_a_block_that_allows_it_lets_all_go(tmp_path: Path, where: str) -> None:
    async def test(stand: Stand) -> None:
        allowed = "    mass_delete: allow\n" if where == "block" else "limits: {mass_delete: allow}\n"
        stand.targets.hosts(*many(0, 24))
        async with stand.open(config(tmp_path, more=allowed)) as app:
            await stand.settle()
            stand.targets.held[FILE] = "[]"
            await stand.settle()
            assert numbers(app) == expect()

    on_virtual_time(tmp_path, test)


def test_half_of_a_block_or_ten_of_it_go_unasked(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        async with stand.open() as app:
            for before, after in ((24, 12), (12, 2)):
                stand.targets.hosts(*many(0, before))
                await stand.settle()
                stand.targets.hosts(*many(0, after))
                await stand.settle()
                assert numbers(app) == expect(targets=after)

    on_virtual_time(tmp_path, test)


def test_a_restart_with_a_source_that_is_down_keeps_the_checks(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b", zone="eu")
        async with stand.open() as app:
            await stand.settle()
            first = dict(app.loaded.config.checks)
        stand.targets.down = "down"
        async with stand.open() as app:
            assert dict(app.loaded.config.checks) == first
            assert set(app.board.checks) == {"hosts-a", "hosts-b"}
            await stand.settle()
            assert numbers(app) == expect(targets=2, failures_total=1)
            stand.targets.down = ""
            stand.targets.hosts("b", zone="eu")
            await stand.settle()
            assert stand.touched() == {"added": [], "changed": [], "removed": ["hosts-a"]}
        async with stand.open() as app:
            assert set(app.board.checks) == {"hosts-b"}

    on_virtual_time(tmp_path, test)


def test_a_restart_with_most_of_the_targets_gone_keeps_them_too(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts(*many(0, 24))
        async with stand.open():
            await stand.settle()
        del stand.targets.held[FILE]
        async with stand.open() as app:
            await stand.settle()
            assert numbers(app) == expect(targets=24, kept_targets=24)

    on_virtual_time(tmp_path, test)


def test_a_restart_with_another_template_applies_it_to_what_was_found(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a")
        async with stand.open():
            await stand.settle()
        stand.targets.down = "down"
        async with stand.open(config(tmp_path, blocks=BLOCK.replace("1h", "2h"))) as app:
            assert app.board.checks["hosts-a"].check.interval.total_seconds() == 7200

    on_virtual_time(tmp_path, test)


def test_one_invalid_target_is_left_out_and_of_equal_ids_the_first_stays(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.held[FILE] = json.dumps(
            [
                {"targets": ["a"], "labels": {"n": "first"}},
                {"targets": ["A"], "labels": {"n": "second"}},
                {"targets": ["b"], "labels": {"bad-name": "x"}},
                {"targets": ["c", "c"]},
            ]
        )
        async with stand.open() as app:
            await stand.settle()
            assert stand.touched()["added"] == ["hosts-a", "hosts-c"]
            assert app.board.checks["hosts-a"].check.labels["n"] == "first"
            assert numbers(app) == expect(targets=2, invalid=1, duplicate=2)

    on_virtual_time(tmp_path, test)


def test_a_declared_check_stays_and_so_does_that_of_the_first_block(tmp_path: Path) -> None:
    other = f"\n  other:\n    file_sd: {{files: [/targets/other.json]}}\n    id: 'hosts-${{each.__address__}}'\n    {CHECK}\n"
    declared = "checks:\n  hosts-a: {type: icmp, host: declared.test, interval: 1h}\n"

    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b", by="first")
        stand.targets.hosts("b", "c", file="/targets/other.json", by="second")
        async with stand.open(config(tmp_path, blocks=BLOCK + other, more=declared)) as app:
            await stand.settle()
            assert {name: state.check.type for name, state in app.board.checks.items()} == {
                "hosts-a": "icmp", "hosts-b": "tcp", "hosts-c": "tcp",
            }  # fmt: skip
            assert app.board.checks["hosts-b"].check.labels["by"] == "first"
            assert numbers(app) == expect(targets=1, duplicate=1)
            assert numbers(app, "other") == expect(targets=1, duplicate=1)
            stand.targets.hosts("a")
            await stand.settle()
            assert stand.touched() == {"added": [], "changed": ["hosts-b"], "removed": []}
            assert app.board.checks["hosts-b"].check.labels["by"] == "second"
            assert app.loaded.discovered == {"hosts-b": "other", "hosts-c": "other"}

    on_virtual_time(tmp_path, test)


def test_a_reload_applies_the_new_template_in_one_step_with_everything_else(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b", env="prod")
        async with stand.open() as app:
            await stand.settle()
            stand.targets.down = "not asked for a reload"
            rules = "    relabel: [{source_labels: [__address__], regex: b, action: drop}]\n"
            declared = "checks:\n  new: {type: icmp, host: new.test, interval: 1h}\n"
            stand.file.content = config(tmp_path, blocks=BLOCK.replace("1h", "2h"), more=rules + declared)
            stand.said.events.clear()
            events = await app.bus.send(ReloadConfig("test"))
            assert stand.touched() == {"added": ["new"], "changed": ["hosts-a"], "removed": ["hosts-b"]}
            [reloaded] = [event for event in events if isinstance(event, ConfigReloaded)]
            assert reloaded.plan.counts() == {"added": 1, "changed": 1, "removed": 1, "moved": 0}
            stand.said.events.clear()
            await app.bus.send(ReloadConfig("test"))
            assert stand.touched() == {"added": [], "changed": [], "removed": []}

    on_virtual_time(tmp_path, test)


def test_a_block_that_is_taken_out_takes_its_checks_with_it_and_is_forgotten(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b")
        async with stand.open() as app:
            await stand.settle()
            stand.file.content = config(
                tmp_path, blocks=" {}", more="\nchecks:\n  x: {type: icmp, host: x, interval: 1h}\n"
            )
            await app.bus.send(ReloadConfig("test"))
            assert set(app.board.checks) == {"x"}
            stand.targets.hosts("a", "b", "c")
            await stand.settle()
            assert set(app.board.checks) == {"x"}
        assert (await stand.storage.opening("")).targets == {}
        async with stand.open(config(tmp_path)) as app:
            assert set(app.board.checks) == set()

    on_virtual_time(tmp_path, test)


def test_a_block_taken_out_while_nobody_ran_is_forgotten(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a")
        async with stand.open():
            await stand.settle()
        assert set((await stand.storage.opening("")).targets) == {"hosts"}
        async with stand.open(config(tmp_path, blocks=" {}", more="\nmetrics: {probe: true}\n")) as app:
            assert dict(app.board.checks) == {}
        assert (await stand.storage.opening("")).targets == {}

    on_virtual_time(tmp_path, test)


def test_another_source_begins_with_what_the_one_before_had(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b")
        stand.targets.hosts("b", "c", file="/targets/other.json")
        async with stand.open() as app:
            await stand.settle()
            stand.file.content = config(tmp_path, blocks=BLOCK.replace("hosts.json", "other.json"))
            await app.bus.send(ReloadConfig("test"))
            assert set(app.board.checks) == {"hosts-a", "hosts-b"}
            await stand.settle()
            assert stand.touched() == {"added": ["hosts-c"], "changed": [], "removed": ["hosts-a"]}
            stand.targets.hosts("nobody follows this file any more")
            await stand.settle()
            assert set(app.board.checks) == {"hosts-b", "hosts-c"}

    on_virtual_time(tmp_path, test)


def test_two_sources_and_a_reload_at_once_go_one_after_the_other(tmp_path: Path) -> None:
    other = f"\n  other:\n    file_sd: {{files: [/targets/other.json]}}\n    {CHECK}\n"

    async def test(stand: Stand) -> None:
        working = 0

        async def slow(function: Any, content: Sequence[bytes], *arguments: Any) -> Any:
            nonlocal working
            if getattr(function, "__name__", "") == "make_checks":
                working += 1
                assert working == 1
                await anyio.sleep(7)
                working -= 1
            return function(b"".join(content), *arguments)

        stand.judge = slow
        async with stand.open(config(tmp_path, blocks=BLOCK + other)) as app:
            stand.targets.hosts("a")
            stand.targets.hosts("b", file="/targets/other.json")
            await anyio.sleep(3)
            stand.file.content = config(tmp_path, blocks=BLOCK.replace("1h", "2h") + other)
            await app.bus.send(ReloadConfig("test"))
            await anyio.sleep(40)
            assert set(app.board.checks) == {"hosts-a", "other-b"}
            assert app.board.checks["hosts-a"].check.interval.total_seconds() == 7200
            assert app.loaded.discovered == {"hosts-a": "hosts", "other-b": "other"}

    on_virtual_time(tmp_path, test)


def test_checks_that_cannot_be_made_leave_everything_as_it_is(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        broken = False

        async def judge(function: Any, content: Sequence[bytes], *arguments: Any) -> Any:
            if broken and getattr(function, "__name__", "") == "make_checks":
                raise UnjudgedError("it takes too much memory")
            return function(b"".join(content), *arguments)

        stand.judge = judge
        stand.targets.hosts("a")
        async with stand.open() as app:
            await stand.settle()
            broken = True
            stand.targets.hosts("b")
            await stand.settle()
            assert set(app.board.checks) == {"hosts-a"}
            assert numbers(app) == expect(targets=1, failures_total=1)
        async with stand.open() as app:
            assert dict(app.board.checks) == {}
            broken = False
            await stand.settle()
            assert set(app.board.checks) == {"hosts-b"}

    on_virtual_time(tmp_path, test)


def test_a_source_that_crashes_is_counted_and_begins_again(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        async def crashed(patterns: Sequence[str]) -> Mapping[str, str]:
            raise ZeroDivisionError

        stand.targets.hosts("a")
        look, stand.targets.look = stand.targets.look, crashed  # type: ignore[method-assign]
        async with stand.open() as app:
            await stand.settle()
            assert numbers(app) == expect(failures_total=1)
            stand.targets.look = look  # type: ignore[method-assign]
            await anyio.sleep(70)
            assert numbers(app) == expect(targets=1, failures_total=1)

    on_virtual_time(tmp_path, test)


@pytest.mark.anyio
async def test_two_namespaces_that_fail_in_turns_are_told_of_once_each() -> None:
    block = running._Block(KubernetesSd(role="ingress", namespaces=("a", "b")), "")
    discoveries = running.Discoveries(
        None, source_of=None, send=None, loaded=None, clock=None  # type: ignore[arg-type]
    )  # fmt: skip
    with structlog.testing.capture_logs() as logs:
        for reason in ["a is forbidden", "b is forbidden"] * 3:
            discoveries.failed("cluster", block, reason)
    told = [line["reason"] for line in logs if line["log_level"] == "warning"]
    assert told == ["a is forbidden", "b is forbidden"]
    assert block.failures == 6


def test_history_keeps_what_changed_and_no_more(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b", "c")
        async with stand.open():
            await stand.settle()
            stand.targets.hosts("a", "x")
            await stand.settle()
            [found] = stand.said.of(TargetsFound)
            assert ([group.source for group in found.changed], found.gone) == ([f"{FILE}:1"], (f"{FILE}:2",))

    on_virtual_time(tmp_path, test)


def test_the_same_on_asyncio(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_storage("memory:") as storage:
            stand = Stand(tmp_path, storage)
            stand.targets.hosts("a", "b")
            async with stand.open() as app:
                with anyio.fail_after(30):
                    while set(app.board.checks) != {"hosts-a", "hosts-b"}:
                        await anyio.sleep(0.05)
                    stand.targets.hosts("b")
                    while set(app.board.checks) != {"hosts-b"}:
                        await anyio.sleep(0.05)

    anyio.run(main)


def test_only_targets_that_are_new_or_changed_are_made_checks_of(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        made: list[list[str]] = []

        async def noted(function: Any, content: Sequence[bytes], *arguments: Any) -> Any:
            if getattr(function, "__name__", "") == "make_checks":
                made.append([target["__address__"] for target in arguments[1]])
            return function(b"".join(content), *arguments)

        stand.judge = noted
        names = [f"h{number}" for number in range(120)]
        stand.targets.hosts(*names)
        async with stand.open() as app:
            await stand.settle()
            assert made == [names[:50], names[50:100], names[100:]]
            made.clear()
            stand.targets.hosts("new", *names[1:])
            await stand.settle()
            await app.bus.send(ReloadConfig("test"))
            assert made == [["new"]]
            assert len(app.board.checks) == 120

    on_virtual_time(tmp_path, test)


def test_a_template_that_makes_the_same_checks_touches_none(tmp_path: Path) -> None:
    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b")
        async with stand.open() as app:
            await stand.settle()
            before = dict(app.loaded.config.checks)
            stand.file.content = config(
                tmp_path, more="    relabel: [{target_label: __unused__, replacement: x}]\n"
            )
            await app.bus.send(ReloadConfig("test"))
            assert all(app.loaded.config.checks[name] is check for name, check in before.items())

    on_virtual_time(tmp_path, test)


def test_a_restart_keeps_what_a_broken_file_had_and_follows_the_others(tmp_path: Path) -> None:
    both = BLOCK.replace(FILE, f"{FILE}, /targets/other.json")

    async def test(stand: Stand) -> None:
        stand.targets.hosts("a", "b")
        stand.targets.hosts("c", file="/targets/other.json")
        async with stand.open(config(tmp_path, blocks=both)):
            await stand.settle()
        stand.targets.held[FILE] = "[{"
        stand.targets.hosts("d", file="/targets/other.json")
        async with stand.open(config(tmp_path, blocks=both)) as app:
            await stand.settle()
            assert set(app.board.checks) == {"hosts-a", "hosts-b", "hosts-d"}

    on_virtual_time(tmp_path, test)
