"""The series of one check as values, for who does not read text: the same numbers as in ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from watchbill.board import CheckState
from watchbill.domain.checks import Heartbeat, Icmp
from watchbill.domain.config import MetricsOptions
from watchbill.domain.results import Outcome
from watchbill.domain.status import STATUS_VALUE
from watchbill.domain.units import SECOND, Instant
from watchbill.metrics.blackbox import DIGITS, LastProbe, numeric
from watchbill.metrics.checks import VERDICTS, fresh_until
from watchbill.metrics.exposition import safe
from watchbill.metrics.labels import COMMON_LABELS
from watchbill.readings import Observed, Reading, Sample


def reading_of(state: CheckState, now: Instant, *, options: MetricsOptions) -> Reading:
    check = state.check
    common = (check.id, state.location, check.service or "", check.type)
    return Reading(
        labels=dict(zip(COMMON_LABELS, map(safe, common), strict=True)),
        declared={name: safe(value) for name, value in check.labels.items()},
        target=safe(state.target),
        since=state.registered_at,
        observed_since=state.observed_since,
        samples=[*_own(state), *_of_the_last_result(state, now, options)],
        histograms=list(_histograms(state)),
    )


def _own(state: CheckState) -> Iterator[Sample]:
    check = state.check
    yield Sample("watchbill_check_info", 1, (("target", safe(state.target)),))
    yield Sample("watchbill_check_interval_seconds", check.interval_micros / SECOND)
    for outcome, count in state.slots.items():
        yield Sample("watchbill_check_slots_total", count, (("outcome", outcome.value),))
    if state.latest is not None:
        at = state.latest.started_at / SECOND
        yield Sample("watchbill_check_last_result_timestamp_seconds", at)
    if check.enabled and (value := STATUS_VALUE.get(state.status)) is not None:
        yield Sample("watchbill_check_status", value)
    if check.enabled and (reason := state.failing) is not None:
        yield Sample("watchbill_check_failing", 1, (("reason", reason.value),))


def _histograms(state: CheckState) -> Iterator[Observed]:
    if isinstance(state.check, Heartbeat):
        return
    yield Observed("watchbill_check_latency_seconds", state.latency)
    for phase, seen in state.phases.items():
        yield Observed("watchbill_check_phase_seconds", seen, (("phase", phase),))


def _of_the_last_result(state: CheckState, now: Instant, options: MetricsOptions) -> Iterator[Sample]:
    check, result = state.check, state.latest
    if not check.enabled or result is None or now > fresh_until(state):
        return
    verdict = result.verdict or result.outcome
    if verdict not in VERDICTS:
        return
    if isinstance(check, Icmp) and (loss := numeric(result.facts.get("loss_percent"))) is not None:
        yield Sample("watchbill_check_loss_ratio", round(loss / 100, DIGITS))
    if isinstance(check, Heartbeat) and (seen := numeric(result.facts.get("last_seen_at"))) is not None:
        yield Sample("watchbill_check_last_heartbeat_timestamp_seconds", seen)
    if options.probe:
        found = LastProbe(check, result, _Values(), options).found(success=verdict is Outcome.SUCCESS)
        for samples in found.values():
            yield from samples


class _Values:
    """A :class:`~watchbill.metrics.blackbox.Form` that leaves numbers numbers."""

    def one(self, name: str, value: float) -> list[Sample]:
        return [Sample(name, value)]

    def info(self, name: str, own: Mapping[str, str]) -> list[Sample]:
        return [Sample(name, 1, tuple((label, safe(value)) for label, value in own.items()))]

    def each(self, name: str, label: str, values: list[tuple[str, float]]) -> list[Sample]:
        return [Sample(name, value, ((label, of),)) for of, value in values]
