"""Alerts on single checks. Checks that wait alike and belong to the same people share a rule, whose matcher names them.

Why the expressions are as they are: they drop the labels that name one running process, so that an alert keeps its
identity, and the time it has been pending, when the process moves to another pod or port; ``last_over_time`` bridges the
scrapes that a restart or a rolling update loses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from watchbill.domain.checks import Check, Dns, Http, Tls
from watchbill.domain.config import Config
from watchbill.domain.fields import Service
from watchbill.generate import pace
from watchbill.generate.asked import PROCESS_LABELS, Asked
from watchbill.generate.rules import Alert, Group
from watchbill.generate.texts import (
    AT_LOCATION,
    CHECK,
    FAILING_BECAUSE,
    NUMBER,
    SEEN_FROM,
    SERVICE,
    SHARE,
    SPAN,
    TARGET,
    TYPE,
    said,
    span,
    verbatim,
)

SEVERITIES = ("critical", "warning", "info")
CERTIFICATE_AHEAD = timedelta(days=14)
AHEAD_OF_FAILING = timedelta(days=7)
CHECK_PAGE = f"/d/watchbill-check?var-check={CHECK}"
OVERVIEW = "/d/watchbill-overview"
_WITHOUT_EXPIRY = "no alerts on certificates: they read probe_ssl_earliest_cert_expiry, which `metrics: {probe: false}` leaves out"


@dataclass(frozen=True, slots=True)
class Watched:
    """The checks that one rule is for (none: all there are) and whose they are.

    ``severity``: of what pages; tickets are warnings whatever it is.
    """

    checks: tuple[str, ...] = ()
    service: str = ""
    owner: str = ""
    severity: str = "critical"
    runbook: str = ""

    def labels(self, severity: str, **more: str) -> dict[str, str]:
        whose = {"service": self.service, "owner": self.owner}
        known = {name: verbatim(value) for name, value in whose.items() if value} | {"severity": severity}
        return known | more if self.checks else known

    @property
    def of_service(self) -> str:
        """How a description names the service; of all checks each has its own."""
        if not self.checks:
            return SERVICE
        return f", service {self.service}" if self.service else ""


@dataclass(frozen=True, slots=True)
class Ruled:
    """An alert and the checks that it is for."""

    alert: Alert
    checks: tuple[Check, ...]


def check_groups(config: Config, asked: Asked) -> tuple[list[Group], list[str]]:
    """One group, and what the user should know of what is not in it."""
    certified = any(map(shows_certificate, asked.checks(config)))
    warnings = [_WITHOUT_EXPIRY] if certified and not config.metrics.probe else []
    return [Group("watchbill-checks", [ruled.alert for ruled in ruled_checks(config, asked)])], warnings


def general_checks(asked: Asked) -> list[Alert]:
    """The same on whatever checks there are, whose intervals nobody knows: two minutes ride out a blip of most."""
    every, bridge = Watched(), 10 * pace.MINUTE
    return [
        down(every, 2 * pace.MINUTE, asked=asked),
        unwatched(every, asked=asked),
        expiring(every, {CERTIFICATE_AHEAD: ()}, bridge, asked=asked),
        expired(every, bridge, asked=asked),
    ]


def ruled_checks(config: Config, asked: Asked) -> Iterator[Ruled]:
    """Every alert on single checks: the urgent ones first, each for as many checks as can share it."""
    checks = asked.checks(config)
    yield from _down(config, checks, asked)
    for whose, members in _by_people(config, checks):
        yield Ruled(unknown(whose, pace.first_verdict(members, asked), asked=asked), members)
    for whose, members in _by_people(config, checks):
        yield Ruled(unwatched(whose, _seldom(members, config), asked=asked), members)
    certified = [check for check in checks if config.metrics.probe and shows_certificate(check)]
    for whose, members in _by_people(config, certified):
        bridge = pace.bridge_of_certificates(members, asked)
        yield Ruled(expiring(whose, _aheads(members), bridge, asked=asked), members)
    for whose, members in _by_people(config, certified, paging=True):
        yield Ruled(expired(whose, pace.bridge_of_certificates(members, asked), asked=asked), members)


def _down(config: Config, checks: Iterable[Check], asked: Asked) -> Iterator[Ruled]:
    """Its wait is a label, too: no two rules of one name may be alike in their labels."""
    found: dict[timedelta, list[Check]] = {}
    for check in checks:
        found.setdefault(pace.two_slots(check, asked), []).append(check)
    for hold, alike in sorted(found.items()):
        for whose, members in _by_people(config, alike, paging=True):
            yield Ruled(down(whose, hold, asked=asked), members)


def _seldom(checks: Iterable[Check], config: Config) -> tuple[str, ...]:
    """Those that an hour holds too few slots of, where there is something else to see it by."""
    return tuple(check.id for check in checks if check.interval > pace.SELDOM and config.metrics.probe)


def _by_people(
    config: Config, checks: Iterable[Check], *, paging: bool = False
) -> list[tuple[Watched, tuple[Check, ...]]]:
    """Whose checks there are, and which; apart by severity only where the rule takes it from them."""
    found: dict[Watched, list[Check]] = {}
    for check in checks:
        whose = _whose(config, check)
        found.setdefault(whose if paging else replace(whose, severity=""), []).append(check)
    return [
        (replace(whose, checks=tuple(check.id for check in members)), tuple(members))
        for whose, members in found.items()
    ]


def _whose(config: Config, check: Check) -> Watched:
    """What a check declares of itself as a label, ``owner`` or ``severity``, goes before its service's."""
    service = config.services.get(check.service or "", Service())
    severity = check.labels.get("severity", "")
    return Watched(
        service=check.service or "",
        owner=check.labels.get("owner", service.owner),
        severity=severity if severity in SEVERITIES else "critical",
        runbook=service.runbook,
    )


