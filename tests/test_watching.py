"""Watchers of proofs: they look on and on, and one that dies is noticed."""

from __future__ import annotations

import threading

import pytest

from tests.watching import watching


def test_it_looks_on_and_on_until_the_block_ends() -> None:
    seen: list[int] = []
    enough = threading.Event()

    def look() -> None:
        seen.append(len(seen))
        if len(seen) > 2:
            enough.set()

    with watching(look, every=0.001, name="numbers"):
        assert enough.wait(30)
    assert not [thread for thread in threading.enumerate() if thread.name == "numbers"]


def test_a_watcher_that_dies_ends_what_it_watched() -> None:
    tried = threading.Event()

    def look() -> None:
        tried.set()
        raise KeyError("a sample that is not there")

    with (
        pytest.raises(RuntimeError, match="for samples died") as raised,
        watching(look, every=0.001, name="samples"),
    ):
        assert tried.wait(30)
    assert isinstance(raised.value.__cause__, KeyError)


def test_what_fails_beside_it_is_told_first() -> None:
    def look() -> None:
        raise KeyError

    with pytest.raises(ValueError, match="mine"), watching(look, every=0.001, name="samples"):
        raise ValueError("mine")
