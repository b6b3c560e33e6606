"""The process that loads hostile configurations one after the other, as the product's worker does, and judges each."""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic import BaseModel

from tests.fuzz import sentences
from tests.fuzz.bombs import BOMBS
from tests.fuzz.case import CANARY, ENVIRON, Case
from tests.fuzz.grammar import case_of
from tests.fuzz.verdict import MOST_BYTES, MOST_SECONDS, Complaint, Verdict
from tests.metrics.states import Scene, probe_of, refused, series_of
from watchbill.cli.outside import Outside
from watchbill.cli.plan import _difference
from watchbill.config import load
from watchbill.config.fields import INTERNAL
from watchbill.domain.checks import Check, target_of
from watchbill.domain.config import Config, LoadedConfig
from watchbill.domain.errors import ConfigError, WatchbillError
from watchbill.domain.fields import CheckFields
from watchbill.domain.plan import field_changes
from watchbill.domain.specs import masked_spec, redactions, spec_from_masked, spec_of
from watchbill.workers import parse
from watchbill.workers.frames import LENGTH, packed, read, unpacked, write

MOST_MEMORY = 2 << 30
"""More than that ends the process, before the machine runs out of it."""
TIMES_WHILE_CHANGING = 30
MOST_JUDGED = 300
"""Of more checks and services than these, only loading is looked at."""
_NEAR = re.compile(r"(localhost|127\.[0-9.]+|\[?::1\]?)(:[0-9]+)?")


class Conversation:
    """Both ends of a worker's pipes in one process: it is told what to load, and asked for every check that it has."""

    def __init__(self, path: Path) -> None:
        self._requests = BytesIO(packed((str(path), dict(ENVIRON))))
        self.answers: list[Any] = []

    def read(self, size: int) -> bytes:
        if len(self.answers) == 2 and not self._requests.getbuffer()[self._requests.tell() :]:
            self._requests = BytesIO(packed(list(self.answers[1])))
            self.answers.append("asked")
        return self._requests.read(size)

    def write(self, content: bytes) -> None:
        # What the exporter would unpack elsewhere is no memory of the worker's.
        self.answers.append(unpacked(content[LENGTH.size :]) if len(self.answers) < 2 else content)

    def flush(self) -> None:
        pass


def judge(name: str, path: Path, *, steady: bool = True) -> Verdict:
    """``steady``: nothing else changes the files, so that they can be loaded again to compare."""
    conversation = Conversation(path)
    cost = _loaded(conversation)
    found = _costs(cost)
    answers = conversation.answers
    error = answers[0] if answers else WatchbillError("nothing was said")
    if isinstance(error, WatchbillError):
        problems = error.problems if isinstance(error, ConfigError) else ()
        if not problems:
            found.append(Complaint("traceback", str(error)))
        said_ill = sentences.complaints(problems, path)
        found += said_ill if steady else [each for each in said_ill if each.kind not in sentences.OF_PLACES]
        said = tuple(map(str, problems[:50]))
        return replace(cost, name=name, problems=said, complaints=tuple(found))
    sent = [unpacked(frame[LENGTH.size :]) for frame in answers[3:]]
    checks = {check.id: check for slice_ in sent for check in slice_}
    loaded = replace(error, config=error.config.model_copy(update={"checks": checks}))
    if steady and not found and len(checks) + len(loaded.config.services) <= MOST_JUDGED:
        found += _run(load(path, environ=ENVIRON), checks, path)
    return replace(
        cost,
        name=name,
        accepted=True,
        checks=len(checks),
        complaints=tuple(found),
        reached=frozenset(_reached(loaded.config)),
        near=all(map(_near, checks.values())),
    )


def _loaded(conversation: Conversation) -> Verdict:
    """What it cost, and nothing else."""
    gc.collect()  # what was left before is not this one's
    _reset_peak()
    held = _resident()
    began, at = time.process_time(), time.monotonic()
    with suppress(EOFError):
        stream = cast("BinaryIO", conversation)
        parse.serve(stream, stream)
    seconds, wall_seconds = time.process_time() - began, time.monotonic() - at
    return Verdict("", seconds=seconds, wall_seconds=wall_seconds, memory_bytes=_peak(), held_bytes=held)


def _costs(cost: Verdict) -> list[Complaint]:
    found = []
    if cost.seconds > MOST_SECONDS:
        found.append(Complaint("slow", f"loading took {cost.seconds:.2f} s of CPU"))
    if cost.memory_bytes > MOST_BYTES:
        found.append(Complaint("large", f"loading took {cost.memory_bytes >> 20} MB"))
    return found


def _run(loaded: LoadedConfig, sent: dict[str, Check], path: Path) -> Iterator[Complaint]:
    """What an accepted configuration must stand: a plan, a scrape, being sent, shown and stored."""
    for what, looked in (
        ("plan", _planned),
        ("exposition", _exposed),
        ("model", _modelled),
        ("without secrets", _without_secrets),
    ):
        try:
            yield from (Complaint(what, text) for text in looked(loaded, sent, path))
        except Exception as error:
            yield Complaint(f"{what}: {type(error).__name__}", str(error)[:300])


