"""Log lines to stderr through a bounded queue and one thread: a blocked terminal or pipe delays no probe.

Lines that find the queue full are dropped and counted. JSON off a terminal, for people on one.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

LINES_WAITING = 10_000
FLUSH_SECONDS = 1.0
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class LogStatistics:
    dropped: int


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own."""

    def __init__(self, descriptor: int, *, waiting: int = LINES_WAITING) -> None:
        self._descriptor = descriptor
        self._most = waiting
        self._lines: deque[str] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._writing = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue one line; never waits."""
        with self._wake:
            if len(self._lines) >= self._most:
                self._dropped += 1
                return
            self._lines.append(line)
            self._wake.notify()

    def close(self) -> None:
        """Write what is queued, for at most a second."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(FLUSH_SECONDS)

    def pending(self) -> bool:
        """Whether lines wait to be written, or are being written."""
        with self._wake:
            return bool(self._lines) or self._writing

    def statistics(self) -> LogStatistics:
        return LogStatistics(dropped=self._dropped)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._lines and not self._closing:
                    self._wake.wait()
                if not self._lines:
                    return
                lines = list(self._lines)
                self._lines.clear()
                self._writing = True
            self._write_all("".join(line + "\n" for line in lines).encode(errors="replace"))
            self._writing = False

    def _write_all(self, left: bytes) -> None:
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # whoever shares our stderr may have made it so
                select.select([], [self._descriptor], [])
            except OSError:
                with self._wake:
                    self._dropped += left.count(b"\n")
                return


class _Logger:
    """What structlog writes to; all its method names are one."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, message: str) -> None:
        self._writer.write(message)

    debug = info = warning = warn = error = critical = exception = fatal = log = msg


class _Forward(logging.Handler):
    """The standard library's records (uvicorn, asyncio), as events like any other."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        text = record.getMessage()
        logger.log(record.levelno, "library.said", library=record.name, said=text, exc_info=record.exc_info)


@contextmanager
def open_log(*, level: str, form: str = "auto", descriptor: int | None = None) -> Iterator[LineWriter]:
    """Configure structlog for the time of the block.

    ``form`` is ``json``, ``console`` or ``auto``: console on a terminal, else JSON.
    """
    descriptor = sys.stderr.fileno() if descriptor is None else descriptor
    terminal = os.isatty(descriptor)
    writer = LineWriter(descriptor)
    console = form == "console" or (form == "auto" and terminal)
    structlog.configure(
        processors=_processors(console=console, colours=terminal and not os.environ.get("NO_COLOR")),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Logger(writer),
        cache_logger_on_first_use=False,
    )
    handler = _Forward(level=logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield writer
    finally:
        logging.getLogger().removeHandler(handler)
        writer.close()
        structlog.reset_defaults()


def _processors(*, console: bool, colours: bool) -> list[Any]:
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if console:
        plain = structlog.dev.plain_traceback
        return [
            *shared,
            structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=28, exception_formatter=plain),
        ]
    # Local variables stay out of tracebacks: they are where resolved secrets are.
    traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        *shared,
        structlog.processors.ExceptionRenderer(traceback),
        structlog.processors.JSONRenderer(default=str),
    ]
