"""A stream of configurations to an exporter that does not do what it should: it ends, and says what was wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.exporter import Answer, Exporter
from tests.fuzz import stream
from tests.fuzz.case import Case

CASES = [(Case(f"case {number}", {"checks.yaml": b"{}"}), False) for number in range(8)]


class Stuck(Exporter):
    """Refuses whatever it is given, and its metric never says so."""

    asked = 0

    def request(self, path: str, **_: Any) -> Answer:
        self.asked += 1
        keepers = (
            f'watchbill_check_slots_total{{check="keeper-{number}",outcome="failure"}} {self.asked}\n'
            for number in range(stream.KEEPERS)
        )
        metrics = f"{stream.RELOADED} 1\n{''.join(keepers)}"
        status = 500 if path.startswith("/-/reload") else 200
        return Answer(status, {}, metrics.encode() if path == "/metrics" else b'{"digest": "same"}')

    def hang_up(self) -> None:
        pass


class Gone(Stuck):
    """Ends as soon as it is asked to reload."""

    def request(self, path: str, **more: Any) -> Answer:
        if path.startswith("/-/reload"):
            raise ConnectionRefusedError("nobody is there")
        return super().request(path, **more)


def standing_in(kind: type[Exporter]) -> Callable[..., Any]:
    @contextmanager
    def exporter(_: Path, folder: Path, **__: Any) -> Iterator[Exporter]:
        folder.mkdir()
        (folder / "log").touch()
        process = cast("Any", SimpleNamespace(poll=lambda: None))
        yield kind(process, "", folder / "history", folder / "log")

    return exporter


@pytest.mark.parametrize(
    ("kind", "last"),
    [
        (Stuck, "case 2: never happened: the metric is 0 after a signal for what is refused"),
        (Gone, "case 0: nobody is there"),
    ],
)
def test_a_stream_to_an_exporter_that_says_nothing_ends_with_the_case_and_the_reason(
    kind: type[Exporter], last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "exporter", standing_in(kind))
    monkeypatch.setattr(stream, "HEARD_WITHIN_SECONDS", 0.0)
    assert stream.run(tmp_path / "stream", CASES).problems[-1] == last
