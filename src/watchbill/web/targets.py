"""Our checks as targets for Prometheus, in the form of its http_sd: what is declared here need not be declared there again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import anyio
from fastapi.responses import Response

from watchbill.board import CheckState
from watchbill.domain.checks import Check, Dns, Heartbeat, Http, Icmp, Tcp, Tls
from watchbill.domain.units import format_duration
from watchbill.web.encoding import encoded_list
from watchbill.web.parts import Parts

META = "__meta_watchbill_"
_PORTS = {"http": 80, "https": 443}


class Targets:
    """``/api/v1/targets/http_sd``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._encoding = anyio.Lock()

    async def http_sd(self, type: str = "", service: str = "") -> Response:  # noqa: A002 - the name of the parameter
        """A group for every check that has an address to show. ``type``, ``service``: only these, with commas."""
        kinds, services = _choice(type), _choice(service)
        running = self._parts.running
        states = [
            state
            for state in list(running.board.checks.values())
            if kinds(state.check.type) and services(state.check.service or "") and address_of(state.check)
        ]
        discovered = running.loaded.discovered
        async with self._encoding:
            groups = await encoded_list(states, lambda state: group_of(state, discovered))
        return self._parts.outbox.json(groups)


def _choice(asked: str) -> Callable[[str], bool]:
    wanted = {part.strip() for part in asked.split(",")} - {""}
    return lambda name: not wanted or name in wanted


def group_of(state: CheckState, discovered: Mapping[str, str]) -> dict[str, Any]:
    check = state.check
    host, port = place_of(check)
    labels = {
        "check": check.id,
        "type": check.type,
        "service": check.service or "",
        "location": state.location,
        "interval": format_duration(check.interval),
        "timeout": format_duration(check.timeout),
        "host": host,
        "port": str(port or ""),
        "discovery": discovered.get(check.id, ""),
        **{f"label_{name}": text for name, text in check.labels.items()},
    }
    return {
        "targets": [address_of(check)],
        "labels": {f"{META}{name}": text for name, text in labels.items()},
    }


def address_of(check: Check) -> str:
    """What another prober would be given; empty where it is parked, has none, or its address holds a secret."""
    if not check.enabled or {"url", "host", "port", "server", "name"} & check.references.keys():
        return ""
    match check:
        case Http():
            return "" if check.unix_socket else check.url
        case Tcp() | Tls():
            host, port = place_of(check)
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if host else ""
        case Icmp():
            return check.host
        case Dns():
            return check.server or ""
        case Heartbeat():
            return ""


def place_of(check: Check) -> tuple[str, int | None]:
    """The machine behind it, and the port."""
    match check:
        case Http():
            parts = urlsplit(check.url)
            return parts.hostname or "", parts.port or _PORTS.get(parts.scheme.lower())
        case Tcp() | Tls():
            return (check.host or "").strip("[]"), check.port
        case Icmp():
            return check.host.strip("[]"), None
        case _:
            return "", None
