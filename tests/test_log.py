"""Log lines: JSON or for people, never blocking, never with the locals of a traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from watchbill.log import LineWriter, open_log


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def logged(form: str, level: str = "info") -> str:
    with pipe() as (reading, writing):
        with open_log(level=level, form=form, descriptor=writing):
            log = structlog.get_logger()
            log.debug("check.probed", check="a")
            log.warning("check.flipped", check="a", after="down")
            try:
                secret = "canary-secret"  # noqa: F841 - it stands in the frame that is logged
                raise ValueError("broken")
            except ValueError:
                log.exception("probe.crashed", check="b")
        return os.read(reading, 65_536).decode()


def test_off_a_terminal_every_line_is_json_with_one_event_name() -> None:
    flipped, crashed = (json.loads(line) for line in logged("auto").splitlines())
    assert (flipped["event"], flipped["level"], flipped["after"]) == ("check.flipped", "warning", "down")
    assert flipped["timestamp"].endswith("Z")
    assert crashed["exception"][0]["exc_type"] == "ValueError"


def test_local_variables_stay_out_of_tracebacks() -> None:
    for form in ("json", "console"):
        text = logged(form)
        assert "broken" in text
        assert "canary-secret" not in text


def test_the_level_is_obeyed() -> None:
    assert "check.probed" not in logged("json")
    assert "check.probed" in logged("json", "debug")


def test_a_reader_that_never_reads_blocks_nobody_and_is_counted() -> None:
    with pipe() as (reading, writing):
        writer = LineWriter(writing, waiting=100)
        for number in range(20_000):
            writer.write(f"{number:>100}")
        assert writer.statistics().dropped > 10_000
        os.set_blocking(reading, False)
        read = len(os.read(reading, 1 << 20))
        assert read > 0
        while True:  # let the writer's thread end: it is blocked on the full pipe
            try:
                if not os.read(reading, 1 << 20):
                    break
            except BlockingIOError:
                if not writer.pending():
                    break
        writer.close()


def test_a_pipe_that_was_made_non_blocking_loses_no_line() -> None:
    with pipe() as (reading, writing):
        os.set_blocking(writing, False)
        writer = LineWriter(writing)
        for number in range(5_000):
            writer.write(f"{number:>100}")
        read = b""
        while read.count(b"\n") < 5_000 and not writer.statistics().dropped:
            read += os.read(reading, 1 << 16)
        writer.close()
        assert writer.statistics().dropped == 0
        assert [int(line) for line in read.splitlines()] == list(range(5_000))
