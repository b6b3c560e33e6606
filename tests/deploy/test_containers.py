"""Dockerfile and Compose, as far as they can be judged without a container engine."""

from __future__ import annotations

import fnmatch
import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from watchbill.cli.main import cli
from watchbill.config import load

ROOT = Path(__file__).parents[2]
DOCKER, COMPOSE = ROOT / "deploy/docker", ROOT / "deploy/compose"
PINNED_IMAGE = re.compile(r"(?:[a-z0-9]+/)?[a-z0-9]+:v?\d+\.\d+[a-z0-9.-]*")


def instructions() -> list[tuple[str, str]]:
    """(keyword, rest) of each, lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def values(keyword: str) -> list[str]:
    return [rest for word, rest in instructions() if word == keyword]


def exec_form(text: str) -> list[str]:
    """The words of ``["a", "b"]``, which no shell takes apart."""
    words: list[str] = json.loads(text[text.index("[") :])
    return words


def run_options(words: list[str]) -> dict[str, Any]:
    """What ``watchbill run`` makes of these arguments.

    :raises click.UsageError: it does not know one of them.
    """
    name, *arguments = words
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command.make_context(name, arguments).params


# --- image --------------------------------------------------------------------------------------------


def test_the_image_runs_as_a_user_without_rights_that_has_a_number() -> None:
    assert values("USER") == ["10001:10001"]
    assert [word for word, _ in instructions()].index("USER") < len(instructions()) - 2


def test_what_the_image_copies_exists_and_is_not_kept_outside() -> None:
    kept = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    sources = [source for rest in values("COPY") if "--from" not in rest for source in shlex.split(rest)[:-1]]
    assert sources
    for source in sources:
        name = source.removeprefix("./")
        assert (ROOT / name).exists(), name
        assert f"!{name}" in kept, name
    assert kept.index("*") < min(index for index, line in enumerate(kept) if line.startswith("!"))
    assert not any(fnmatch.fnmatch(".git", line.removeprefix("!")) for line in kept if line.startswith("!"))


def test_the_build_has_what_the_package_metadata_names() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    [copied] = [rest for rest in values("COPY") if "pyproject.toml" in rest]
    for name in re.findall(r'^(?:readme = |license-files = \[)"([^"]+)"', project, flags=re.MULTILINE):
        assert name in copied


def test_the_image_starts_with_options_that_the_program_has() -> None:
    assert exec_form(values("ENTRYPOINT")[0]) == ["watchbill"]
    options = run_options(exec_form(values("CMD")[0]))
    assert options["storage"].startswith(values("VOLUME")[0] + "/")
    assert values("EXPOSE") == ["9876"]
    assert values("STOPSIGNAL") == ["SIGTERM"]


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A port that answers with this status, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing: standard error belongs to the test."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def health(port: int) -> int:
    """The exit code of the image's own health check, moved to another port."""
    program, *arguments = exec_form(values("HEALTHCHECK")[0])
    assert program == "python"
    arguments = [argument.replace("9876", str(port)) for argument in arguments]
    done = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, timeout=60)
    return done.returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_believes_what_the_exporter_says(status: int, code: int) -> None:
    with answering(status) as (port, asked):
        assert health(port) == code
    assert asked == ["/-/healthy"]


def test_the_health_check_fails_where_nothing_listens() -> None:
    with answering(200) as (port, _):
        pass
    assert health(port) == 1


# --- compose ------------------------------------------------------------------------------------------


def composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return found


SERVICES: dict[str, dict[str, Any]] = composed()["services"]
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@pytest.mark.elsewhere
def test_docker_compose_accepts_the_file() -> None:
    known = shutil.which("docker") and subprocess.run(
        ["docker", "compose", "version"], check=False, capture_output=True
    )
    if not known or known.returncode != 0:
        pytest.skip("docker compose is not installed")
    subprocess.run(["docker", "compose", "config", "--quiet"], check=True, cwd=COMPOSE)


@each_service
def test_images_are_pinned_and_come_from_where_the_engine_looks(service: dict[str, Any]) -> None:
    assert PINNED_IMAGE.fullmatch(service["image"]), service["image"]


@each_service
def test_what_a_container_mounts_is_there(service: dict[str, Any]) -> None:
    volumes = composed()["volumes"]
    for mount in service.get("volumes", ()):
        source = mount.split(":")[0]
        assert source in volumes or (COMPOSE / source).is_dir(), mount
    for secret in service.get("secrets", ()):
        file = composed()["secrets"][secret]["file"]
        assert (COMPOSE / f"{file}.example").is_file(), secret


@each_service
def test_ports_are_published_to_this_machine_alone(service: dict[str, Any]) -> None:
    assert [port for port in service["ports"] if not port.startswith("127.0.0.1:")] == []


def test_secrets_never_get_into_git() -> None:
    rules = (COMPOSE / "secrets/.gitignore").read_text().split()
    assert rules == ["*", "!.gitignore", "!*.example"]


def test_watchbill_is_sandboxed_and_given_time_to_drain() -> None:
    watchbill = SERVICES["watchbill"]
    assert watchbill["read_only"] is True
    assert watchbill["cap_drop"] == ["ALL"]
    assert watchbill["stop_grace_period"] == "30s"
    assert watchbill["sysctls"] == {"net.ipv4.ping_group_range": "0 2147483647"}
    assert "watchbill-data:/data" in watchbill["volumes"]
    assert watchbill["build"]["dockerfile"] == "deploy/docker/Dockerfile"
    assert (COMPOSE / watchbill["build"]["context"]).resolve() == ROOT


def test_every_address_in_the_stack_is_a_service_and_its_port() -> None:
    published = {f"{name}:{one['ports'][0].rpartition(':')[2]}" for name, one in SERVICES.items()}
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    datasource = (COMPOSE / "grafana/provisioning/datasources/prometheus.yml").read_text()
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    managers = prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    checks = (COMPOSE / "checks/checks.yaml").read_text()
    asked = {*jobs["watchbill"], *managers, *re.findall(r"http://([a-z]+:\d+)", datasource + checks)}
    assert asked == published


def test_grafana_finds_the_dashboards_where_they_are_mounted() -> None:
    [provider] = yaml.safe_load((COMPOSE / "grafana/provisioning/dashboards/watchbill.yml").read_text())[
        "providers"
    ]
    mounted = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    assert mounted["../grafana/dashboards"] == provider["options"]["path"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(provider["options"]["path"])
    assert (ROOT / "deploy/grafana/dashboards" / Path(home).name).is_file()


@pytest.mark.parametrize("folder", ["compose/checks", "kubernetes/base/checks"])
def test_the_checks_to_begin_with_are_valid(folder: str) -> None:
    loaded = load(ROOT / "deploy" / folder, environ={})
    assert {check.type for check in loaded.config.checks.values()} >= {"http", "icmp"}
