"""HTTPS, users and a prefix as curl, Prometheus and our own commands meet them; and a file that changes meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from click.testing import CliRunner

from tests.exporter import Exporter, command, environment, exporter
from tests.prometheus import Prometheus, eventually, needs_prometheus, open_prometheus
from tests.web.certificates import Authority, Party, authority
from watchbill.cli.main import cli

CURL = shutil.which("curl")
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(CURL is None, reason="curl is not installed")]
CHECKS = "version: 1\nchecks:\n  one: {type: heartbeat, every: 1h}\n"
OPEN_SESAME = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
ABRACADABRA = bcrypt.hashpw(b"abracadabra", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: certs/server.crt\n  key_file: certs/server.key\n"
USERS = f"basic_auth_users:\n  prometheus: {OPEN_SESAME}\n"
RIGHT = ("--user", "prometheus:open sesame")


def write(folder: Path, name: str, party: Party) -> None:
    (folder / f"{name}.crt").write_bytes(party.cert)
    (folder / f"{name}.key").write_bytes(party.key)


@dataclass
class Site:
    """An exporter behind ``web.yml``, and the certificates around it."""

    running: Exporter
    folder: Path

    @property
    def url(self) -> str:
        return self.running.url.replace("http://127.0.0.1", "https://localhost") + "/wb"

    def curl(self, path: str, *options: str, url: str = "", ca: str = "ca.crt") -> tuple[int, int, str]:
        """curl's exit code, the status and the body."""
        assert CURL is not None
        line = [CURL, "--silent", "--noproxy", "*", "--max-time", "20", "--write-out", "\n%{http_code}"]
        line += ["--cacert", str(self.folder / ca), *options, (url or self.url) + path]
        done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=60)
        body, _, status = done.stdout.rpartition("\n")
        return done.returncode, int(status or 0), body

    def opens(self, *options: str) -> bool:
        return self.curl("/metrics", *options)[:2] == (0, 200)

    def metric(self, name: str, *options: str) -> float:
        lines = self.curl("/metrics", *(options or RIGHT))[2].splitlines()
        [value] = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
        return float(value)

    @contextmanager
    def changed(self, text: str, holds: Callable[[], bool]) -> Iterator[None]:
        """Another web configuration until the block ends, taken up without a restart."""
        file = self.folder / "web.yml"
        before = file.read_text()
        try:
            self.replace("web.yml", text.encode())
            self.running.until("the new web configuration holds", holds)
            yield
        finally:
            self.replace("web.yml", before.encode())
            self.running.until("the old web configuration holds again", lambda: self.opens(*RIGHT))

    def replace(self, name: str, content: bytes) -> None:
        new = self.folder / f"{name}.new"
        new.write_bytes(content)
        new.replace(self.folder / name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("web-config")
    (folder / "certs").mkdir()
    write(folder / "certs", "server", authority().issue("localhost", "127.0.0.1"))
    write(folder, "client", authority().issue("prometheus.test"))
    write(folder, "stranger", authority("theirs").issue("prometheus.test"))
    (folder / "ca.crt").write_bytes(authority().pem)
    (folder / "other-ca.crt").write_bytes(authority("theirs").pem)
    (folder / "web.yml").write_text(TLS + USERS)
    (folder / "checks.yaml").write_text(CHECKS)
    arguments = (
        "--web.config.file", str(folder / "web.yml"), "--web.external-url", "https://watch.example/wb",
    )  # fmt: skip
    with exporter(folder / "checks.yaml", folder / "run", *arguments, wait=False) as running:
        found = Site(running, folder)
        running.until("ready", lambda: found.curl("/-/ready")[:2] == (0, 200))
        yield found


# --- curl ---------------------------------------------------------------------------------------------


def test_curl_gets_in_with_the_right_password_and_over_https_alone(site: Site) -> None:
    assert site.curl("/metrics", *RIGHT)[:2] == (0, 200)
    assert site.curl("/", *RIGHT)[:2] == (0, 200)
    for wrong in (
        (),
        ("--user", "prometheus:nope"),
        ("--user", "root:open sesame"),
        ("--oauth2-bearer", "x"),
    ):
        assert site.curl("/metrics", *wrong)[:2] == (0, 401), wrong
    assert site.curl("/metrics", *RIGHT, ca="other-ca.crt")[0] == 60
    status, body = site.curl("/metrics", *RIGHT, url=site.url.replace("https://", "http://"))[1:]
    assert status == 400
    assert "ask again with https://" in body


def test_health_needs_no_password_and_nothing_lies_outside_of_the_prefix(site: Site) -> None:
    for path in ("/-/healthy", "/-/ready", "/health", "/health/ready"):
        assert site.curl(path)[:2] == (0, 200), path
    outside = site.url.removesuffix("/wb")
    assert site.curl("/metrics", *RIGHT, url=outside)[:2] == (0, 404)
    assert site.curl("/", "--location", *RIGHT, url=outside)[:2] == (0, 200)


def test_curl_speaks_what_is_spoken(site: Site) -> None:
    assert site.curl("/metrics", *RIGHT, "--http2")[:2] == (0, 200)
    assert site.curl("/metrics", *RIGHT, "--tlsv1.3")[:2] == (0, 200)
    assert site.curl("/metrics", *RIGHT, "--tls-max", "1.2")[:2] == (0, 200)
    assert site.curl("/metrics", *RIGHT, "--tls-max", "1.1")[0] == 35


# --- what changes -------------------------------------------------------------------------------------


def test_a_changed_password_and_header_hold_without_a_restart(site: Site) -> None:
    new = ("--user", "prometheus:abracadabra")
    text = TLS + f"basic_auth_users:\n  prometheus: {ABRACADABRA}\n"
    text += "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=77\n"
    with site.changed(text, lambda: site.opens(*new)):
        assert not site.opens(*RIGHT)
        assert "max-age=77" in site.curl("/-/healthy", "--head")[2]
    assert not site.opens(*new)
    assert site.running.process.poll() is None


def test_a_renewed_certificate_is_shown_without_a_restart_and_half_of_one_never(site: Site) -> None:
    port = int(site.url.rpartition(":")[2].removesuffix("/wb"))

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port))

    before, failures = shown(), site.metric("watchbill_web_config_reload_failures_total")
    renewed = authority().issue("localhost", "127.0.0.1")
    site.replace("certs/server.crt", renewed.cert)
    site.running.until(
        "a certificate without its key is refused",
        lambda: site.metric("watchbill_web_config_reload_failures_total") > failures,
    )
    assert shown() == before
    assert site.metric("watchbill_web_config_last_reload_successful") == 0
    site.replace("certs/server.key", renewed.key)
    site.running.until("the renewed certificate is shown", lambda: shown() != before)
    assert site.metric("watchbill_web_config_last_reload_successful") == 1
    assert "the key does not belong to the certificate" in site.running.log.read_text()


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("tls_server_config: [\n", "not YAML"),
        (
            f"{TLS}basic_auth_users:\n  prometheus: open sesame\n",
            "web.yml:5:15: the password of `prometheus` is no bcrypt hash",
        ),
        (USERS, "web.yml:1:1: TLS is turned on or off by a restart alone"),
    ],
    ids=["no YAML", "a password in the clear", "without TLS"],
)
def test_a_broken_file_leaves_what_held_and_is_told(site: Site, broken: str, told: str) -> None:
    refused = "watchbill_web_config_reload_failures_total"
    before = site.metric(refused)
    with site.changed(broken, lambda: site.metric(refused) > before):
        assert site.opens(*RIGHT)
        assert not site.opens()
        assert site.metric("watchbill_web_config_last_reload_successful") == 0
    site.running.until(
        "the mended file is good", lambda: site.metric("watchbill_web_config_last_reload_successful") == 1
    )
    rejected = [line for line in site.running.log.read_text().splitlines() if "web.config_rejected" in line]
    assert told in rejected[-1]


