"""Looking at something on and on, beside what a proof does.

A watcher that ends unnoticed sees nothing more, and whoever reads what it found takes that for good news; so its error
ends the proof.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watching(
    look: Callable[[], object], *, every: float, name: str, first: float | None = None
) -> Iterator[None]:
    """Call it every so many seconds, the first time after ``first``, in a thread of its own, until the block ends.

    :raises RuntimeError: at the end of the block, from what ``look`` raised.
    """
    done = threading.Event()
    died: list[BaseException] = []

    def watch() -> None:
        try:
            wait = every if first is None else first
            while not done.wait(wait):
                look()
                wait = every
        except BaseException as error:
            died.append(error)

    thread = threading.Thread(target=watch, name=name)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if died:
        raise RuntimeError(f"the thread for {name} died, and did no more") from died[0]
