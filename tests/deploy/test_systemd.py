"""The unit file, as systemd's own tools read it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from watchbill.cli.main import cli

UNIT = Path(__file__).parents[2] / "deploy/systemd/watchbill.service"
PROGRAM = "/opt/watchbill/bin/watchbill"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists, since verify looks for it."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (make test-deps)")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    return copy


def analyze(*arguments: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings() -> dict[str, list[str]]:
    """Every setting of [Service] with all its values: systemd lets them repeat, configparser does not."""
    found: dict[str, list[str]] = {}
    service = UNIT.read_text().split("[Service]")[1].split("[Install]")[0]
    for line in service.splitlines():
        if line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_systemd_has_nothing_to_say_against_the_unit(unit: Path) -> None:
    assert analyze("verify", "--man=no", "--recursive-errors=no", str(unit)) == ""


def test_systemd_would_say_so_if_a_setting_were_misspelt(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))
    with pytest.raises(AssertionError, match="ProtectHouse"):
        analyze("verify", "--man=no", "--recursive-errors=no", str(unit))


def test_the_sandbox_is_rated_ok(unit: Path) -> None:
    analyze("security", "--offline=true", "--threshold=20", "--no-pager", str(unit))


def test_the_unit_starts_the_program_with_options_that_it_has() -> None:
    [start] = settings()["ExecStart"]
    program, command, *arguments = start.split()
    assert program == PROGRAM
    run = cli.get_command(click.Context(cli), command)
    assert run is not None
    context = run.make_context(command, arguments)
    assert context.params["storage"].startswith("/var/lib/watchbill/")


def test_a_reload_is_refused_before_the_signal_when_the_new_text_is_bad() -> None:
    validate, signal = settings()["ExecReload"]
    assert validate == f"{PROGRAM} validate --no-secrets /etc/watchbill"
    assert signal == "/bin/kill -HUP $MAINPID"


def test_a_bad_configuration_is_not_tried_again() -> None:
    service = settings()
    assert service["Type"] == ["notify"]
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]


def test_no_right_is_left_but_the_one_that_icmp_needs() -> None:
    service = settings()
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ["CAP_NET_RAW"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert set(service["RestrictAddressFamilies"][0].split()) == {
        "AF_INET",
        "AF_INET6",
        "AF_UNIX",
        "AF_NETLINK",
    }
    assert service["StateDirectory"] == ["watchbill"]
    assert service["ProtectSystem"] == ["strict"]


# --- the socket ---------------------------------------------------------------------------------------

SOCKET, DROP_IN = UNIT.with_name("watchbill.socket"), UNIT.with_name("socket.conf")


@pytest.fixture
def socket_units(unit: Path) -> list[Path]:
    """The socket beside the service with its drop-in, as they are installed."""
    folder = unit.with_name(f"{unit.name}.d")
    folder.mkdir()
    (folder / "socket.conf").write_text(DROP_IN.read_text().replace(PROGRAM, sys.executable))
    copy = unit.with_name(SOCKET.name)
    copy.write_text(SOCKET.read_text())
    return [copy, unit]


def test_systemd_has_nothing_to_say_against_the_socket_and_its_drop_in(socket_units: list[Path]) -> None:
    assert analyze("verify", "--man=no", "--recursive-errors=no", *map(str, socket_units)) == ""


def test_systemd_would_say_so_if_the_drop_in_were_misspelt(socket_units: list[Path]) -> None:
    drop_in = socket_units[1].with_name("watchbill.service.d") / "socket.conf"
    drop_in.write_text(drop_in.read_text().replace("Requires=", "Require="))
    with pytest.raises(AssertionError, match="Require"):
        analyze("verify", "--man=no", "--recursive-errors=no", *map(str, socket_units))


def test_the_drop_in_starts_what_the_unit_does_but_for_the_address() -> None:
    [own] = settings()["ExecStart"]
    emptied, command = [
        line.partition("=")[2] for line in DROP_IN.read_text().splitlines() if line.startswith("ExecStart=")
    ]
    assert emptied == ""
    assert command == own.replace("--web.listen-address 127.0.0.1:9876", "--web.systemd-socket")
    assert "ListenStream=127.0.0.1:9876" in SOCKET.read_text()
