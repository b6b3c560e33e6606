"""The latest result, the status and the running counts of each check, in memory: what web and metrics read.

Counts belong to the process and are never restored. A deleted check is gone at once, and with it its series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from watchbill.domain.checks import Check, target_of
from watchbill.domain.config import LATENCY_BUCKETS, MetricsOptions
from watchbill.domain.fields import Service
from watchbill.domain.messages import (
    CheckDeleted,
    CheckRegistered,
    CheckStatusChanged,
    ConfigReloaded,
    Event,
    HeartbeatReceived,
    ProbeEvent,
    ServiceStatusChanged,
    SlotSkipped,
    SlotsMissed,
)
from watchbill.domain.redaction import redact
from watchbill.domain.results import (
    PHASES,
    TARGET_REASONS,
    Outcome,
    Reason,
    Result,
    SkipReason,
    Trigger,
)
from watchbill.domain.specs import redactions
from watchbill.domain.stalls import STALLED
from watchbill.domain.status import Flip, Status, fold, roll_up
from watchbill.domain.units import Instant


@dataclass(slots=True)
class Histogram:
    """Counts per bucket (not cumulative), the last one over every bound; the sum in seconds."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    @classmethod
    def over(cls, bounds: tuple[float, ...]) -> Histogram:
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


@dataclass
class CheckState:
    """One check as it stands. ``version`` goes up with every change, so that readers may cache."""

    check: Check
    location: str
    registered_at: Instant
    observed_since: Instant
    """From when on the histograms count."""
    latency: Histogram
    phases: dict[str, Histogram] = field(default_factory=dict)
    latest: Result | None = None
    status: Status = Status.UNKNOWN
    since: Instant | None = None
    reason: Reason | None = None
    """Of the latest failure."""
    slots: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    version: int = 0

    @cached_property
    def target(self) -> str:
        return redact(target_of(self.check), redactions(self.check))

    @property
    def failing(self) -> Reason | None:
        """The one reason it fails for, while the latest verdict is a failure; an error of our own is no verdict."""
        return self.reason if self.status is Status.DOWN else None

    def take(self, result: Result) -> None:
        self.latest = result
        self.version += 1
        if result.outcome is Outcome.FAILURE:
            self.reason = result.reason


