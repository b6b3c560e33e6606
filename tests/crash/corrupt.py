"""Damages the files of a history in every way of :mod:`~tests.crash.damages` and has the store open them.

Each is opened as it is, repaired, or refused in one line that names the file and says what to do. What was
acknowledged and cannot be had any more must have been told: by a start, by the answer to a question, or by a refusal.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.crash.damages import DAMAGES, Damage, Files
from tests.proof import Claim
from tests.storage.batches import ROWS, numbered
from tests.storage.events import slots
from tests.storage.test_duckdb_file import kill_after, start_writing
from watchbill.domain.errors import StorageError
from watchbill.storage import open_storage
from watchbill.storage.duckdb_examination import examine

IN_THE_FILE = 60
IN_THE_LOG = 20
LATER = 1_000  # the number of a batch that none of them wrote
EVER = 2**60
NOBODY = 65_534
SOME = DAMAGES[1::4]
FULL_FILES = 40
UNREADABLE = "nobody may read it"
HOW = ("opened", "repaired", "refused", "refused when asked")


@dataclass
class Findings:
    """``problems`` must stay empty. Batches are counted for each file anew, since each is a copy of a whole history."""

    files: int = 0
    acknowledged: int = 0
    """Batches, before the damage."""
    ended: Counter[str] = field(default_factory=Counter)
    """How files ended: opened, repaired, refused, or refused by the first question that met the damage."""
    gone: int = 0
    """Batches that cannot be had any more from a file that opened."""
    told: int = 0
    """Batches that a start said to be gone."""
    problems: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.files += other.files
        self.acknowledged += other.acknowledged
        self.ended += other.ended
        self.gone += other.gone
        self.told += other.told
        self.problems += other.problems

    def summary(self) -> str:
        return f"{self.tried()}: {self.found()}, {len(self.problems)} problems"

    def tried(self) -> str:
        return f"{self.files} damaged databases, logs and marks with {self.acknowledged} acknowledged batches in all"

    def found(self) -> str:
        ended = ", ".join(f"{self.ended[how]} {how}" for how in HOW)
        return f"{ended}; {self.gone} batches gone, {self.told} told by their number"


@dataclass
class Opened:
    """What a start came to: the batches found, what it said, or why it refused (a question may refuse, too)."""

    batches: set[int] = field(default_factory=set)
    logs: list[EventDict] = field(default_factory=list)
    refusal: str | None = None
    question_refused: str | None = None


def run(folder: Path, n: int, *, seed: int) -> Findings:
    """The first ``n`` damages, each on a fresh copy of one history that was killed while it was written."""
    return _run(folder, DAMAGES[:n], seed)


def prove(folder: Path, *, full: bool) -> list[Claim]:
    found = Findings()
    for seed in range(1, 3) if full else (1,):
        found.add(_run(folder / str(seed), DAMAGES if full else SOME, seed, doctor=full))
    doctor = ", each refused or mended one seen by watchbill doctor" if full else ""
    return [
        Claim(
            "Damaged files are opened, repaired or refused in one line with the remedy, and no loss is silent",
            found.tried(),
            found.found() + "".join(f"; {problem}" for problem in found.problems[:5]),
            f"0 silent losses, 0 tracebacks, nothing overwritten that was refused{doctor}",
            found.files >= (FULL_FILES if full else len(SOME)) and found.acknowledged > IN_THE_FILE * found.files
            and found.gone > 0 and found.gone == found.told
            and all(found.ended[how] for how in HOW[:3]) and not found.problems,
        )
    ]  # fmt: skip


def _run(folder: Path, damages: tuple[Damage, ...], seed: int, *, doctor: bool = True) -> Findings:
    whole = _history(folder / "whole")
    acknowledged = whole[1]
    found = Findings()
    for number, damage in enumerate(damages):
        place = folder / f"case-{number}"
        shutil.copytree(folder / "whole", place)
        files = Files(place / "history.duckdb", place / "older", place / "other")
        chance = random.Random(f"{seed} {damage.name}")
        damage.inflict(files, chance)
        problems = _try(files, damage, acknowledged, found, doctor=doctor)
        again = f"python -m tests.crash corrupt --n {DAMAGES.index(damage) + 1} --seed {seed}"
        found.problems += [f"{damage.name}: {problem} ({again})" for problem in problems]
        found.files += 1
        found.acknowledged += acknowledged
        place.chmod(0o700)
        shutil.rmtree(place)
    return found


def _history(folder: Path) -> tuple[Path, int]:
    """A history of which some batches are in the file, the newest only in the log; how many were acknowledged."""
    folder.mkdir(parents=True)
    path = folder / "history.duckdb"
    for name in ("other", "history.duckdb"):
        anyio.run(_commit, folder / name, 0, IN_THE_FILE // 2)
    shutil.copy(path, folder / "older")
    anyio.run(_commit, path, IN_THE_FILE // 2, IN_THE_FILE)
    kill_after(start_writing(folder / "other", IN_THE_FILE // 2), 3, first=IN_THE_FILE // 2)
    return path, IN_THE_FILE + kill_after(start_writing(path, IN_THE_FILE), IN_THE_LOG, first=IN_THE_FILE)


async def _commit(path: Path, first: int, last: int) -> None:
    async with open_storage(str(path)) as store:
        for number in range(first, last):
            await store.commit(numbered(number))


# --- one file -----------------------------------------------------------------------------------------


def _try(files: Files, damage: Damage, acknowledged: int, found: Findings, *, doctor: bool) -> list[str]:
    before = _bytes(files.path)
    sick = _doctor(files.path) if doctor and damage.name != UNREADABLE else None
    opened = _open(files.path)
    problems = []
    if opened.refusal is not None:
        found.ended["refused"] += 1
        problems += _judge_refusal(files.path, opened.refusal)
        if _bytes(files.path) != before:
            problems.append("refused, and all the same overwritten")
    else:
        mended = any(line["event"] != "history.batches_lost" for line in opened.logs)
        asked = HOW[3] if opened.question_refused is not None else None
        found.ended[asked or ("repaired" if mended else "opened")] += 1
        problems += _judge_opened(files.path, opened, acknowledged, found)
    if damage.broken and sick is False and (opened.refusal or opened.question_refused or opened.logs):
        problems.append("watchbill doctor found it healthy")
    if not damage.broken and opened.refusal is not None and files.beside(".lock").is_file():
        problems.append(f"refused, although nothing of it is damaged: {opened.refusal}")
    return problems


def _open(path: Path) -> Opened:
    opened = Opened()
    as_nobody = os.geteuid() == 0 and not path.parent.stat().st_mode & 0o200
    with capture_logs() as opened.logs:
        if as_nobody:
            os.seteuid(NOBODY)
        try:
            anyio.run(_read, path, opened)
        except StorageError as error:
            opened.refusal = str(error)
        finally:
            if as_nobody:
                os.seteuid(0)
    return opened


async def _read(path: Path, opened: Opened) -> None:
    async with open_storage(str(path)) as store:
        try:
            await store.opening("")
            await store.coverage(since=0, until=EVER)
            rows = await store.results("shop", since=0, until=EVER, limit=10**6)
        except StorageError as error:
            opened.question_refused = str(error)
            return
        stored = Counter(row.slot for row in rows)
        assert max(stored.values(), default=1) == 1, "a row stands there twice"
        assert stored.keys() <= set(SLOTS), "a row stands there that nobody wrote"
        opened.batches = {
            number
            for number in range(len(SLOTS) // ROWS)
            if stored.keys() >= set(SLOTS[number * ROWS : (number + 1) * ROWS])
        }


def _judge_refusal(path: Path, refusal: str) -> list[str]:
    problems = []
    if "\n" in refusal or not refusal.startswith(str(path.parent)):
        problems.append(f"not one line that names the file: {refusal!r}")
    if ";" not in refusal:
        problems.append(f"no remedy: {refusal!r}")
    return problems


def _judge_opened(path: Path, opened: Opened, acknowledged: int, found: Findings) -> list[str]:
    if opened.question_refused is not None:  # told to everybody who asks
        return _judge_refusal(path, opened.question_refused)
    lost = len(set(range(acknowledged)) - opened.batches)
    told = sum(line["batches"] for line in opened.logs if line["event"] == "history.batches_lost")
    found.gone, found.told = found.gone + lost, found.told + told
    problems = []
    if told != lost:
        problems.append(f"{lost} batches are gone, {told} were told")
    kept = {str(line["kept_as"]) for line in opened.logs if line.get("kept_as")}
    real = Path(os.path.realpath(path)).parent
    problems += [f"said to be kept, and not there: {name}" for name in kept if not (real / name).exists()]
    try:
        anyio.run(partial(_commit, path, LATER, LATER + 1))
    except StorageError as error:
        problems.append(f"opened, and takes no batch: {error}")
    with capture_logs() as logs:
        anyio.run(_commit, path, 0, 0)
    if logs:
        problems.append(f"the start after that says {logs[0]['event']} again")
    return problems


def _doctor(path: Path) -> bool:
    """Whether ``watchbill doctor`` finds something wrong."""
    try:
        return not examine(str(path)).healthy
    except StorageError:
        return True


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


SLOTS = slots("shop", IN_THE_FILE * 4 * ROWS)
"""Of the batches that any of them may have written."""
