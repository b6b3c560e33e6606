"""A configuration of many checks: every type, intervals from a second to an hour, services with and without people and runbooks."""

from __future__ import annotations

import itertools
from typing import Any

INTERVALS = ("1s", "10s", "30s", "1m", "5m", "1h")
TIMEOUTS = ("1s", "500ms", "750ms")
SERVICES = 2


def many_checks(number: int) -> dict[str, Any]:
    """The configuration as plain values; the same number gives the same."""
    services: dict[str, Any] = {}
    for index in range(SERVICES):
        services[f"service-{index:02}"] = {"description": f"The service number {index}"}
        if index % 2:
            services[f"service-{index:02}"]["owner"] = f"team-{index % 5}"
        if index % 3 == 0:
            services[f"service-{index:02}"]["runbook"] = f"https://runbooks.example/{index}"
    kinds = itertools.cycle(_KINDS)
    intervals, timeouts = itertools.cycle(INTERVALS), itertools.cycle(TIMEOUTS)
    checks = {}
    for index in range(number):
        check = {**next(kinds), "interval": next(intervals), "timeout": next(timeouts)}
        if index % (SERVICES + 1) < SERVICES:
            check["service"] = f"service-{index % (SERVICES + 1):02}"
        else:
            check["labels"] = {"severity": "warning", "env": "test", "namespace": "its own"}
        if index % 40 == 7:
            check["enabled"] = False
        checks[f"check.{index:03}-x_{index % 7}"] = check
    return {"version": 1, "services": services, "checks": checks}


def many_objectives(declared: dict[str, Any]) -> dict[str, Any]:
    """Of all checks of a service, which an hour's interval coarsens, and of those that are probed often."""
    services, checks = declared["services"], declared["checks"]
    often = [
        check_id for check_id, check in checks.items() if check["interval"] in ("1s", "10s", "30s", "1m")
    ]
    return {
        **{
            name: {"service": name, "availability": 95, "latency": {"objective": 90, "within": "500ms"}}
            for name in services
        },
        "often": {"match": {"check": often}, "availability": "99.9%", "window": "7d"},
        "often.and-long": {"match": {"check": often[:20]}, "availability": "99.9%", "latency": [{"objective": "99%", "within": "1s"}]},
    }  # fmt: skip


_KINDS: tuple[dict[str, Any], ...] = (
    {"type": "http", "url": "https://shop.example/", "expect": {"certificate_valid_for": "21d"}},
    {"type": "http", "url": "http://shop.example/health?full=1", "follow_redirects": False},
    {"type": "tcp", "host": "db.example", "port": 5432},
    {"type": "tls", "host": "shop.example"},
    {"type": "dns", "name": "shop.example", "transport": "tls", "server": "dns.example"},
    {"type": "icmp", "host": "gateway.example"},
    {"type": "heartbeat", "every": "24h", "grace": "1h"},
    {"type": "http", "url": 'https://api.example/v1/"quoted"', "expect": {"certificate_valid_for": "45d"}},
)
