"""Checks, results and configuration as the JSON that the API shows; no secret is among it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from watchbill.board import CheckState
from watchbill.domain.checks import Check
from watchbill.domain.config import LoadedConfig
from watchbill.domain.errors import ConfigError, WatchbillError
from watchbill.domain.history import Coverage, StoredResult
from watchbill.domain.messages import ConfigReloaded
from watchbill.domain.plan import Change
from watchbill.domain.redaction import redact
from watchbill.domain.results import Outcome, Result, by_precedence
from watchbill.domain.specs import masked_spec, redactions
from watchbill.domain.stalls import STALLED
from watchbill.domain.units import Instant, to_datetime

Json = dict[str, Any]


def moment(instant: Instant | None) -> str | None:
    """RFC 3339 in UTC, to the microsecond."""
    if instant is None:
        return None
    return to_datetime(instant).isoformat(timespec="microseconds").replace("+00:00", "Z")


def check_answer(origins: Mapping[str, str], state: CheckState) -> Json:
    """One check as it stands, in a list of many. ``origins``: the block of ``discover`` that made a check."""
    check = state.check
    return {
        "id": check.id,
        "type": check.type,
        "service": check.service or "",
        "location": state.location,
        "discovery": origins.get(check.id),
        "target": state.target,
        "description": check.description,
        "labels": dict(check.labels),
        "enabled": check.enabled,
        "interval_us": check.interval_micros,
        "status": state.status.value,
        "since": moment(state.since),
        "reason": state.failing.value if state.failing else None,
        "slots": {outcome.value: count for outcome, count in state.slots.items()},
        "availability": availability(state.slots),
        "latest": latest_answer(state.latest) if state.latest else None,
    }


def check_detail(origins: Mapping[str, str], state: CheckState) -> Json:
    """The same with everything that the last probe saw, and what was declared."""
    latest = state.latest
    facts = _redacted(latest.facts if latest else {}, redactions(state.check))
    return {
        **check_answer(origins, state),
        "registered_at": moment(state.registered_at),
        "spec": masked_spec(state.check),
        "latest": {**latest_answer(latest), "facts": facts} if latest else None,
    }


def _redacted(value: Any, secrets: tuple[str, ...]) -> Any:
    """A target may echo what it was sent anywhere, a certificate's subject included."""
    match value:
        case str():
            return redact(value, secrets)
        case Mapping():
            return {key: _redacted(item, secrets) for key, item in value.items()}
        case list() | tuple():
            return [_redacted(item, secrets) for item in value]
        case _:
            return value


def latest_answer(result: Result) -> Json:
    return {
        "started_at": moment(result.started_at),
        "slot": moment(result.slot),
        "trigger": result.trigger.value,
        "outcome": result.outcome.value,
        "reason": result.reason.value if result.reason else None,
        "failures": [
            {"reason": failure.reason.value, "message": failure.message}
            for failure in by_precedence(result.failures)
        ],
        "status_code": result.status_code,
        "duration_seconds": result.duration_seconds,
        "phases": dict(result.phases),
        "stalled_seconds": result.facts.get(STALLED),
    }


def availability(slots: Mapping[Outcome, int]) -> float | None:
    """Successes among the slots with a verdict; ``None`` before the first."""
    judged = slots[Outcome.SUCCESS] + slots[Outcome.FAILURE]
    return slots[Outcome.SUCCESS] / judged if judged else None


def stored_answer(row: StoredResult) -> Json:
    return {
        **asdict(row),
        "slot": moment(row.slot),
        "started_at": moment(row.started_at),
        "trigger": row.trigger.value,
    }


def coverage_answer(row: Coverage) -> Json:
    return asdict(row)


def spec_answer(check: Check) -> Json:
    return {
        "spec": masked_spec(check),
        "interval_us": check.interval_micros,
        "enabled": check.enabled,
        "service": check.service or "",
    }


def settings_answer(loaded: LoadedConfig) -> Json:
    """Everything of the configuration but its checks."""
    return loaded.config.model_dump(mode="json", by_alias=True, exclude={"version", "checks"})


def reload_answer(event: ConfigReloaded) -> Json:
    """How many checks changed; which, says :func:`change_answer`."""
    return {**event.plan.counts(), "digest": event.loaded.digest, "revision": event.loaded.revision}


def change_answer(change: Change) -> Json:
    moved = {"moved_from": change.moved_from} if change.moved_from else {}
    return {"id": change.check_id, **moved, "fields": [field.path for field in change.fields]}


def rejection_answer(error: WatchbillError) -> Json:
    """Why a reload changed nothing: every problem of a bad configuration, one line each."""
    if isinstance(error, ConfigError):
        problems = [str(problem) for problem in error.problems]
        return {"error": f"the configuration is not valid: {len(problems)} problem(s)", "problems": problems}
    return {"error": str(error)}
