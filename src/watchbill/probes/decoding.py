"""Content codings (gzip, deflate, br, zstd) undone in small steps, so that no body holds the event loop.

What unfolds without end is cut where nobody would judge it any more, and what ends before its coding does is not a body.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

STEP_BYTES = 256 * 1024
"""What one step unfolds at most: well under a millisecond."""
MOST_MEMBERS = 100
"""Of a gzip body, or frames of a zstd one: starting one costs more than what it may hold."""
WINDOW_LOG = 23
"""A zstd body may ask for a window of 8 MiB (RFC 9659 §3)."""
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class DecodingError(Exception):
    """The body is not what its Content-Encoding says."""


class Decoder(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Steps of at most :data:`STEP_BYTES`. What follows the end is ignored (brotli's decoder refuses it).

        :raises DecodingError: this is not that coding.
        """
        ...

    def ended(self) -> bool:
        """Whether the coding came to its end, or never began."""
        ...


class Decoding:
    """Undoes the codings of one body. ``cut``: one of them unfolded to more than ``limit`` bytes, and went no further."""

    def __init__(self, decoders: Sequence[Decoder], limit: int) -> None:
        self.cut = False
        self._decoders = decoders
        self._left = [limit] * len(decoders)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes of it, step by step; a step may bring nothing.

        :raises DecodingError: it is not as declared.
        """
        yield from self._feed(data, 0)

    def finish(self) -> None:
        """:raises DecodingError: the body ended before its coding did."""
        if not all(decoder.ended() for decoder in self._decoders):
            raise DecodingError("it ends too soon")

    def _feed(self, data: bytes, depth: int) -> Iterator[bytes]:
        if depth == len(self._decoders):
            yield data
            return
        for step in self._decoders[depth].feed(data):
            yield b""
            yield from self._feed(step, depth + 1)
            self._left[depth] -= len(step)
            if self._left[depth] < 0:
                self.cut = True
            if self.cut:
                return


class _Zlib:
    """One stream, or as gzip several in a row (RFC 1952 §2.2)."""

    def __init__(self, window_bits: int, *, magic: bytes = b"") -> None:
        self._bits = window_bits
        self._magic = magic
        self._stream = zlib.decompressobj(window_bits)
        self._begun = False
        self._members = 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            while data:
                yield from self._steps(data)
                data = self._stream.unused_data
                if not (self._stream.eof and data and self._magic.startswith(data[:2]) and self._magic):
                    return
                self._next_member()
        except zlib.error as error:
            raise DecodingError(str(error)) from error

    def _steps(self, data: bytes) -> Iterator[bytes]:
        while not self._stream.eof:
            step = self._stream.decompress(data, STEP_BYTES)
            data = self._stream.unconsumed_tail
            yield step
            if len(step) < STEP_BYTES and not data:
                return

    def _next_member(self) -> None:
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise DecodingError(f"it has more than {MOST_MEMBERS} members")
        self._stream = zlib.decompressobj(self._bits)

    def ended(self) -> bool:
        return self._stream.eof or not self._begun


class _Deflate:
    """As zlib's format (RFC 9110 §8.4.1.2), or bare, as some servers have it; two bytes tell which."""

    def __init__(self) -> None:
        self._start = b""
        self._stream: _Zlib | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            data = self._start = self._start + data
            if len(data) < 2:
                return
            is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._stream = _Zlib(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        yield from self._stream.feed(data)

    def ended(self) -> bool:
        return self._stream.ended() if self._stream is not None else not self._start


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            while not self._stream.is_finished():
                # It may give nearly twice as much as it is told.
                step = self._stream.process(data, output_buffer_limit=STEP_BYTES // 2)
                data = b""
                yield step
                if not step:
                    return
        except brotli.error as error:
            raise DecodingError("it is damaged") from error

    def ended(self) -> bool:
        return self._stream.is_finished() or not self._begun


class _Zstd:
    def __init__(self) -> None:
        self._frame = self._open()
        self._begun = False
        self._frames = 1

    @staticmethod
    def _open() -> ZstdDecompressor:
        return ZstdDecompressor(options={DecompressionParameter.window_log_max: WINDOW_LOG})

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            while data:
                yield from self._steps(data)
                data = self._frame.unused_data if self._frame.eof else b""
                if not _ZSTD.startswith(data[:4]):
                    return
                if data:
                    self._next_frame()
        except ZstdError as error:
            raise DecodingError(str(error)) from error

    def _steps(self, data: bytes) -> Iterator[bytes]:
        while not self._frame.eof:
            step = self._frame.decompress(data, STEP_BYTES)
            data = b""
            yield step
            if self._frame.needs_input:
                return

    def _next_frame(self) -> None:
        self._frames += 1
        if self._frames > MOST_MEMBERS:
            raise DecodingError(f"it has more than {MOST_MEMBERS} frames")
        self._frame = self._open()

    def ended(self) -> bool:
        return self._frame.eof or not self._begun


_DECODERS: dict[str, Callable[[], Decoder]] = {
    "gzip": lambda: _Zlib(zlib.MAX_WBITS | 16, magic=_GZIP),
    "x-gzip": lambda: _Zlib(zlib.MAX_WBITS | 16, magic=_GZIP),
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": _Zstd,
}


def decoding_of(codings: Sequence[str], limit: int) -> Decoding:
    """``codings`` as Content-Encoding lists them, the one that was applied last at the end.

    :raises DecodingError: one of them is unknown.
    """
    decoders = []
    for coding in reversed(codings):
        make = _DECODERS.get(coding)
        if make is None:
            raise DecodingError("it is in a coding that is not known here")
        decoders.append(make())
    return Decoding(decoders, limit)
