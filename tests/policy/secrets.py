"""Secrets never leave: a canary in every place that can hold one, targets that send them back, every output searched."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.exporter import Exporter, exporter, free_port
from tests.policy import fields, mistaken, outputs
from tests.policy.canaries import Catch, canary, spellings
from tests.policy.declared import PLANTED_ID, Case, World, declare
from tests.policy.echoes import Ports, echoing
from tests.proof import Claim
from watchbill.domain.checks import CHECK_TYPES

ASKED_SINGLY = 6
"""Checks that the quick version asks the API for one by one."""
SHOWN = 20
HEAD_BYTES, BLOCK_BYTES = 12 << 10, 256 << 10
"""Of a DuckDB file."""
KINDS = (
    "log", "GET /metrics", "GET /api/v1/checks ", "GET /api/v1/config ", "GET / ", "plan", "probe", "reload", "rejected reload",
    "table", "parquet", "copy's table", "copy's parquet", "environment of worker", "errors of the loader", "validate",
    "tests of rules",
)  # fmt: skip
"""Beginnings of the outputs that must show what is no secret."""


@dataclass
class Run:
    """The configuration and its canaries, running."""

    world: World
    config: Path
    folder: Path
    exporter: Exporter


def prove(folder: Path, *, full: bool) -> list[Claim]:
    folder.mkdir(parents=True, exist_ok=True)
    catch, sinks = Catch(), 0
    with _running(folder, full=full) as run:
        for found in _put_out(run, full=full):
            sinks += len(found)
            for name, output in found.items():
                catch.add(name, output)
    mistakes, said = mistaken.told(
        run.world.cases if full else run.world.cases[::8], run.world.environ, folder / "mistakes"
    )
    for name, output in said.items():
        catch.add(name, output)
    return [_typed(), _kept(run.world, sinks, catch), _seen(catch, full=full), _mistaken(mistakes, said)]


def _typed() -> Claim:
    wrong, looked_at = fields.mistyped(), sum(len(fields.leaves(model)) for model in CHECK_TYPES)
    return Claim(
        "A field that sounds like a secret is of a secret's type",
        f"{looked_at} fields of {len(CHECK_TYPES)} types of checks",
        "; ".join(wrong) or "0 of another type",
        "0 of another type",
        holds=looked_at > 50 and not wrong,
    )


def _kept(world: World, sinks: int, catch: Catch) -> Claim:
    by_number: dict[int, list[str]] = defaultdict(list)
    for name, number in catch.leaks:
        by_number[number].append(name)
    cases = {case.canary.number: case for case in world.cases}
    told = [
        f"{_described(cases.get(number))} in {', '.join(sorted(names)[:4])} ({len(names)} outputs): {catch.leaks[names[0], number]!r}"
        for number, names in sorted(by_number.items())
    ]
    return Claim(
        f"No secret leaves, also where its target sends it back in {len(spellings(''))} spellings",
        f"{len(world.cases)} canaries, {sinks} outputs",
        "\n".join([f"{len(told)} leaked", *told[:SHOWN]]),
        "0 leaked",
        holds=len(world.cases) > 150 and sinks > 80 and not told,
    )


def _described(case: Case | None) -> str:
    return f"{case.shown} ({case.manner})" if case else "a part of a secret"


def _seen(catch: Catch, *, full: bool) -> Claim:
    kinds = [*KINDS, *(["report"] if full else [])]
    blind = [kind for kind in kinds if not any(name.startswith(kind) for name in catch.seeing)]
    return Claim(
        "What is no secret is seen in every kind of output that was searched",
        f"{len(kinds)} kinds, {len(catch.seeing)} outputs with it",
        f"unseen in {', '.join(blind) or 'none'}",
        "unseen in none",
        holds=not blind,
    )


def _mistaken(mistakes: int, said: dict[str, bytes]) -> Claim:
    catch = Catch()
    for name, output in said.items():
        catch.add(name, output)
    told = [f"{name}: {around!r}" for (name, _), around in catch.leaks.items()]
    return Claim(
        "No mistake in a configuration shows the secret that was mistaken",
        f"{mistakes} files with a secret under a wrong key, of a wrong kind, in a broken URL or reference",
        "\n".join([f"{len(told)} shown", *told[:SHOWN]]),
        "0 shown",
        holds=mistakes > len(mistaken.BY_HAND) and not told,
    )


# --- running ------------------------------------------------------------------------------------------


@contextmanager
def _running(folder: Path, *, full: bool) -> Iterator[Run]:
    ports = Ports()
    world = World(folder, ports, random.Random(7), resolver=ports())
    declared = declare(world)
    config = folder / f"{PLANTED_ID}.yaml"
    _write(config, declared)
    with (
        echoing(ports, world.ports, folder),
        exporter(
            config, folder / "run", "--log-level", "debug", environ=world.environ, port=free_port()
        ) as running,
    ):
        yield Run(world, config, folder, running)


def _write(file: Path, declared: dict[str, Any]) -> None:
    file.write_text(json.dumps(declared, ensure_ascii=False), encoding="utf-8")


def _put_out(run: Run, *, full: bool) -> Iterator[dict[str, bytes]]:
    """One kind of output after the other; the exporter is stopped on the way."""
    running = run.exporter
    processes = outputs.Processes(running)

    def probed() -> bool:
        seen, done = processes.look(), _all_probed(running)  # who was seen may be gone when all is done
        if done and not seen:
            running.hang_up()  # a worker reads what is reloaded
        return seen and done

    running.until("everything is probed, and a worker was seen", probed)
    yield processes.found
    ids = [case.check for case in run.world.cases]
    yield outputs.of_web(running, ids if full else ids[:: len(ids) // ASKED_SINGLY])
    yield _commands(run, full=full)
    yield _reloads(run)
    yield from _copied(run)
    running.stop()
    history = run.folder / "run"
    yield {"log": running.log.read_bytes(), **outputs.of_files(history)}
    yield outputs.of_history(running.storage, run.folder / "exported")
    yield _examined(run, full=full)


def _copied(run: Run) -> Iterator[dict[str, bytes]]:
    """What ``watchbill backup`` says, and what is in its copy."""
    copy = run.folder / "copy.duckdb"
    yield outputs.of_commands({"backup": ["backup", str(copy), "--server", run.exporter.url]}, {}, run.folder)
    tables = outputs.of_history(copy, run.folder / "exported-copy")
    yield {f"copy's {name}": output for name, output in tables.items()}
    yield {"copy": copy.read_bytes()}


def _examined(run: Run, *, full: bool) -> dict[str, bytes]:
    """What ``watchbill doctor`` says of the history, and of one of which every other block is damaged."""
    history, damaged = run.exporter.storage, run.folder / "damaged.duckdb"
    content = bytearray(history.read_bytes())
    for at in range(HEAD_BYTES, len(content), 2 * BLOCK_BYTES):
        content[at + 64 : at + 128] = bytes(64)
    damaged.write_bytes(content)
    commands = {
        "doctor": ["doctor", str(history)],
        "doctor of what is damaged": ["doctor", str(damaged), "--repair", "--format", "json"],
    }
    if full:
        commands["doctor, json"] = ["doctor", str(history), "--format", "json"]
        commands["doctor of what is damaged, text"] = ["doctor", str(damaged)]
    found = outputs.of_commands(commands, {}, run.folder)
    if found["doctor, code"] == found["doctor of what is damaged, code"]:
        raise AssertionError(f"nothing was damaged: {found}")
    return found


def _all_probed(running: Exporter) -> bool:
    """Heartbeats wait to be called, and have no result of their own before."""
    checks = running.request("/api/v1/checks").json()["checks"]
    return all(check["latest"] for check in checks if check["type"] != "heartbeat")


def _commands(run: Run, *, full: bool) -> dict[str, bytes]:
    server, config = run.exporter.url, str(run.config)
    other = run.folder / f"{PLANTED_ID}-other.yaml"
    _write(other, _changed(run.world, json.loads(run.config.read_text(encoding="utf-8"))))
    commands = {
        "plan against the exporter": ["plan", str(other), "--against", server],
        "probe": ["probe", config, "--format", "json"],
        "rules": ["generate", "rules", config],
        "tests of rules": ["generate", "rule-tests", config],
    }
    if full:
        commands["report"] = ["report", "--server", server]
        for form in ("text", "json", "markdown"):
            commands[f"plan against the exporter, {form}"] = [
                "plan",
                str(other),
                "--against",
                server,
                "--format",
                form,
            ]
            commands[f"plan against a file, {form}"] = [
                "plan",
                str(other),
                "--against",
                config,
                "--format",
                form,
            ]
        commands["plan without secrets"] = ["plan", str(other), "--against", server, "--no-secrets"]
        commands |= {f"probe, {form}": ["probe", config, "--format", form] for form in ("text", "junit")}
        commands |= {
            f"report, {form}": ["report", "--server", server, "--format", form] for form in ("json", "csv")
        }
        commands["report by service"] = ["report", "--server", server, "--by", "service"]
        commands["schema"] = ["schema"]
    return outputs.of_commands(commands, run.world.environ, run.folder)


def _changed(world: World, declared: dict[str, Any]) -> dict[str, Any]:
    """Every literal secret another one, every default too, so that a plan has something to say of each."""
    text = json.dumps(declared["checks"], ensure_ascii=False)
    for case in world.cases:
        if case.value in text:
            text = text.replace(case.value, canary(case.canary.number, random.Random(8)).core)
    checks = json.loads(text)
    checks[PLANTED_ID]["interval"] = "2h"
    return {**declared, "checks": checks}


def _reloads(run: Run) -> dict[str, bytes]:
    """One that changes everything, and one that is rejected."""
    before = run.config.read_text(encoding="utf-8")
    declared = json.loads(before)
    _write(run.config, _changed(run.world, declared))
    found = outputs.of_commands({"reload": ["reload", "--server", run.exporter.url]}, {}, run.folder)
    broken = {**declared, "checks": {**declared["checks"], "broken": {"type": "tcp", "send": [declared]}}}
    _write(run.config, broken)
    for accept in ("application/json", "text/plain"):
        found[f"rejected reload ({accept})"] = run.exporter.request(
            "/-/reload", method="POST", headers={"Accept": accept}
        ).body
    run.config.write_text(before, encoding="utf-8")
    return found
