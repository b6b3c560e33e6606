"""What workers are asked to do in tests: they find it by its name."""

from __future__ import annotations

import os
import signal
import time


def who(_: bytes) -> int:
    return os.getpid()


def stay(_: bytes) -> None:
    time.sleep(600)


def sleep(_: bytes, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def die(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash(_: bytes) -> None:
    raise ZeroDivisionError("a secret, perhaps")


def gorge(_: bytes, mebibytes: int) -> int:
    return len(bytearray(mebibytes << 20))


KEPT: list[bytes] = []


def keep(_: bytes, mebibytes: int) -> None:
    KEPT.append(b"x" * (mebibytes << 20))
