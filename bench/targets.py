"""What is probed while measuring: on loopback, beside the measured core."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from tests.exporter import free_port
from tests.servers import Authority

BODY = "x" * 200
ROOT = Path(__file__).parent.parent
CONF = """
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{http} backlog=4096;
    listen 127.0.0.1:{https} ssl backlog=4096;
    ssl_certificate '{certificate}'; ssl_certificate_key '{key}';
    location / {{ return 200 "{body}"; }}
  }}
}}
"""


@dataclass(frozen=True)
class Targets:
    """Ports of 127.0.0.1, and the authority behind the certificate of ``https``."""

    http: int
    https: int
    dns: int
    ca_file: str


@contextmanager
def open_targets() -> Iterator[Targets]:
    """An nginx with one worker and a body of 200 bytes, plain and over TLS (ECDSA P-256), and a DNS server."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        authority = Authority(folder)
        issued = authority.issue("localhost", x509.IPAddress(IPv4Address("127.0.0.1")))
        targets = Targets(http=free_port(), https=free_port(), dns=free_port(), ca_file=authority.ca_file)
        text = CONF.format(
            folder=folder, http=targets.http, https=targets.https,
            certificate=issued.cert_file, key=issued.key_file, body=BODY,
        )  # fmt: skip
        (folder / "nginx.conf").write_text(text)
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        stack.enter_context(started(program, "-c", str(folder / "nginx.conf"), "-p", str(folder)))
        stack.enter_context(server("dns", str(targets.dns)))
        time.sleep(0.5)  # nginx says nothing when it listens
        yield targets


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A program until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def server(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of :mod:`bench.servers`, listening."""
    with started(sys.executable, "-m", "bench.servers", *arguments) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "listening":
            raise RuntimeError(f"the server {' '.join(arguments)} did not start")
        yield process