def test_client_certificates_can_be_demanded_without_a_restart(site: Site) -> None:
    def shows(name: str) -> tuple[str, ...]:
        return ("--cert", str(site.folder / f"{name}.crt"), "--key", str(site.folder / f"{name}.key"))

    text = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n" + USERS
    with site.changed(text, lambda: not site.opens(*RIGHT) and site.opens(*RIGHT, *shows("client"))):
        assert not site.opens(*RIGHT, *shows("stranger"))
        assert not site.opens(*shows("client"))  # a certificate is no password
        assert site.curl("/-/healthy")[0] == 56  # nor is health told to who shows none
    assert site.metric('watchbill_web_handshake_failures_total{reason="certificate"}') >= 3


# --- Prometheus ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prometheus(site: Site) -> Iterator[Prometheus]:
    target = [{"targets": [site.url.removeprefix("https://").removesuffix("/wb")]}]
    tls = {"ca_file": str(site.folder / "ca.crt")}
    good = {"username": "prometheus", "password": "open sesame"}
    jobs: dict[str, dict[str, Any]] = {
        "right": {"tls_config": tls, "basic_auth": good},
        "wrong password": {"tls_config": tls, "basic_auth": {**good, "password": "open sesam"}},
        "nobody": {"tls_config": tls},
        "untrusting": {"tls_config": {"ca_file": str(site.folder / "other-ca.crt")}, "basic_auth": good},
        "in the clear": {"scheme": "http", "basic_auth": good},
        "without the prefix": {"tls_config": tls, "basic_auth": good, "metrics_path": "/metrics"},
    }
    configs = [
        {"job_name": name, "scheme": "https", "metrics_path": "/wb/metrics", "static_configs": target, **job}
        for name, job in jobs.items()
    ]
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": configs}
    with open_prometheus(site.folder / "prometheus", config=config) as found:
        yield found


