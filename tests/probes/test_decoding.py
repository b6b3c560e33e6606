"""Content codings: whatever pieces they come in, how far they unfold, and what is not one."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from random import Random

import brotli
import pytest
from backports import zstd

from watchbill.probes.decoding import MOST_MEMBERS, STEP_BYTES, DecodingError, decoding_of

PLAIN = bytes(Random(1).randbytes(20_000)) + b"watchbill " * 200_000


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=5),
    "zstd": zstd.compress,
}


def unpack(data: bytes, *codings: str, piece: int = 65_536, limit: int = 10 << 20) -> bytes:
    decoding = decoding_of(codings, limit)
    steps = [
        step for start in range(0, len(data), piece) for step in decoding.feed(data[start : start + piece])
    ]
    decoding.finish()
    assert not decoding.cut
    assert max(map(len, steps), default=0) <= STEP_BYTES
    return b"".join(steps)


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("piece", [1, 7, 65_536])
def test_a_body_in_pieces_of_any_size_is_unpacked(coding: str, piece: int) -> None:
    plain = PLAIN[:30_000] if piece < 100 else PLAIN
    assert unpack(PACK[coding](plain), coding, piece=piece) == plain


@pytest.mark.parametrize("piece", [1, 65_536])
def test_deflate_without_its_frame_is_taken_too(piece: int) -> None:
    assert unpack(raw_deflate(b"hello" * 100), "deflate", piece=piece) == b"hello" * 100


def test_codings_are_undone_in_the_order_in_which_they_were_applied() -> None:
    assert unpack(brotli.compress(gzip.compress(PLAIN)), "gzip", "br") == PLAIN
    assert unpack(PLAIN) == PLAIN


@pytest.mark.parametrize("coding", PACK)
def test_no_body_at_all_is_empty_and_one_that_stops_is_none(coding: str) -> None:
    assert unpack(b"", coding) == b""
    packed = PACK[coding](PLAIN)
    for length in (1, 10, len(packed) // 2, len(packed) - 1):
        with pytest.raises(DecodingError, match="it ends too soon"):
            unpack(packed[:length], coding)


@pytest.mark.parametrize("coding", PACK)
def test_what_is_damaged_is_refused(coding: str) -> None:
    packed = bytearray(PACK[coding](PLAIN))
    for place in (0, len(packed) // 2):
        packed[place] ^= 0xFF
    with pytest.raises(DecodingError):
        unpack(bytes(packed), coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_what_follows_the_end_is_ignored(coding: str) -> None:
    assert unpack(PACK[coding](b"hello") + b"garbage", coding) == b"hello"


@pytest.mark.parametrize(("coding", "members"), [("gzip", "members"), ("zstd", "frames")])
def test_several_in_a_row_are_one_body_up_to_a_number(coding: str, members: str) -> None:
    one = PACK[coding](b"hello ")
    assert unpack(one * 3, coding) == b"hello " * 3
    with pytest.raises(DecodingError, match=f"it has more than {MOST_MEMBERS} {members}"):
        unpack(one * (MOST_MEMBERS + 1), coding)


def test_an_unknown_coding_is_refused() -> None:
    with pytest.raises(DecodingError, match="a coding that is not known here"):
        decoding_of(["compress"], 10)


def test_a_zstd_body_that_asks_for_a_huge_window_is_refused() -> None:
    options = {int(zstd.CompressionParameter.window_log): 27}
    with pytest.raises(DecodingError):
        unpack(zstd.compress(b"x" * (200 << 20), options=options), "zstd", limit=1 << 20)


BOMB_BYTES = 256 << 20


@pytest.mark.parametrize(
    "codings", [("gzip",), ("deflate",), ("br",), ("zstd",), ("gzip", "gzip"), ("gzip", "br")]
)
def test_a_bomb_goes_off_only_as_far_as_its_limit(codings: tuple[str, ...]) -> None:
    bomb = b"\0" * BOMB_BYTES
    for coding in codings:
        bomb = PACK[coding](bomb)
    decoding = decoding_of(codings, 1 << 20)
    tracemalloc.start()
    steps = 0
    for start in range(0, len(bomb), 65_536):
        for step in decoding.feed(bomb[start : start + 65_536]):
            steps += 1
            assert len(step) <= STEP_BYTES
        if decoding.cut:
            break
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoding.cut
    assert steps < 100
    assert peak < 8 << 20


def test_a_bomb_that_holds_only_another_s_beginning_is_cut_too() -> None:
    """Empty blocks of deflate: the inner coding never says anything."""
    empty_blocks = b"\x78\x9c" + b"\x00\x00\x00\xff\xff" * (8 << 20)
    decoding = decoding_of(("deflate", "gzip"), 1 << 20)
    assert set(decoding.feed(gzip.compress(empty_blocks))) == {b""}
    assert decoding.cut
