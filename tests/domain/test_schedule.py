"""Slots: on the grid, strictly after, never two."""

from hypothesis import given
from hypothesis import strategies as st

from watchbill.domain.schedule import Span, first_slot_after, last_slot_until, offset_of, slots_between
from watchbill.domain.units import SECOND

ids = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,30}", fullmatch=True)
intervals = st.integers(SECOND, 7 * 86_400 * SECOND)
instants = st.integers(0, 4_000_000_000 * SECOND)


@given(ids, intervals, instants)
def test_the_next_slot_lies_within_one_interval_and_on_the_grid(
    check_id: str, interval: int, now: int
) -> None:
    offset = offset_of(check_id, interval)
    slot = first_slot_after(now, interval=interval, offset=offset)
    assert 0 <= offset < interval
    assert now < slot <= now + interval
    assert (slot - offset) % interval == 0


@given(ids, intervals, instants)
def test_the_last_slot_is_one_interval_before_the_next(check_id: str, interval: int, now: int) -> None:
    offset = offset_of(check_id, interval)
    last = last_slot_until(now, interval=interval, offset=offset)
    assert last <= now
    assert first_slot_after(now, interval=interval, offset=offset) == last + interval


@given(ids, st.integers(SECOND, 60 * SECOND), instants, st.integers(0, 3600 * SECOND))
def test_counting_slots_agrees_with_walking_them(
    check_id: str, interval: int, after: int, length: int
) -> None:
    offset, until = offset_of(check_id, interval), after + length
    first = first_slot_after(after, interval=interval, offset=offset)
    assert slots_between(after, until, interval=interval, offset=offset) == len(
        range(first, until + 1, interval)
    )


@given(ids, intervals, instants, st.lists(st.integers(0, 10 * 86_400 * SECOND), min_size=2, max_size=2))
def test_a_span_split_in_two_expects_the_same_slots(
    check_id: str, interval: int, opened: int, cuts: list[int]
) -> None:
    offset = offset_of(check_id, interval)
    cut, end = opened + min(cuts), opened + max(cuts)
    whole = Span(check_id, "", interval, offset, opened, end)
    first = Span(check_id, "", interval, offset, opened, cut)
    second = Span(check_id, "", interval, offset, cut, end)
    parts = first.expected(0, end + SECOND) + second.expected(0, end + SECOND)
    assert parts == whole.expected(0, end + SECOND)


def test_the_offset_is_the_documented_hash() -> None:
    # blake2b("shop-home", digest_size=8) as a big-endian integer, modulo 30 s
    assert offset_of("shop-home", 30 * SECOND) == 908_711
    spread = {offset_of(f"check-{number}", 60 * SECOND) // SECOND for number in range(600)}
    assert len(spread) == 60
