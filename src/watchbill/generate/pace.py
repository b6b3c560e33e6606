"""How long alerts wait and how far they look back: it follows from how often something is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from math import ceil

from watchbill.domain.checks import Check
from watchbill.generate.asked import Asked

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SELDOM = 10 * MINUTE
"""An hour holds fewer than six slots of a check with a longer interval."""

# A wait is rounded up to a whole number of these, so that checks that differ by little share a rule.
_STEPS = ((10 * SECOND, SECOND), (MINUTE, 5 * SECOND), (10 * MINUTE, 30 * SECOND), (HOUR, 5 * MINUTE))
_LONGEST_STEP = HOUR / 2


def rounded_up(span: timedelta) -> timedelta:
    step = next((step for limit, step in _STEPS if span <= limit), _LONGEST_STEP)
    return ceil(span / step) * step


def two_slots(check: Check, asked: Asked) -> timedelta:
    """What one failed slot alone cannot fill, so that a check that is down for so long has failed twice at least.

    The failure may show at once and the success of the next slot as late as its timeout allows, either of them a
    scrape later, and one scrape may be lost.
    """
    return rounded_up(check.interval + check.timeout + 2 * asked.scrape_interval)


def first_verdict(checks: Iterable[Check], asked: Asked) -> timedelta:
    """When checks that run at all have a status, also where the exporter starts anew meanwhile.

    A check is probed at once when the exporter learns of it, so a long interval is not waited for.
    """
    longest = max(two_slots(check, asked) for check in checks)
    return rounded_up(min(longest, 15 * MINUTE) + gone(asked))


def gone(asked: Asked) -> timedelta:
    """How long an exporter may fail to answer before it counts as down: longer than a restart, eight scrapes.

    Two minutes are enough for a restart however rare the scrapes, but four must have failed.
    """
    scrape = asked.scrape_interval
    return max(min(8 * scrape, 2 * MINUTE), 4 * scrape)


def bridge(asked: Asked) -> timedelta:
    """How long what an exporter said last counts while it does not answer: until it counts as down, and longer."""
    return rounded_up(1.5 * gone(asked))


def absent(asked: Asked) -> timedelta:
    return 2.5 * gone(asked)


def window(wanted: timedelta, asked: Asked) -> timedelta:
    """A window that holds five scrapes at least: a rate needs two, and some may be lost."""
    return max(wanted, 5 * asked.scrape_interval)


def bridge_of_certificates(checks: Iterable[Check], asked: Asked) -> timedelta:
    """How long a certificate that was seen counts: over a result that saw none, an error of our own above all."""
    longest = max(2 * check.interval + check.timeout for check in checks)
    return max(10 * MINUTE, rounded_up(longest + asked.scrape_interval))


def window_of_coverage(checks: Iterable[Check], asked: Asked) -> timedelta:
    """What says whether all of them together are watched: a quarter of an hour, or four slots of the most frequent."""
    shortest = min((check.interval for check in checks), default=SECOND)
    return window(min(max(15 * MINUTE, rounded_up(4 * shortest)), HOUR), asked)