@needs_prometheus
def test_prometheus_gets_in_with_the_right_credentials_and_with_no_others(
    site: Site, prometheus: Prometheus
) -> None:
    def scraped() -> dict[str, dict[str, Any]]:
        targets = {one["labels"]["job"]: one for one in prometheus.targets()}
        return targets if targets and all(one["health"] != "unknown" for one in targets.values()) else {}

    targets = eventually(scraped, what="every job was scraped")
    assert {job for job, one in targets.items() if one["health"] == "up"} == {"right"}
    errors = {job: one["lastError"] for job, one in targets.items()}
    assert "401 Unauthorized" in errors["wrong password"]
    assert "401 Unauthorized" in errors["nobody"]
    assert "unknown authority" in errors["untrusting"]
    assert "400 Bad Request" in errors["in the clear"]
    assert "404 Not Found" in errors["without the prefix"]
    assert prometheus.query('watchbill_build_info{job="right"}')


@needs_prometheus
def test_prometheus_goes_on_over_a_renewed_certificate_and_stops_over_a_changed_password(
    site: Site, prometheus: Prometheus
) -> None:
    def health() -> str:
        return next(str(one["health"]) for one in prometheus.targets() if one["labels"]["job"] == "right")

    eventually(lambda: health() == "up", what="the scrape is up")
    changed = ("--user", "prometheus:abracadabra")
    text = TLS + f"basic_auth_users:\n  prometheus: {ABRACADABRA}\n"
    with site.changed(text, lambda: site.opens(*changed)):
        eventually(lambda: health() == "down", what="the old password is refused")
    eventually(lambda: health() == "up", what="the scrape is up again")


# --- our own commands ---------------------------------------------------------------------------------


def _run(
    site: Site, *arguments: str, http: str = "", environ: dict[str, str] | None = None
) -> tuple[int, str]:
    """A command of ours in this process: exit code and all it says."""
    file = site.folder / "http.yml"
    file.write_text(http)
    line = [*arguments, *(("--http.config.file", str(file)) if http else ())]
    done = CliRunner().invoke(cli, line, env=environ, prog_name="watchbill")
    return done.exit_code, done.output


GOOD_HTTP = (
    "basic_auth: {username: prometheus, password_file: password}\n"
    "tls_config: {ca_file: ca.crt, server_name: localhost}\n"
)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan", "{folder}/checks.yaml", "--against"), "no changes"),
        (("reload", "--server"), "reloaded: 0 added"),
        (("report", "--server"), "one"),
        (("backup", "{folder}/copy.duckdb", "--force", "--server"), "copy.duckdb"),
    ],
    ids=["plan", "reload", "report", "backup"],
)
def test_every_command_that_asks_an_exporter_is_let_in(
    site: Site, arguments: Sequence[str], said: str
) -> None:
    (site.folder / "password").write_text("open sesame\n")
    url = site.url.replace(
        "localhost", "127.0.0.1"
    )  # another name than the certificate's: server_name says so
    line = [argument.format(folder=site.folder) for argument in arguments]
    code, output = _run(site, *line, url, http=GOOD_HTTP)
    assert (code, said in output) == (0, True), output
    assert "open sesame" not in output


