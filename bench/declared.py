"""The checks that are measured, as a configuration file; and the same target for the peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bench.targets import Targets

TYPES = ("http", "tcp", "icmp", "dns", "https")

CHECKS: dict[str, Callable[[Targets], str]] = {
    "http": lambda to: f"type: http, url: 'http://127.0.0.1:{to.http}/'",
    "https": lambda to: f"type: http, url: 'https://127.0.0.1:{to.https}/', tls: {{ca_file: '{to.ca_file}'}}",
    "tcp": lambda to: f"type: tcp, host: 127.0.0.1, port: {to.http}",
    "icmp": lambda to: "type: icmp, host: 127.0.0.1",
    "dns": lambda to: f"type: dns, name: watch.example, server: '127.0.0.1:{to.dns}'",
}

PEER_TARGETS: dict[str, Callable[[Targets], str]] = {
    "http": lambda to: f"http://127.0.0.1:{to.http}/",
    "https": lambda to: f"https://127.0.0.1:{to.https}/",
    "tcp": lambda to: f"127.0.0.1:{to.http}",
    "icmp": lambda to: "127.0.0.1",
    "dns": lambda to: f"127.0.0.1:{to.dns}",
}


def named(checks: Iterable[str], prefix: str = "c") -> dict[str, str]:
    """Each under an id of its own: ``c0``, ``c1``, ..."""
    return {f"{prefix}{number}": check for number, check in enumerate(checks)}


def write(file: Path, checks: Mapping[str, str], *, interval: str = "1s", head: str = "") -> None:
    """A configuration of these checks, each the inside of a mapping; aside, then in one step."""
    lines = [f"  {name}: {{{check}, interval: {interval}}}\n" for name, check in checks.items()]
    aside = file.with_suffix(".new")
    aside.write_text("version: 1\n" + head + "checks:\n" + "".join(lines))
    aside.replace(file)
