"""The border: help, exit codes, and errors that are one clear line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.cli.support import Run, golden
from watchbill.cli.generate import GENERATED
from watchbill.cli.main import COMMANDS, cli
from watchbill.domain.errors import ListenError, StorageLockedError, WatchbillError
from watchbill.serve import Options

PROGRAM = Path(sys.executable).with_name("watchbill")


def program(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The installed program, as a shell would start it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WATCHBILL_")}
    return subprocess.run(
        [str(PROGRAM), *args],
        capture_output=True,
        text=True,
        env={**clean, **environ},
        timeout=60,
        check=False,
    )


# --- help ---------------------------------------------------------------------------------------------


def test_help_is_as_it_was_agreed(run: Run) -> None:
    golden("help.txt", run("--help").output)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_is_as_it_was_agreed(run: Run, command: str) -> None:
    answer = run(command, "--help")
    assert answer.exit_code == 0
    golden(f"help-{command}.txt", answer.output)


@pytest.mark.parametrize("command", GENERATED)
def test_help_of_what_is_generated_is_as_it_was_agreed(run: Run, command: str) -> None:
    answer = run("generate", command, "--help")
    assert answer.exit_code == 0
    golden(f"help-generate-{command}.txt", answer.output)


def test_every_command_file_is_in_the_table() -> None:
    folder = Path(sys.modules["watchbill.cli.main"].__file__ or "").parent
    commands = {
        path.stem
        for path in folder.glob("*.py")
        if "@click.command" in path.read_text(encoding="utf-8") or path.stem == "generate"
    }
    below = {f"generate_{name.replace('-', '_')}" for name in GENERATED}
    assert commands == set(COMMANDS) | below


def test_the_version_is_the_package_s(run: Run) -> None:
    assert run("--version").output == f"watchbill {version('watchbill')}\n"


def test_an_unknown_command_is_a_usage_error_with_a_suggestion(run: Run) -> None:
    answer = run("validat")
    assert answer.exit_code == 2
    assert "No such command 'validat'." in answer.stderr
    assert "validate" in answer.stderr


# --- exit codes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_a_usage_error_ends_with_two_and_in_plan_with_one(run: Run, command: str) -> None:
    answer = run(command, "--no-such-option")
    assert (answer.exit_code, answer.stdout) == (1 if command == "plan" else 2, "")
    assert "No such option" in answer.stderr


def test_a_group_without_its_command_says_what_there_is(run: Run) -> None:
    answer = run("generate")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "rules" in answer.stderr
    assert "Did you mean 'rules'?" in run("generate", "rule").stderr


@pytest.mark.parametrize("command", ["validate", "plan", "probe", "run"])
def test_a_missing_argument_is_a_usage_error(run: Run, command: str) -> None:
    answer = run(command)
    assert answer.exit_code == (1 if command == "plan" else 2)
    assert "Missing argument" in answer.stderr


@pytest.mark.parametrize("command", ["plan", "reload", "report"])
def test_an_exporter_that_is_not_there_is_one_clear_line(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "checks.yaml").write_text("version: 1\nchecks: {a: {type: icmp, host: localhost}}\n")
    place = ["checks.yaml", "--against"] if command == "plan" else ["--server"]
    answer = run(command, *place, "http://127.0.0.1:9")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert answer.stderr == (
        "watchbill: no exporter answers at http://127.0.0.1:9 (connection refused); "
        "start one with `watchbill run CONFIG`, or name another address\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ListenError("127.0.0.1:9876 is taken"), 1, "watchbill: 127.0.0.1:9876 is taken\n"),
        (StorageLockedError("held by 1234"), 1, "watchbill: held by 1234\n"),
        (WatchbillError("two\nlines"), 1, "watchbill: two\nwatchbill: lines\n"),
        (OSError("no space left"), 1, "watchbill: no space left\n"),
        (ExceptionGroup("tasks", [ListenError("taken")]), 1, "watchbill: taken\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_its_own_line_and_never_a_traceback(
    run: Run, error: BaseException, code: int, said: str
) -> None:
    answer = run("run", "checks.yaml", serve=_raising(error))
    assert (answer.exit_code, answer.stdout, answer.stderr) == (code, "", said)


def test_a_fault_of_our_own_names_its_place_and_no_values(run: Run) -> None:
    answer = run("run", "checks.yaml", serve=_raising(KeyError("hunter2")))
    assert answer.exit_code == 1
    assert re.fullmatch(
        r"watchbill: internal error: KeyError at test_main\.py:\d+; WATCHBILL_DEBUG=1 shows where it comes from\n",
        answer.stderr,
    )


def test_a_fault_of_our_own_shows_its_traceback_on_demand(run: Run) -> None:
    answer = run("run", "checks.yaml", serve=_raising(KeyError("x")), env={"WATCHBILL_DEBUG": "1"})
    assert "Traceback (most recent call last)" in answer.stderr


@pytest.mark.parametrize("code", [0, 1, 2])
def test_run_ends_with_the_exporter_s_code(run: Run, code: int) -> None:
    assert run("run", "checks.yaml", serve=lambda _: code).exit_code == code


def _raising(error: BaseException) -> object:
    def serve(_: object) -> int:
        raise error

    return serve


# --- options of run -----------------------------------------------------------------------------------


def test_every_option_of_run_has_its_variable() -> None:
    command = cli.get_command(click.Context(cli), "run")
    assert command is not None
    found = {
        parameter.name: parameter.envvar
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    assert found == {
        "listen": "WATCHBILL_WEB_LISTEN_ADDRESS",
        "systemd_socket": "WATCHBILL_WEB_SYSTEMD_SOCKET",
        "web_config": "WATCHBILL_WEB_CONFIG_FILE",
        "external_url": "WATCHBILL_WEB_EXTERNAL_URL",
        "route_prefix": "WATCHBILL_WEB_ROUTE_PREFIX",
        "enable_lifecycle": "WATCHBILL_WEB_ENABLE_LIFECYCLE",
        "storage": "WATCHBILL_STORAGE",
        "reload_on": "WATCHBILL_RELOAD_ON",
        "allow_mass_delete": "WATCHBILL_ALLOW_MASS_DELETE",
        "location": "WATCHBILL_LOCATION",
        "log_level": "WATCHBILL_LOG_LEVEL",
        "log_format": "WATCHBILL_LOG_FORMAT",
    }


def _options(run: Run, *args: str, **environ: str) -> object:
    seen: list[object] = []

    def serve(options: object) -> int:
        seen.append(options)
        return 0

    answer = run("run", *args, serve=serve, env=environ)
    assert (answer.exit_code, answer.output) == (0, "")
    return seen[0]


def test_run_without_options_is_the_documented_default(run: Run) -> None:
    assert _options(run, "checks.yaml") == Options(config="checks.yaml")


def test_variables_and_options_reach_the_exporter_and_options_win(run: Run) -> None:
    environ = {
        "WATCHBILL_WEB_LISTEN_ADDRESS": "127.0.0.1:1 [::1]:2",
        "WATCHBILL_WEB_ENABLE_LIFECYCLE": "true",
        "WATCHBILL_STORAGE": "memory:",
        "WATCHBILL_RELOAD_ON": "signal,change",
        "WATCHBILL_LOCATION": "eu",
        "WATCHBILL_LOG_LEVEL": "debug",
    }
    found = _options(run, "c", "--location", "us", "--log-format", "json", "--allow-mass-delete", **environ)
    assert found == Options(
        config="c",
        listen=("127.0.0.1:1", "[::1]:2"),
        storage="memory:",
        reload_on=frozenset({"signal", "change"}),
        enable_lifecycle=True,
        log_level="debug",
        log_format="json",
        location="us",
        allow_mass_delete=True,
    )


def test_listen_may_be_given_several_times(run: Run) -> None:
    found = _options(run, "c", "--listen", "127.0.0.1:1", "--web.listen-address", ":2")
    assert getattr(found, "listen", None) == ("127.0.0.1:1", ":2")


@pytest.mark.parametrize("value", ["", "signals", "signal,sometimes"])
def test_an_unknown_trigger_is_a_usage_error(run: Run, value: str) -> None:
    answer = run("run", "checks.yaml", "--reload-on", value)
    assert answer.exit_code == 2
    assert "takes signal and change, separated by a comma" in answer.stderr


# --- the real program ---------------------------------------------------------------------------------


def test_help_and_validate_load_neither_store_nor_web_server(tmp_path: Path) -> None:
    config = tmp_path / "checks.yaml"
    config.write_text("version: 1\nchecks: {a: {type: icmp, host: localhost}}\n")
    script = (
        "import json, sys\n"
        "from watchbill.cli.main import cli\n"
        f"for args in (['--help'], ['validate', {str(config)!r}]):\n"
        "    try: cli(args, prog_name='watchbill')\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'duckdb', 'fastapi', 'uvicorn', 'uvloop', 'httpx2', 'OpenSSL'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"'{PROGRAM}' schema | head -c 10"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, len(done.stdout)) == ("", 10)


def test_no_colour_reaches_a_pipe() -> None:
    assert "\x1b" not in program("init", "-o", "-").stdout


def test_no_color_is_obeyed_on_a_terminal(tmp_path: Path) -> None:
    config = tmp_path / "checks.yaml"
    config.write_text("version: 1\nchecks: {a: {type: icmp, host: localhost}}\n")
    coloured = CliRunner().invoke(cli, ["validate", str(config)], color=True)
    quiet = CliRunner().invoke(cli, ["validate", str(config)], color=True, env={"NO_COLOR": "1"})
    assert ("\x1b[" in coloured.output, "\x1b[" in quiet.output) == (True, False)


def test_a_terminal_without_unicode_gets_escapes(tmp_path: Path) -> None:
    config = tmp_path / "чек.yaml"
    config.write_text("version: 1\nchecks: {a: {type: icmp, host: localhost}}\n")
    done = program("validate", str(config), PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u0447\\u0435\\u043a.yaml: valid" in done.stdout


def test_ctrl_c_ends_a_probe_without_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (tmp_path / "checks.yaml").write_text(
            "version: 1\nchecks:\n  a: {type: tcp, host: 127.0.0.1, timeout: 30s, expect: {response: {contains: x}}, "
            f"port: {silent.getsockname()[1]}}}\n"
        )
        # A shell that started the tests in the background has them, and their children, ignore SIGINT.
        script = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from watchbill.cli.main import main; main()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, "probe", str(tmp_path / "checks.yaml")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(60)
        with silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            answer = process.communicate(timeout=60)
    assert (process.returncode, *answer) == (130, "", "interrupted\n")