class Board:
    """The state of every registered check and service, by id, in the order they came."""

    def __init__(self) -> None:
        self.checks: dict[str, CheckState] = {}
        self.services: dict[str, Status] = {}
        self.declared_services: Mapping[str, Service] = {}
        self.failures: dict[tuple[str, Reason], int] = {}
        self.skipped: dict[SkipReason, int] = dict.fromkeys(SkipReason, 0)
        self.stalled = 0
        """Results taken over a stall of our own, which say nothing of the target's speed."""
        self.options = MetricsOptions()
        self._members: dict[str, set[str]] = {}
        self._last_seen: dict[str, Instant] = {}
        self._moving: dict[str, CheckState] = {}

    # --- subscribers --------------------------------------------------------------------------------

    def registered(self, event: CheckRegistered) -> list[Event]:
        """A changed check keeps its counts, its latest result and its status; a renamed one its status."""
        check = event.check
        for reason in TARGET_REASONS:
            self.failures.setdefault((check.type, reason), 0)
        if _begins_anew(event):
            self._last_seen[check.id] = event.at
        kept = self.checks.get(check.id)
        if kept is not None and kept.check.type != check.type:
            self._leave(kept.check)
            kept = None
        if kept is None:
            self.checks[check.id] = self._fresh(event)
        else:
            self._leave(kept.check)
            kept.check = check
            kept.__dict__.pop("target", None)
            kept.version += 1
        self._last_seen.setdefault(check.id, event.at)
        if check.service is not None:
            self._members.setdefault(check.service, set()).add(check.id)
            self.services.setdefault(check.service, Status.UNKNOWN)
        left = event.previous.service if event.previous is not None else None
        return self._settle({left, check.service}, event.at)

    def deleted(self, event: CheckDeleted) -> list[Event]:
        state = self.checks.pop(event.check.id, None)
        seen = self._last_seen.pop(event.check.id, None)
        if event.moved_to is not None and state is not None and seen is not None:
            self._moving[event.moved_to] = state
            self._last_seen[event.moved_to] = seen
        self._leave(event.check)
        return self._settle({event.check.service}, event.at)

    def probed(self, event: ProbeEvent) -> list[Event]:
        """Take one result in; the flips that follow from it are returned for publishing."""
        result = event.result
        state = self.checks.get(result.check_id)
        if state is None:
            return []
        state.take(result)
        stalled = STALLED in result.facts
        self.stalled += stalled
        if result.trigger is Trigger.SCHEDULE:
            state.slots[result.outcome] += 1
            if result.outcome is Outcome.SUCCESS and not stalled:
                state.latency.observe(result.duration_seconds)
                for phase, seconds in result.phases.items():
                    if phase in state.phases:
                        state.phases[phase].observe(seconds)
            if result.outcome is Outcome.FAILURE or result.outcome is Outcome.ERROR:
                self._count_failure(state.check.type, result)
        return self._flip(state, fold(state.status, result.outcome), result.started_at)

    def skipped_slot(self, event: SlotSkipped) -> None:
        self.skipped[event.reason] += 1
        if state := self.checks.get(event.check_id):
            state.slots[Outcome.SKIPPED] += 1
            state.version += 1

    def heartbeat(self, event: HeartbeatReceived) -> None:
        self._last_seen[event.check_id] = event.at

    def gap(self, event: SlotsMissed) -> None:
        self.missed(event.counts)

    def missed(self, counts: Mapping[str, int]) -> None:
        """Add slots that nobody ran, by check id."""
        for check_id, count in counts.items():
            if count and (state := self.checks.get(check_id)):
                state.slots[Outcome.MISSED] += count
                state.version += 1

    def configured(self, event: ConfigReloaded) -> None:
        config = event.loaded.config
        before, self.options = self.options, config.metrics
        other_histograms = (before.buckets, before.phases) != (self.options.buckets, self.options.phases)
        for state in self.checks.values() if before != self.options else ():
            if other_histograms:
                state.latency = self._histogram()
                state.phases = self._phases()
                state.observed_since = event.at
            state.version += 1
        self.declared_services = config.services
        for name in list(self.services):
            if name not in config.services and not self._members.get(name):
                del self.services[name]

    def restore(
        self,
        results: Mapping[str, Result],
        statuses: Mapping[str, Status],
        last_seen: Mapping[str, Instant],
    ) -> None:
        """What history knows of the registered checks at start: gauges and status, never counts.

        ``last_seen``: the last heartbeat of a check, or else when it was first declared.
        """
        self._last_seen |= {check_id: at for check_id, at in last_seen.items() if check_id in self.checks}
        for check_id, state in self.checks.items():
            if state.latest is None and (result := results.get(check_id)) is not None:
                state.take(result)
            if state.status is Status.UNKNOWN and (status := statuses.get(check_id)) is not None:
                state.status = status
                state.version += 1
        for service in self.services:
            self.services[service] = self.service_status(service)

    # --- questions ----------------------------------------------------------------------------------

    def last_seen(self, check_id: str) -> Instant:
        """When a heartbeat last came, or else when the check was declared."""
        return self._last_seen[check_id]

    def latest_at(self, check_id: str) -> Instant | None:
        state = self.checks.get(check_id)
        return None if state is None or state.latest is None else state.latest.started_at

    def service_status(self, service: str) -> Status:
        members = self._members.get(service, ())
        return roll_up(
            self.checks[check_id].status for check_id in members if self.checks[check_id].check.enabled
        )

    def members(self, service: str) -> Iterable[str]:
        return sorted(self._members.get(service, ()))

    # --- inside -------------------------------------------------------------------------------------

    def _fresh(self, event: CheckRegistered) -> CheckState:
        """A new state; what was renamed keeps its latest result, so that it is not probed as if it were new."""
        before = self._moving.pop(event.check.id, None)
        latest = None
        if before is not None and before.latest is not None and before.check.type == event.check.type:
            latest = replace(before.latest, check_id=event.check.id)
        return CheckState(
            latest=latest,
            status=before.status if before is not None else Status.UNKNOWN,
            since=before.since if before is not None else None,
            reason=before.reason if before is not None else None,
            check=event.check,
            location=event.location,
            registered_at=event.at,
            observed_since=event.at,
            latency=self._histogram(),
            phases=self._phases(),
        )

    def _histogram(self) -> Histogram:
        return Histogram.over(self.options.buckets or LATENCY_BUCKETS)

    def _phases(self) -> dict[str, Histogram]:
        return {phase: self._histogram() for phase in PHASES} if self.options.phases else {}

    def _leave(self, check: Check) -> None:
        if check.service is None:
            return
        members = self._members.get(check.service, set())
        members.discard(check.id)
        if not members and check.service not in self.declared_services:
            self.services.pop(check.service, None)
            self._members.pop(check.service, None)

    def _count_failure(self, type_name: str, result: Result) -> None:
        if result.reason is not None:
            key = (type_name, result.reason)
            self.failures[key] = self.failures.get(key, 0) + 1

    def _flip(self, state: CheckState, after: Status, at: Instant) -> list[Event]:
        before = state.status
        if after is before:
            return []
        state.status, state.since = after, at
        flip = CheckStatusChanged(Flip(state.check.id, at, before, after))
        return [flip, *self._settle({state.check.service}, at)]

    def _settle(self, services: set[str | None], at: Instant) -> list[Event]:
        """Roll these services up anew; what changed."""
        events: list[Event] = []
        for service in sorted(services - {None}, key=str):
            if service is None or service not in self.services:
                continue
            before, after = self.services[service], self.service_status(service)
            self.services[service] = after
            if before is not after:
                events.append(ServiceStatusChanged(service, at, before, after))
        return events


def _begins_anew(event: CheckRegistered) -> bool:
    """Whether heartbeats are due from now on only: while it was parked or of another type nobody owed any."""
    previous = event.previous
    return (
        previous is not None
        and event.check.enabled
        and (not previous.enabled or previous.type != event.check.type)
    )
