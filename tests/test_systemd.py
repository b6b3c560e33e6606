"""What the service manager hears."""

import os
import socket
from pathlib import Path

import pytest

from watchbill import systemd


def test_states_arrive_at_the_socket_that_systemd_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.notify(systemd.READY)
        systemd.notify(*systemd.reloading())
        assert manager.recv(4096) == b"READY=1"
        first, second = manager.recv(4096).decode().splitlines()
        assert first == "RELOADING=1"
        assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_nobody_listening_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify(systemd.READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    systemd.notify(systemd.READY)


@pytest.mark.parametrize(
    ("micros", "pid", "expected"),
    [
        ("", "", None),
        ("30000000", "", 15.0),
        ("30000000", "1", None),
        ("30000000", "own", 15.0),
        ("x", "", None),
    ],
)
def test_the_watchdog_is_told_twice_as_often_as_it_asks(
    micros: str, pid: str, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", micros)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert systemd.watchdog_seconds() == expected


def test_sockets_are_taken_once_and_only_by_the_process_they_are_meant_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "3")
    monkeypatch.setenv("LISTEN_FDNAMES", "web:admin")
    assert systemd.listen_descriptors() == [(3, "web"), (4, "admin"), (5, "unknown")]
    assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & os.environ.keys()
    assert systemd.listen_descriptors() == []


@pytest.mark.parametrize(
    ("pid", "number"), [("1", "1"), ("", "1"), ("own", ""), ("own", "x"), ("own", "0"), ("own", "-1")]
)
def test_no_sockets_are_no_error(pid: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if pid == "own" else pid)
    monkeypatch.setenv("LISTEN_FDS", number)
    assert systemd.listen_descriptors() == []
