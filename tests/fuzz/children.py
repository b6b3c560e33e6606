"""Judges as processes: one that crashes, hangs or outgrows itself is seen, counted and replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread, Timer
from typing import BinaryIO, TypeAlias, cast

from tests.fuzz.case import Case
from tests.fuzz.verdict import Complaint, Verdict
from watchbill.workers.frames import packed, read

Request: TypeAlias = Case | str | tuple[int, int]
"""A case, a bomb's name, or the seed and number of a mutated case."""
HANG_SECONDS = 60.0
MOST_KEPT_BYTES = 130 << 20
COSTS = frozenset({"slow", "large"})


def named(request: Request) -> str:
    return (
        request.name
        if isinstance(request, Case)
        else request
        if isinstance(request, str)
        else f"{request[0]}:{request[1]}"
    )


class Child:
    """One judge. It writes its cases to a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._fresh = True

    def ask(self, request: Request) -> Verdict:
        verdict = self._ask(request)
        if verdict.kinds & COSTS and not self._fresh:
            # What others have left in the process is not this one's.
            self.close()
            verdict = self._ask(request)
        self._fresh = self._process is None
        return verdict

    def _ask(self, request: Request) -> Verdict:
        process = self._process = self._process or _start(self._folder)
        assert process.stdin is not None
        assert process.stdout is not None
        hung = Timer(HANG_SECONDS, process.kill)
        hung.start()
        try:
            process.stdin.write(packed(request))
            process.stdin.flush()
            verdict, kept = read(cast("BinaryIO", process.stdout))
        except (EOFError, OSError):
            return self._ended(request, hung)
        finally:
            hung.cancel()
        if kept > MOST_KEPT_BYTES:
            self.close()
        found: Verdict = verdict
        return found

    def _ended(self, request: Request, hung: Timer) -> Verdict:
        process, self._process = self._process, None
        assert process is not None
        code = process.wait()
        _close(process)
        ended = signal.Signals(-code).name if code < 0 else f"exit {code}"
        kind = "hang" if hung.finished.is_set() else "crash"
        return Verdict(named(request), complaints=(Complaint(kind, ended),))

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            _close(self._process)
        self._process = None
        self._fresh = True


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "tests.fuzz.judge", str(folder)]
    environ = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(path for path in (str(Path(__file__).parents[2]), *sys.path) if path),
    }
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, start_new_session=True
    )


def judged(requests: Iterable[Request], folder: Path, *, jobs: int) -> Iterator[Verdict]:
    """Each request's verdict, in any order."""
    waiting: Queue[Request] = Queue()
    for request in requests:
        waiting.put(request)
    total = waiting.qsize()
    done: Queue[Verdict | BaseException] = Queue()
    threads = [
        Thread(target=_work, args=(waiting, done, folder / f"judge-{number}"), daemon=True)
        for number in range(jobs)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(total):
            verdict = done.get()
            if isinstance(verdict, BaseException):
                raise verdict
            yield verdict
    finally:
        with suppress(Empty):
            while True:
                waiting.get_nowait()
        for thread in threads:
            thread.join()


def _work(waiting: Queue[Request], done: Queue[Verdict | BaseException], folder: Path) -> None:
    child = Child(folder)
    try:
        while True:
            done.put(child.ask(waiting.get_nowait()))
    except Empty:
        pass
    except BaseException as error:
        done.put(error)
    finally:
        child.close()
