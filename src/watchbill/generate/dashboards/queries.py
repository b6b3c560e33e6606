"""PromQL that several panels share.

Counters are per process, so every sum is over what ``increase()`` gives, which knows of restarts. What stands for
several checks weighs each by its interval, never by its slots: a check each second would drown one each minute.
"""

from __future__ import annotations

OWN = 'job=~"$job"'
"""What the exporters say of themselves."""
SLOTS = "watchbill_check_slots_total"
VERDICTS, ASKED_FOR = 'outcome=~"success|failure"', 'outcome!="excused"'
SUCCESSES = 'outcome="success"'
ROW = "check, service, type, location"
"""The labels of a check that a table shows."""
OF_OURS = "and on (job, instance) watchbill_build_info"
"""Keeps families that any process has to the exporters' own."""


def availability(chosen: str, window: str, by: str) -> str:
    """Successes among the verdicts of each check."""
    return _share(SUCCESSES, VERDICTS, chosen, window, by)


def coverage(chosen: str, window: str, by: str) -> str:
    """Slots with a verdict among those expected, of each check."""
    return _share(VERDICTS, ASKED_FOR, chosen, window, by)


def _share(part: str, whole: str, chosen: str, window: str, by: str) -> str:
    return (
        f"sum by ({by}) (increase({SLOTS}{{{part}, {chosen}}}[{window}]))"
        f" / sum by ({by}) (increase({SLOTS}{{{whole}, {chosen}}}[{window}]))"
    )


def weighted_availability(chosen: str, window: str, by: str = "") -> str:
    """The share of the time of several checks in which they succeeded."""
    return f"{_time(SUCCESSES, chosen, window, by)} / {_time(VERDICTS, chosen, window, by)}"


def weighted_coverage(chosen: str, window: str, by: str = "") -> str:
    """The share of the time of several checks for which there is a verdict."""
    return f"{_time(VERDICTS, chosen, window, by)} / {_time(ASKED_FOR, chosen, window, by)}"


def availability_over_time(chosen: str, window: str, by: str) -> str:
    """The same as a graph: at each of its points, so that looking for intervals that are gone would cost too much.

    Of 500 checks over 6 hours it took half of the time; what a process that ended counted is left out meanwhile.
    """
    return f"{_time_now(SUCCESSES, chosen, window, by)} / {_time_now(VERDICTS, chosen, window, by)}"


def _time_now(outcomes: str, chosen: str, window: str, by: str) -> str:
    slots = f"rate({SLOTS}{{{outcomes}, {chosen}}}[{window}])"
    interval = f"watchbill_check_interval_seconds{{{chosen}}}"
    return f"sum by ({by}) ({slots} * on (job, instance, check, location) group_left () {interval})"


def _time(outcomes: str, chosen: str, window: str, by: str) -> str:
    """Slots times their interval. The interval is looked for in the whole window: its process may be gone by now."""
    each = "job, check, location"
    slots = f"sum by ({each}, service) (increase({SLOTS}{{{outcomes}, {chosen}}}[{window}]))"
    interval = f"max by ({each}) (last_over_time(watchbill_check_interval_seconds{{{chosen}}}[{window}]))"
    return f"{_sum(by)} ({slots} * on ({each}) group_left () {interval})"


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"


def quantile(share: float, family: str, chosen: str, window: str = "$__rate_interval", by: str = "") -> str:
    """How long all but the slowest took, exact to the bounds of the histogram."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouped}) (rate({family}_bucket{{{chosen}}}[{window}])))"


def checks_of_status(value: str, chosen: str) -> str:
    return f"count(max by (check, location) (watchbill_check_status{{{chosen}}}) == {value}) or vector(0)"


def checks_without_status(chosen: str) -> str:
    return f"""count(max by (check, location) (watchbill_check_info{{{chosen}}})
        unless max by (check, location) (watchbill_check_status{{{chosen}}})) or vector(0)"""


def rate(family: str, chosen: str = OWN, by: str = "") -> str:
    return f"{_sum(by)} (rate({family}{{{chosen}}}[$__rate_interval]))"


def increase(family: str, window: str, chosen: str = OWN, by: str = "") -> str:
    return f"{_sum(by)} (increase({family}{{{chosen}}}[{window}]))"


def first_failure(chosen: str) -> str:
    """How long ago each check that fails now began to, over the last six hours; a short recovery is looked past.

    What fails for less than a step of the subquery is not in it. Cheap with any number of checks: the family has only those that fail.
    """
    failing = f"watchbill_check_failing{{{chosen}}}"
    return f"""time() - min by ({ROW}) (min_over_time(timestamp({failing})[6h:15s]) or timestamp({failing}))
        and on (check, location) {failing}"""
