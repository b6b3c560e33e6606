"""The timeline never goes back, never jumps by itself, and follows the wall clock."""

from hypothesis import given
from hypothesis import strategies as st

from watchbill.clock import SLEW_STEP, Timeline
from watchbill.domain.units import SECOND


class Sources:
    def __init__(self) -> None:
        self.monotonic = 17 * SECOND
        self.wall = 1_800_000_000 * SECOND

    def timeline(self) -> Timeline:
        return Timeline(monotonic=lambda: self.monotonic / SECOND, wall=lambda: self.wall)

    def pass_time(self, micros: int) -> None:
        self.monotonic += micros
        self.wall += micros


def test_it_starts_at_the_wall_clock_and_runs_with_the_monotonic_one() -> None:
    sources = Sources()
    clock = sources.timeline()
    assert clock.now() == sources.wall
    sources.monotonic += SECOND
    assert clock.now() == sources.wall + SECOND
    assert clock.drift() == -SECOND


def test_a_large_jump_forwards_is_followed_at_once_and_reported() -> None:
    sources = Sources()
    clock = sources.timeline()
    sources.wall += 3600 * SECOND
    assert clock.correct() == 3600 * SECOND
    assert clock.drift() == 0


def test_a_large_step_back_leaves_the_timeline_ahead() -> None:
    sources = Sources()
    clock = sources.timeline()
    before = clock.now()
    sources.wall -= 3600 * SECOND
    assert clock.correct() == 0
    assert clock.now() == before
    assert clock.drift() == -3600 * SECOND


def test_small_differences_are_slewed_at_most_one_step_at_a_time() -> None:
    for difference in (SECOND, -SECOND):
        sources = Sources()
        clock = sources.timeline()
        sources.wall += difference
        steps = 0
        while clock.drift() and steps < 1000:
            before = abs(clock.drift())
            sources.pass_time(SECOND)
            assert clock.correct() == 0
            assert 0 <= before - abs(clock.drift()) <= SLEW_STEP
            steps += 1
        assert steps - SECOND // SLEW_STEP in {0, 1}


@given(
    st.lists(st.tuples(st.integers(0, 10 * SECOND), st.integers(-7200 * SECOND, 7200 * SECOND)), max_size=40)
)
def test_it_never_goes_back_whatever_the_wall_clock_does(steps: list[tuple[int, int]]) -> None:
    sources = Sources()
    clock = sources.timeline()
    latest = clock.now()
    for elapsed, jump in steps:
        sources.monotonic += elapsed
        sources.wall += elapsed + jump
        clock.correct()
        assert clock.now() >= latest
        latest = clock.now()
