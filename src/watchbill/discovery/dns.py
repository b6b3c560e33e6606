"""``dns_sd``: names asked for again and again, all at once.

That a name does not exist, or has no such record, is an answer and removes its targets. That it could not be asked for
(SERVFAIL, silence, a broken answer) is none: this name keeps what it had, and the others do not wait for it.
"""

from __future__ import annotations

from functools import partial

import anyio

from watchbill.discovery.sources import Report, Source
from watchbill.domain.discovery import TargetGroup
from watchbill.domain.dns_sd import DnsSd, record_targets
from watchbill.ports import LookUp, NetworkError

AT_ONCE = 10


def dns_source(options: DnsSd, *, look_up: LookUp) -> Source:
    async def run(report: Report) -> None:
        known = {group.source: group for group in report.last()}
        while True:
            await _refresh(options, look_up, report, known)
            await anyio.sleep(options.refresh.total_seconds())

    return run


async def _refresh(options: DnsSd, look_up: LookUp, report: Report, known: dict[str, TargetGroup]) -> None:
    """``known``: what each name had last."""
    answered: list[str] = []
    failed: list[str] = []
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def ask(name: str) -> None:
        try:
            async with limiter:
                records = await look_up(name, options.type, resolver=options.resolver)
        except NetworkError as error:
            failed.append(f"{options.type} {name}: {error.message}")
        else:
            known[name] = TargetGroup(name, record_targets(name, options, records), {})
            answered.append(name)

    async with anyio.create_task_group() as group:
        for name in dict.fromkeys(options.names):
            group.start_soon(partial(ask, name), name=f"look up {name}")
    if answered:
        report.found([known[name] for name in dict.fromkeys(options.names) if name in known])
    if failed:
        report.failed("; ".join(sorted(failed)))
