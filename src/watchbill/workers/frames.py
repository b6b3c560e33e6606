"""Values from one process to the other, one after the other: the length in eight bytes, then the value, pickled.

Only over pipes to processes that we started from our own code: unpickling does what it is told to.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, BinaryIO

LENGTH = struct.Struct(">Q")


def packed(value: object) -> bytes:
    content = pickle.dumps(value, protocol=5)
    return LENGTH.pack(len(content)) + content


def unpacked(content: bytes) -> Any:
    return pickle.loads(content)  # noqa: S301 - see above


# --- the worker's side, which waits ------------------------------------------------------------------


def write(stream: BinaryIO, value: object) -> None:
    stream.write(packed(value))
    stream.flush()


def read(stream: BinaryIO) -> Any:
    """:raises EOFError: whoever asked is gone."""
    return unpacked(read_bytes(stream))


def read_bytes(stream: BinaryIO) -> bytes:
    """:raises EOFError: whoever asked is gone."""
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found