def _planned(loaded: LoadedConfig, sent: dict[str, Check], path: Path) -> Iterator[str]:
    """Against itself, nothing changes."""
    difference = _difference(Outside(environ=ENVIRON), str(path), str(path), "", secrets=True)
    if not difference.empty:
        yield f"a plan against itself changes {difference.plan.changed or difference}"


def _exposed(loaded: LoadedConfig, sent: dict[str, Check], _: Path) -> Iterator[str]:
    scene = Scene()
    scene.configure(loaded.config.metrics)
    checks = list(sent.values())
    scene.register(*checks)
    for check in checks:
        scene.found(probe_of(check), probe_of(check, refused(target_of(check))))
    text = scene.text()
    text.encode("utf-8")
    found = series_of(text)
    series_of(scene.text("application/openmetrics-text; version=1.0.0"), openmetrics=True)
    seen = {value for _, labels in found for name, value in labels if name == "check"}
    if missing := [check.id for check in checks if check.id not in seen]:
        yield f"no series of {missing[0]}"
    if CANARY in text and CANARY not in "".join(str(check.labels) + check.id for check in checks):
        line = next(line for line in text.splitlines() if CANARY in line)
        if "literal" not in line:  # which may have been put where it is shown
            yield f"a secret is exposed: {line[:200]}"


def _modelled(loaded: LoadedConfig, sent: dict[str, Check], _: Path) -> Iterator[str]:
    for check_id, check in loaded.config.checks.items():
        if sent.get(check_id) != check or parse.digest(sent[check_id]) != parse.digest(check):
            yield f"{check_id} is another one once it was sent"
        shown = json.dumps(masked_spec(check), ensure_ascii=False, allow_nan=False)
        shown.encode("utf-8")
        back = spec_from_masked(json.loads(shown), interval=check.interval_micros)
        if changes := field_changes(back, spec_of(check)):
            yield f"{check_id} is another one once it was shown: {changes[0]}"
        if any(secret in shown for secret in sentences.SECRETS):
            yield f"{check_id} shows a secret: {shown[:200]}"
        redactions(check)


def _without_secrets(loaded: LoadedConfig, _: dict[str, Check], path: Path) -> Iterator[str]:
    """What is valid with its secrets is valid without them, as in a CI."""
    without = load(path, environ={}, resolve_secrets=False)
    texts = b"".join(file.read_bytes() for file in [path, *path.rglob("*")] if file.is_file())
    if without.config.checks.keys() != loaded.config.checks.keys() and b"${" not in texts:
        yield "another set of checks without secrets"


def _reached(value: Any) -> Iterator[str]:
    match value:
        case BaseModel():
            hidden = INTERNAL if isinstance(value, CheckFields) else frozenset[str]()
            for name in value.model_fields_set - hidden:
                yield f"{type(value).__name__}.{type(value).model_fields[name].alias or name}"
                yield from _reached(getattr(value, name))
        case dict():
            for item in value.values():
                yield from _reached(item)
        case list() | tuple():
            for item in value:
                yield from _reached(item)
        case _:
            return
    if isinstance(value, Config):
        for part in (
            *value.services.values(),
            *value.checks.values(),
            *value.slos.values(),
            *value.discover.values(),
            value.storage,
            value.metrics,
            value.limits,
        ):
            yield from _reached(part)


def _near(check: Check) -> bool:
    if not check.enabled or check.type == "heartbeat":
        return True
    places = [
        getattr(check, name, None)
        for name in ("host", "server", "resolver", "url", "name", "proxy", "unix_socket")
    ]
    hosts = [
        re.sub(r"^[a-zA-Z]+://|[/?#].*", "", str(getattr(place, "url", place))) for place in places if place
    ]
    return all(_NEAR.fullmatch(host) for host in hosts)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _asked(request: Any, folder: Path) -> Verdict:
    match request:
        case Case():
            size = sum(map(len, request.files.values()))
            return replace(judge(request.name, request.write(folder)), size_bytes=size)
        case str():
            bomb = BOMBS[request]
            with bomb.planted(folder) as path:
                if bomb.meanwhile is None:
                    return bomb.expected(judge(request, path))
                verdicts = [judge(request, path, steady=False) for _ in range(TIMES_WHILE_CHANGING)]
            return max(verdicts, key=lambda verdict: len(verdict.complaints))
        case seed, number:
            return _asked(case_of(seed, number), folder)
    raise TypeError(request)


def main(folder: Path) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    os.chdir("/")
    with suppress(EOFError, BrokenPipeError):
        while True:
            request = read(sys.stdin.buffer)
            try:
                verdict = _asked(request, folder)
            except Exception as error:
                verdict = Verdict(
                    str(request),
                    complaints=(Complaint(f"traceback {type(error).__name__}", str(error)[:500]),),
                )
            write(answers, (verdict, _resident()))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
