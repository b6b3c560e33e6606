"""blackbox_exporter on the measured core, and the driver that asks it for probes at a steady rate."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.exporter import free_port
from tests.prometheus import running

from bench.declared import PEER_TARGETS
from bench.machine import PIN, Usage
from bench.targets import ROOT, Targets

PROGRAM = "prometheus-blackbox-exporter"
CONF = """
modules:
  http: {{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4}}}}
  https: {{prober: http, timeout: 5s, http: {{preferred_ip_protocol: ip4, tls_config: {{ca_file: '{ca_file}'}}}}}}
  tcp: {{prober: tcp, timeout: 5s, tcp: {{preferred_ip_protocol: ip4}}}}
  icmp: {{prober: icmp, timeout: 5s, icmp: {{preferred_ip_protocol: ip4}}}}
  dns: {{prober: dns, timeout: 5s, dns: {{preferred_ip_protocol: ip4, query_name: watch.example, query_type: A}}}}
"""


@dataclass(frozen=True)
class Driven:
    """What the driver saw over one window. ``refused`` were not even asked: too many answers were outstanding."""

    probes: int
    successes: int
    refused: int
    usage: Usage
    rss_bytes: int
    latency_p50_seconds: float
    latency_p99_seconds: float

    @property
    def cpu_per_1000(self) -> float:
        return self.usage.cpu_seconds / max(self.probes, 1) * 1000


@dataclass(frozen=True)
class Peer:
    """A running one."""

    pid: int
    port: int
    targets: Targets

    def drive(self, kind: str, *, rate: float, seconds: float, warm_up: float = 2) -> Driven:
        query = urllib.parse.urlencode({"target": PEER_TARGETS[kind](self.targets), "module": kind})
        line = [
            sys.executable, "-m", "bench.driver", "--port", str(self.port), "--path", f"/probe?{query}",
            "--pid", str(self.pid), "--rate", str(rate), "--seconds", str(seconds), "--warm-up", str(warm_up),
        ]  # fmt: skip
        done = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=60 + 2 * seconds)
        seen = json.loads(done.stdout)
        return Driven(**{**seen, "usage": Usage(**seen["usage"])})


def find() -> str | None:
    """The program that scripts/install-bench-peer.sh unpacked, else one that is installed."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = Path(os.environ.get("WATCHBILL_BENCH_CACHE") or f"{caches}/watchbill-bench").expanduser()
    unpacked = cache / "root/usr/bin" / PROGRAM
    return str(unpacked) if unpacked.exists() else shutil.which(PROGRAM)


def described() -> str:
    """What is measured beside Watchbill, with the version it says it has."""
    program = find()
    if program is None:
        return "no blackbox_exporter"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\S+)", said.stdout + said.stderr)
    return f"blackbox_exporter {found[1] if found else 'of unknown version'}"


@contextmanager
def open_peer(folder: Path, targets: Targets) -> Iterator[Peer | None]:
    """None where there is no such program; then Watchbill is measured alone."""
    program = find()
    if program is None:
        yield None
        return
    folder.mkdir(parents=True)
    (folder / "blackbox.yml").write_text(CONF.format(ca_file=targets.ca_file))
    port = free_port()
    listen = f"127.0.0.1:{port}"
    command = [*PIN, program, f"--config.file={folder / 'blackbox.yml'}", f"--web.listen-address={listen}"]
    with running(command, ready=f"http://{listen}/-/healthy", log=folder / "blackbox.log") as process:
        yield Peer(process.pid, port, targets)
