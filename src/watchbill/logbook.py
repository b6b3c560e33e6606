"""What the log says of what happens: flips, services that change, configurations that are taken on."""

from __future__ import annotations

import structlog

from watchbill.domain.messages import CheckStatusChanged, ConfigReloaded, ServiceStatusChanged, TargetsApplied
from watchbill.domain.status import Status
from watchbill.domain.units import isoformat

log = structlog.get_logger()


def log_flip(event: CheckStatusChanged) -> None:
    flip = event.flip
    say = log.warning if flip.after is Status.DOWN else log.info
    say("check.flipped", check=flip.check_id, before=flip.before, after=flip.after, at=isoformat(flip.at))


def log_service(event: ServiceStatusChanged) -> None:
    say = log.info if event.after is Status.UP else log.warning
    say("service.changed", service=event.service, before=event.before, after=event.after)


def log_reload(event: ConfigReloaded) -> None:
    log.info(
        "config.reloaded" if event.cause != "start" else "config.loaded",
        cause=event.cause,
        digest=event.loaded.digest,
        revision=event.loaded.revision,
        checks=len(event.loaded.config.checks),
        **event.plan.counts(),
    )


def log_targets(event: TargetsApplied) -> None:
    if not event.plan.empty:
        log.info("discovery.applied", discovery=event.discovery, **event.plan.counts())
