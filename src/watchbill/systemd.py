"""What systemd is told: ready, reloading, stopping, and that the event loop still turns (sd_notify(3)); and the sockets
that it hands over (sd_listen_fds(3)).
"""

from __future__ import annotations

import os
import socket
import time

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"
FIRST_DESCRIPTOR = 3


def notify(*states: str) -> None:
    """Say it, if somebody listens; never waits, never fails."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as messenger:
        try:
            messenger.sendto("\n".join(states).encode(), address.replace("@", "\0", 1))
        except OSError:
            return


def reloading() -> tuple[str, str]:
    return "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_seconds() -> float | None:
    """How often to say that we are alive: half of what systemd waits for; ``None``: it does not wait."""
    wanted_of = os.environ.get("WATCHDOG_PID", "")
    if wanted_of and wanted_of != str(os.getpid()):
        return None
    micros = os.environ.get("WATCHDOG_USEC", "")
    return int(micros) / 2e6 if micros.isdigit() and int(micros) > 0 else None


def listen_descriptors() -> list[tuple[int, str]]:
    """Descriptors of the sockets meant for this process, each with its name; taken once, so that no child takes them too."""
    meant_for, number, names = (
        os.environ.pop(variable, "") for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if meant_for != str(os.getpid()) or not (number.isascii() and number.isdigit()):
        return []
    named = names.split(":") if names else []
    count = int(number)
    named += ["unknown"] * (count - len(named))
    return [(FIRST_DESCRIPTOR + index, named[index]) for index in range(count)]
