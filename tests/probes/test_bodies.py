"""Bodies as they come: in few parts, whatever pieces a target sends them in."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from random import Random

import httpx2
import pytest

from watchbill.probes.attempt import Attempt, PhaseClock
from watchbill.probes.bodies import GATHERED_BYTES, SMALL_BYTES, read_body

pytestmark = pytest.mark.anyio


def coming(pieces: Iterable[bytes]) -> httpx2.Response:
    async def one_by_one() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return httpx2.Response(200, content=one_by_one())


def attempt() -> Attempt:
    return Attempt(PhaseClock(time.monotonic))


async def test_a_body_sent_in_tiny_pieces_is_held_in_few_parts() -> None:
    parts, more = await read_body(coming([b"ab"] * 100_000), attempt(), limit=1 << 20)
    assert b"".join(parts) == b"ab" * 100_000
    assert len(parts) <= 200_000 // GATHERED_BYTES + 1
    assert not more


async def test_pieces_of_any_size_stay_in_their_order() -> None:
    chance = Random(7)
    sizes = [chance.choice((0, 1, SMALL_BYTES - 1, SMALL_BYTES, GATHERED_BYTES)) for _ in range(300)]
    pieces = [chance.randbytes(size) for size in sizes]
    parts, _ = await read_body(coming(pieces), attempt(), limit=64 << 20)
    assert b"".join(parts) == b"".join(pieces)


@pytest.mark.parametrize("piece", [1, 1000, SMALL_BYTES, 100_000])
async def test_what_is_beyond_the_limit_is_cut(piece: int) -> None:
    body = bytes(range(256)) * 1000
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    parts, more = await read_body(coming(pieces), attempt(), limit=50_000)
    assert b"".join(parts) == body[:50_000]
    assert more
