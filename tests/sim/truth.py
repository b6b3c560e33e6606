"""What a probe must have found, given what its target and this machine did meanwhile."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tests.sim.targets import OWN_SIDE, WELL, Behaviour, Trouble
from watchbill.domain.checks import Check, Http
from watchbill.domain.results import OWN_SIDE as OWN_REASONS
from watchbill.domain.results import Outcome, Reason, Result
from watchbill.domain.stalls import STALLED

_HOST = re.compile(r"t(\d+)\.test")
_ALIKE: Mapping[Behaviour, Reason | None] = {
    Behaviour.ANSWERS: None,
    Behaviour.SLOW: None,
    Behaviour.LATE: None,
    Behaviour.TRICKLES: None,
    Behaviour.REFUSES: Reason.REFUSED,
    Behaviour.UNREACHABLE: Reason.UNREACHABLE,
    Behaviour.HANGS: Reason.CONNECT_TIMEOUT,
    Behaviour.SILENT: Reason.TIMEOUT,
    Behaviour.NO_NAME: Reason.DNS,
    Behaviour.NAME_HANGS: Reason.RESOLVER,
}
_OVER_TLS = {
    Behaviour.ERRORS: Reason.CERTIFICATE,
    Behaviour.GARBAGE: Reason.TLS,
    Behaviour.RESETS: Reason.TLS,
}
FOUND: Mapping[str, Mapping[Behaviour, Reason | None]] = {
    "http": {
        **_ALIKE,
        Behaviour.ERRORS: Reason.STATUS,
        Behaviour.GARBAGE: Reason.PROTOCOL,
        Behaviour.RESETS: Reason.RESET,
    },
    "https": {**_ALIKE, **_OVER_TLS},
    "tls": {**_ALIKE, **_OVER_TLS},
    "tcp": {
        **_ALIKE,
        Behaviour.ERRORS: None,
        Behaviour.GARBAGE: None,
        Behaviour.RESETS: None,
        Behaviour.SILENT: None,
    },
    "dns": {
        **_ALIKE,
        Behaviour.ERRORS: Reason.ANSWER,
        Behaviour.GARBAGE: Reason.TIMEOUT,
        Behaviour.RESETS: Reason.TIMEOUT,
        Behaviour.UNREACHABLE: Reason.TIMEOUT,
        Behaviour.HANGS: Reason.TIMEOUT,
    },
    "icmp": {
        **_ALIKE,
        Behaviour.REFUSES: Reason.UNREACHABLE,
        Behaviour.HANGS: Reason.LOSS,
        Behaviour.SILENT: Reason.LOSS,
        Behaviour.ERRORS: Reason.LOSS,
        Behaviour.GARBAGE: Reason.LOSS,
        Behaviour.RESETS: Reason.LOSS,
    },
}
"""By kind of check: the reason of the failure, ``None`` for a success."""
_OF_THE_NAME = frozenset({Behaviour.NO_NAME, Behaviour.NAME_HANGS})
_OF_TIME = frozenset({Reason.TIMEOUT, Reason.CONNECT_TIMEOUT, Reason.LOSS, Reason.LATENCY})
CERTAIN_STALL_SECONDS = 2.3
"""One within a probe that is longer is seen to be longer than two seconds, however late it was seen to begin."""


@dataclass(frozen=True)
class Meanwhile:
    """What happened from the begin to the end of one probe. ``stalls``: how long each of those was that lay within it."""

    behaviours: Collection[Behaviour]
    troubles: Collection[Trouble]
    stalls: Sequence[float]
    touched_by_stall: bool


@lru_cache(maxsize=4096)
def _number(text: str) -> int:
    found = _HOST.search(text)
    assert found is not None, text
    return int(found[1])


def host_of(check: Check) -> int:
    """The number of the target that it probes."""
    text = (
        check.url if isinstance(check, Http) else getattr(check, "server", None) or getattr(check, "host", "")
    )
    return _number(text)


def kind_of(check: Check) -> str:
    return "https" if isinstance(check, Http) and check.url.startswith("https") else check.type


def contradiction(result: Result, check: Check, truth: Meanwhile) -> str | None:
    """What is wrong with a result; a probe over which something changed may have found either."""
    if (result.reason in OWN_REASONS) is not (result.outcome is Outcome.ERROR):
        return f"{result.outcome}, though the reason is {result.reason}"
    if result.reason is Reason.STALL:
        return None if truth.touched_by_stall and STALLED in result.facts else "a stall that was none"
    if any(seconds > CERTAIN_STALL_SECONDS for seconds in truth.stalls):
        return f"{result.reason or 'success'}, though everything stood still for {max(truth.stalls)} s"
    own = {OWN_SIDE[trouble] for trouble in truth.troubles if trouble is not Trouble.NONE}
    if truth.touched_by_stall or Behaviour.NAME_HANGS in truth.behaviours:
        own.add(Reason.RESOLVER)  # a lookup that took the time says nothing of the target
    if result.reason in OWN_REASONS:
        return (
            None if result.reason in own else f"{result.reason}, though nothing was wrong with this machine"
        )
    return _misjudged(result, check, truth)


def _misjudged(result: Result, check: Check, truth: Meanwhile) -> str | None:
    seen = " and ".join(truth.behaviours)
    if result.reason not in _allowed(check, truth):
        return f"{result.reason or 'success'}, though it {seen}"
    took = result.duration_seconds - sum(truth.stalls)
    if result.outcome is Outcome.SUCCESS and took > check.timeout.total_seconds() + 0.1 and not truth.stalls:
        return f"a success of {took} s"
    lasting = len(truth.troubles) == 1 and Trouble.NONE not in truth.troubles and not _is_kept(check)
    if lasting and not _OF_THE_NAME & set(truth.behaviours):
        return f"{result.outcome}, though {' and '.join(truth.troubles)}"
    return None


def _allowed(check: Check, truth: Meanwhile) -> set[Reason | None]:
    behaviours = set(truth.behaviours)
    table = FOUND[kind_of(check)]
    allowed = {table[behaviour] for behaviour in behaviours}
    if behaviours <= set(WELL):
        return allowed
    if _is_kept(check):  # what it found may be what became of a connection that it had before
        allowed |= {None, Reason.TIMEOUT, Reason.RESET}
    if Behaviour.LATE in behaviours or len(behaviours) > 1:
        allowed |= _OF_TIME
    if len(behaviours) > 1:
        allowed |= {Reason.RESET, None}
        if kind_of(check) == "https":  # the handshake may have been over before
            allowed |= {FOUND["http"][behaviour] for behaviour in behaviours}
    if truth.touched_by_stall:  # what was certain to be silent may have spoken too late
        allowed |= _OF_TIME
    return allowed


def _is_kept(check: Check) -> bool:
    return isinstance(check, Http) and check.connection == "reuse"