def _selected(watched: Watched, asked: Asked, *more: str) -> str:
    """The matchers of a rule's series, braces and all; ``""`` where there is none."""
    checks = [asked.check_matcher(watched.checks)] if watched.checks else []
    matchers = [*asked.job_matcher, *checks, *more]
    return f"{{{', '.join(matchers)}}}" if matchers else ""


def down(watched: Watched, hold: timedelta, *, asked: Asked) -> Alert:
    """Bridged only while the exporter itself does not answer.

    From one that does, a check without a status was deleted, renamed, labelled anew or parked, and must not ring any more.
    """
    status = f"watchbill_check_status{_selected(watched, asked)}"
    bridge = span(pace.bridge(asked))
    return Alert(
        "WatchbillCheckDown",
        f"""\
max without ({PROCESS_LABELS}) (
  {status}
    or
  (last_over_time({status}[{bridge}]) unless on (job, instance) {asked.up} == 1)
) == 0
""",
        watched.labels(watched.severity, after=span(hold)),
        said(
            "WatchbillCheckDown",
            f"{CHECK} is down",
            f"The check {CHECK} ({TYPE}{watched.of_service}{SEEN_FROM}) has failed for more than {span(hold)}."
            f"{FAILING_BECAUSE}",
            runbook=watched.runbook,
            dashboard=CHECK_PAGE,
        ),
        hold,
    )


def unknown(watched: Watched, hold: timedelta, *, asked: Asked) -> Alert:
    """All checks of a service in one alert: what keeps verdicts away mostly does so for many."""
    selected = _selected(watched, asked)
    whose = f"service {watched.service}" if watched.service else "no service"
    return Alert(
        "WatchbillChecksUnknown",
        f"""\
count by (job, namespace, location) (
  max by (job, namespace, location, check) (watchbill_check_info{selected})
    unless on (job, namespace, location, check)
  watchbill_check_status{selected}
)
""",
        watched.labels("warning"),
        said(
            "WatchbillChecksUnknown",
            f"Checks of {whose} without a status{AT_LOCATION}: {NUMBER}",
            f"The exporter has known checks of {whose} for more than {span(hold)} without a single success or failure: "
            f"{NUMBER} of them. Nothing is said about their targets.",
            runbook=watched.runbook,
            dashboard=OVERVIEW,
        ),
        hold,
    )


