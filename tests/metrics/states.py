"""Boards in known states, built from events alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from watchbill.board import Board, Histogram
from watchbill.domain.checks import Check, parse_check
from watchbill.domain.config import Config, LoadedConfig, MetricsOptions
from watchbill.domain.messages import (
    CheckErrored,
    CheckFailed,
    CheckRegistered,
    CheckSucceeded,
    ConfigReloaded,
    ProbeEvent,
)
from watchbill.domain.plan import Plan
from watchbill.domain.results import PHASES, Failure, Outcome, Reason, Result, Trigger, outcome_of
from watchbill.domain.units import SECOND, Instant
from watchbill.metrics import Metrics

START: Instant = 1_790_000_000 * SECOND
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Series = tuple[str, frozenset[tuple[str, str]]]

TLS_FACTS: Mapping[str, Any] = {
    "ssl": True,
    "tls_version": "TLSv1.3",
    "tls_cipher": "TLS_AES_256_GCM_SHA384",
    "certificate_expires_at": 1_800_000_000.0,
    "certificate_subject": "CN=shop.example",
    "certificate_issuer": "CN=Test CA",
    "certificate_names": ["shop.example", "www.shop.example"],
    "certificate_sha256": "ab" * 32,
    "certificate_serial": "0a1b",
}
ADDRESS_FACTS: Mapping[str, Any] = {"ip_protocol": 4, "address": "192.0.2.7", "dns_lookup_seconds": 0.002}
DECLARED: Mapping[str, Mapping[str, Any]] = {
    "http": {"url": "https://shop.example/"},
    "tcp": {"host": "db.example", "port": 5432},
    "tls": {"host": "shop.example"},
    "dns": {"name": "shop.example", "record": "SOA", "server": "192.0.2.53", "transport": "tcp"},
    "icmp": {"host": "192.0.2.1"},
    "heartbeat": {"every": "24h"},
}
FACTS: Mapping[str, Mapping[str, Any]] = {
    "http": {
        **ADDRESS_FACTS,
        **TLS_FACTS,
        "http_version": "1.1",
        "redirects": 1,
        "content_length": 512,
        "body_bytes": 512,
        "last_modified": 1_700_000_000,
    },
    "tcp": ADDRESS_FACTS,
    "tls": {**ADDRESS_FACTS, **TLS_FACTS},
    "dns": {
        **ADDRESS_FACTS,
        "rcode": "NOERROR",
        "answer_count": 1,
        "authority_count": 2,
        "additional_count": 3,
        "serial": 2026112201,
    },
    "icmp": {
        **ADDRESS_FACTS,
        "rtt_min": 0.01,
        "rtt_avg": 0.02,
        "rtt_max": 0.03,
        "hop_limit": 57,
        "loss_percent": 25.0,
    },
    "heartbeat": {"last_seen_at": 1_789_999_000.5},
}


@dataclass
class FixedClock:
    """A clock that stands where it was put."""

    instant: Instant = START
    drift_micros: int = 0

    def now(self) -> Instant:
        return self.instant

    async def sleep_until(self, instant: Instant) -> None:
        self.instant = max(self.instant, instant)

    def monotonic(self) -> float:
        return self.instant / SECOND

    def drift(self) -> int:
        return self.drift_micros

    def correct(self) -> int:
        return 0

    def not_before(self, instant: Instant) -> int:
        return 0


def declare(check_id: str = "shop", type: str = "http", **fields: Any) -> Check:  # noqa: A002 - the key in the file
    return parse_check({"id": check_id, "type": type, **DECLARED[type], **fields})


def probe_of(
    check: Check,
    *failures: Failure,
    at: Instant = START,
    seconds: float = 0.125,
    trigger: Trigger = Trigger.SCHEDULE,
    **fields: Any,
) -> ProbeEvent:
    """What a probe of that check may have found; everything that its type can find unless told otherwise."""
    phases = {"heartbeat": {}, "http": dict.fromkeys(PHASES, seconds / 5)}.get(
        check.type, {"resolve": seconds / 2, "processing": seconds / 2}
    )
    given: dict[str, Any] = {
        "phases": phases,
        "facts": dict(FACTS[check.type]),
        "status_code": 200 if check.type == "http" else None,
        "outcome": outcome_of(failures),
    }
    result = Result(
        check_id=check.id,
        location="",
        slot=at,
        trigger=trigger,
        started_at=at,
        duration_seconds=seconds,
        failures=failures,
        **{**given, **fields},
    )
    match result.outcome:
        case Outcome.SUCCESS:
            return CheckSucceeded(result)
        case Outcome.FAILURE:
            return CheckFailed(result)
        case _:
            return CheckErrored(result)


def refused(message: str = "connection refused") -> Failure:
    return Failure(Reason.REFUSED, message)


def reloaded(options: MetricsOptions | None = None, **fields: Any) -> ConfigReloaded:
    config = Config(metrics=options or MetricsOptions(), **fields)
    return ConfigReloaded(LoadedConfig(config, "d1g3st", "c0ffee"), Plan(), START, "signal")


@dataclass
class Scene:
    """A board, its clock and what is rendered from them."""

    board: Board = field(default_factory=Board)
    clock: FixedClock = field(default_factory=FixedClock)

    def __post_init__(self) -> None:
        self.metrics = Metrics(board=self.board, clock=self.clock, version="1.2.3")

    def register(self, *checks: Check, location: str = "") -> None:
        for check in checks:
            state = self.board.checks.get(check.id)
            previous = state.check if state else None
            self.board.registered(CheckRegistered(check, self.clock.now(), location, previous))

    def found(self, *events: ProbeEvent) -> None:
        for event in events:
            self.board.probed(event)

    def configure(self, options: MetricsOptions) -> None:
        self.board.configured(reloaded(options))

    def text(self, accept: str = "") -> str:
        return self.metrics.render(accept)[1].decode()

    def series(self) -> dict[Series, float]:
        return series_of(self.text())

    def names(self, check_id: str = "shop") -> set[str]:
        """The sample names that the check has."""
        return {name for name, labels in self.series() if ("check", check_id) in labels}

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one series of that name with at least these labels."""
        found = [
            value
            for (seen, pairs), value in self.series().items()
            if seen == name and labels.items() <= pairs
        ]
        assert len(found) <= 1, f"{len(found)} series of {name} with {labels}"
        return found[0] if found else None


def series_of(text: str, *, openmetrics: bool = False) -> dict[Series, float]:
    """Every sample, read by Prometheus' own client library; one that is there twice is an error."""
    found: dict[Series, float] = {}
    for family in parse_openmetrics(text) if openmetrics else parse_text(text):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def busy_scene(types: Iterable[str] = tuple(DECLARED)) -> Scene:
    """Each type once, with a success, a failure and an error behind it and a failure at last."""
    scene = Scene()
    for kind in types:
        check = declare(f"{kind}-one", kind, service="shop", labels={"env": "prod"})
        scene.register(check)
        scene.found(
            probe_of(check),
            probe_of(check, Failure(Reason.INTERNAL, "a defect of our own")),
            probe_of(check, refused()),
        )
    return scene


def observed(bounds: tuple[float, ...], *seconds: float) -> Histogram:
    histogram = Histogram.over(bounds)
    for value in seconds:
        histogram.observe(value)
    return histogram