@pytest.mark.parametrize(
    ("http", "change", "said"),
    [
        ("", ("", ""), "shows a certificate that is not trusted here"),
        ("tls_config: {ca_file: ca.crt}\n", ("", ""), "wants a user and a password; pass them as basic_auth in --http.config.file"),
        ("tls_config: {ca_file: ca.crt}\nbasic_auth: {username: prometheus, password: nope}\n", ("", ""), "wants another user or password"),
        ("tls_config: {ca_file: other-ca.crt}\n", ("", ""), "name its authority as tls_config: {ca_file: ...} in --http.config.file"),
        (GOOD_HTTP, ("https://", "http://"), "speaks HTTPS; write https:// instead"),
        (GOOD_HTTP, ("/wb", ""), "everything lies below /wb/"),
    ],
    ids=["nothing said", "no user", "a wrong password", "another authority", "http", "no prefix"],
)  # fmt: skip
def test_who_is_not_let_in_is_told_what_to_pass(
    site: Site, http: str, change: tuple[str, str], said: str
) -> None:
    (site.folder / "password").write_text("open sesame\n")
    code, output = _run(site, "report", "--server", site.url.replace(*change), http=http)
    assert (code, said in output) == (1, True), output


def test_a_user_in_the_address_and_an_unchecked_certificate_will_do(site: Site) -> None:
    environ = {"WATCHBILL_SERVER": site.url.replace("https://", "https://prometheus:open%20sesame@")}
    code, output = _run(site, "report", http="tls_config: {insecure_skip_verify: true}\n", environ=environ)
    assert code == 0, output


def test_a_demanded_certificate_is_named_and_shown(site: Site) -> None:
    (site.folder / "password").write_text("open sesame\n")
    text = TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n" + USERS
    shown = GOOD_HTTP.replace("tls_config: {", "tls_config: {cert_file: client.crt, key_file: client.key, ")
    with site.changed(text, lambda: not site.opens(*RIGHT)):
        assert _run(site, "report", "--server", site.url, http=shown)[0] == 0
        code, output = _run(site, "report", "--server", site.url, http=GOOD_HTTP)
    assert (code, "lets in certain certificates only" in output) == (1, True), output


# --- the start ----------------------------------------------------------------------------------------


def test_a_first_file_that_is_broken_ends_the_start_with_its_places(tmp_path: Path) -> None:
    (tmp_path / "checks.yaml").write_text(CHECKS)
    (tmp_path / "web.yml").write_text("tls_server_config:\n  cert_file: no.crt\n  min_versions: TLS12\n")
    line = command("run", "checks.yaml", "--web.config.file", "web.yml", "--listen", "127.0.0.1:0")
    done = subprocess.run(
        line, check=False, capture_output=True, text=True, timeout=60, env=environment(), cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[:3] == [
        "web.yml:2:3: needs key_file (or key); without it there is no TLS",
        f"web.yml:2:14: {tmp_path / 'no.crt'} does not exist",
        "web.yml:3:3: unknown key `min_versions`; did you mean `min_version`?",
    ]
    assert not (tmp_path / "watchbill.duckdb").exists()


def test_the_examples_of_the_folder_deploy_are_good(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "deploy/web"
    for name in ("web.yml", "http.yml"):
        shutil.copy(examples / name, tmp_path / name)
    write(tmp_path, "tls", authority().issue("localhost"))
    (tmp_path / "password").write_text("change me\n")
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    (tmp_path / "checks.yaml").write_text(CHECKS)
    with exporter(
        tmp_path / "checks.yaml", tmp_path / "run", "--web.config.file", str(tmp_path / "web.yml"), wait=False
    ) as running:
        (tmp_path / "ca.crt").write_bytes(authority().pem)
        found = Site(running, tmp_path)
        url = found.url.removesuffix("/wb")
        running.until("ready", lambda: found.curl("/-/ready", url=url)[:2] == (0, 200))
        line = command("report", "--server", url, "--http.config.file", str(tmp_path / "http.yml"))
        done = subprocess.run(
            line, check=False, capture_output=True, text=True, timeout=60, env=dict(os.environ)
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(found.curl("/api/v1/checks", "--user", "prometheus:change me", url=url)[2])[
            "checks"
        ]