def unwatched(watched: Watched, seldom: tuple[str, ...] = (), *, asked: Asked) -> Alert:
    """Excused slots were not meant to have a verdict.

    It must last longer than the hour, since the slots missed in a long downtime are added all at once when it is over.
    ``seldom``: checks whose last result alone tells, since an hour holds too few of their slots.
    """
    often = tuple(check for check in watched.checks if check not in seldom)
    hour = pace.window(pace.HOUR, asked)
    exprs = []
    if often or not watched.checks:
        exprs.append(_share(replace(watched, checks=often), asked, span(hour)))
    if seldom:
        exprs.append(_no_verdict(replace(watched, checks=seldom), asked))
    return Alert(
        "WatchbillCheckUnwatched",
        "or\n".join(exprs),
        watched.labels("warning"),
        said(
            "WatchbillCheckUnwatched",
            f"{CHECK} is hardly watched: {SHARE} of its slots have a verdict",
            f"Over the last {span(hour)} only {SHARE} of the slots of {CHECK} ended as success or failure. The others "
            "were errors of Watchbill's own side, skipped or missed.",
            runbook=watched.runbook,
            dashboard=CHECK_PAGE,
        ),
        hour + 5 * pace.MINUTE,
    )


def _share(watched: Watched, asked: Asked, hour: str) -> str:
    with_verdict = _selected(watched, asked, 'outcome=~"success|failure"')
    meant = _selected(watched, asked, 'outcome!="excused"')
    over = f"sum without (outcome, {PROCESS_LABELS})"
    slots = "watchbill_check_slots_total"
    return f"""\
{over} (increase({slots}{with_verdict}[{hour}]))
  /
{over} (increase({slots}{meant}[{hour}]))
  < 0.5
"""


def _no_verdict(watched: Watched, asked: Asked) -> str:
    """``probe_success`` is absent after an error, and once the last verdict is older than two intervals."""
    selected = _selected(watched, asked)
    return f"""\
0 * max without (target, {PROCESS_LABELS}) (
  watchbill_check_info{selected} unless on (job, namespace, location, check) probe_success{selected}
)
"""


def shows_certificate(check: Check) -> bool:
    """Whether a probe of it can see one: a redirect may lead to https."""
    match check:
        case Http():
            return check.url.startswith("https:") or check.follow_redirects
        case Tls():
            return True
        case Dns():
            return check.transport in ("tls", "https")
        case _:
            return False


def ahead_of(check: Check) -> timedelta:
    """How long before its end a certificate rings.

    A week before the check itself fails for it, where it asks for more than the two weeks.
    """
    asks = check.expect.certificate_valid_for if isinstance(check, Http | Tls | Dns) else None
    return max(CERTIFICATE_AHEAD, (asks or timedelta()) + AHEAD_OF_FAILING)


def _aheads(checks: Iterable[Check]) -> dict[timedelta, tuple[str, ...]]:
    found: dict[timedelta, tuple[str, ...]] = {}
    for check in checks:
        found[ahead_of(check)] = (*found.get(ahead_of(check), ()), check.id)
    return dict(sorted(found.items()))


def _left(watched: Watched, bridge: timedelta, asked: Asked) -> str:
    expiry = f"probe_ssl_earliest_cert_expiry{_selected(watched, asked)}"
    return f"""\
(
  min without ({PROCESS_LABELS}) (last_over_time({expiry}[{span(bridge)}])) - time()
)"""


def expiring(
    watched: Watched, aheads: Mapping[timedelta, tuple[str, ...]], bridge: timedelta, *, asked: Asked
) -> Alert:
    """``aheads``: how long before, and for which of the checks."""
    near = [
        f"{_left(replace(watched, checks=checks), bridge, asked)} < {ahead.total_seconds() / 86400:g} * 86400 > 0\n"
        for ahead, checks in aheads.items()
    ]
    return Alert(
        "WatchbillCertificateExpiring",
        "or\n".join(near),
        watched.labels("warning"),
        said(
            "WatchbillCertificateExpiring",
            f"The certificate of {TARGET} expires in {SPAN}",
            f"The check {CHECK} sees a certificate at {TARGET} that expires in {SPAN}.",
            runbook=watched.runbook,
            dashboard=CHECK_PAGE,
        ),
        max(15 * pace.MINUTE, 4 * asked.scrape_interval),
    )


def expired(watched: Watched, bridge: timedelta, *, asked: Asked) -> Alert:
    return Alert(
        "WatchbillCertificateExpired",
        f"{_left(watched, bridge, asked)} <= 0\n",
        watched.labels(watched.severity),
        said(
            "WatchbillCertificateExpired",
            f"The certificate of {TARGET} has expired",
            f"The check {CHECK} sees a certificate at {TARGET} that is no longer valid.",
            runbook=watched.runbook,
            dashboard=CHECK_PAGE,
        ),
    )
