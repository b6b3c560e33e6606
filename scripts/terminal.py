"""Draw docs/images/terminal.svg: a real session on a real terminal, against a shop on loopback.

Run it by hand after a change of what commands print: its times and counts differ from run to run, so that no
check compares it.
"""

from __future__ import annotations

import os
import pty
import re
import ssl
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs/images/terminal.svg"
PORT = 8443
COLUMNS, CELL, LINE, MARGIN = 104, 8.4, 19, 20
COLOURS = {
    "31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "34": "#79c0ff", "36": "#76e3ea", "90": "#8b949e",
}  # fmt: skip
_SGR = re.compile(r"\x1b\[([0-9;]*)m")
_WORDS = re.compile(r"\S+(?: \S+)*")

CHECKS = """\
version: 1
defaults: {{interval: 10s, labels: {{env: prod}}}}
services: {{shop: {{owner: team-shop}}}}
checks:
  shop-home:
    type: http
    service: shop
    url: https://localhost:{port}/
    headers: {{X-Token: "${{SHOP_TOKEN}}"}}
    tls: {{ca_file: ca.pem}}
    expect: {{status: 2xx, body: {{contains: Welcome}}, latency: 800ms, certificate_valid_for: 14d}}
  shop-port: {{type: tcp, service: shop, host: localhost, port: {port}}}
  gateway: {{type: icmp, host: 127.0.0.1}}
"""
MISTAKEN = ("latency: 800ms", "latncy: 800ms")
CHANGES = (
    (
        "  gateway: {type: icmp, host: 127.0.0.1}\n",
        "  backup: {type: heartbeat, service: shop, every: 24h}\n",
    ),
    ("latency: 800ms", "latency: 500ms"),
    ("    service: shop\n", "    service: shop\n    interval: 5s\n"),
    ("  shop-port:", "  shop-tcp:"),
)


class Shop(BaseHTTPRequestHandler):
    """Answers a little slowly, so that there is something to see."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(0.02)
        body = b"<h1>Welcome</h1>" * 200
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@contextmanager
def shop(folder: Path) -> Iterator[None]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    until = datetime.now(UTC) + timedelta(days=71)
    authority.issue_cert("localhost", not_after=until).configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Shop)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()


class Terminal:
    """Commands on a pseudo-terminal in one folder; everything they print is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SHOP_TOKEN": "one-token",
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "COLUMNS": str(COLUMNS),
        }

    def start(self, command: str) -> tuple[subprocess.Popen[bytes], int]:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, COLUMNS))
        process = subprocess.Popen(  # noqa: S603 - the commands of the session below
            command.split(), stdin=theirs, stdout=theirs, stderr=theirs, cwd=self.folder, env=self.environ
        )
        os.close(theirs)
        return process, ours

    def run(self, command: str) -> list[str]:
        process, ours = self.start(command)
        text = b"".join(iter(lambda: _read(ours), b""))
        process.wait()
        os.close(ours)
        return [f"\x1b[32m$\x1b[0m {command}", *text.decode().replace("\r", "").rstrip("\n").split("\n"), ""]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO once the other side is gone
        return b""


def read_until(terminal: int, word: bytes) -> str:
    text = b""
    while word not in text:
        part = _read(terminal)
        if not part:
            raise RuntimeError(text.decode())
        text += part
    return text.decode().replace("\r", "")


def session(folder: Path) -> list[str]:
    said: list[str] = []
    checks = folder / "checks.yaml"
    with shop(folder):
        text = CHECKS.format(port=PORT)
        terminal = Terminal(folder)
        checks.write_text(text.replace(*MISTAKEN))
        said += terminal.run("watchbill validate checks.yaml")
        checks.write_text(text)
        said += terminal.run("watchbill validate checks.yaml")
        said += terminal.run("watchbill probe checks.yaml shop-home shop-port")
        command = "watchbill run checks.yaml --storage memory: --log-level warning"
        exporter, ours = terminal.start(command)
        banner = read_until(ours, b"Ctrl-C\r\n").rstrip("\n").split("\n")
        said += [f"\x1b[32m$\x1b[0m {command} &", *banner, ""]
        for before, after in CHANGES:
            text = text.replace(before, after)
        checks.write_text(text + "moved: {shop-port: shop-tcp}\n")
        terminal.environ |= {"SHOP_TOKEN": "another-token"}
        said += terminal.run("watchbill plan checks.yaml")
        exporter.terminate()
        exporter.wait()
        os.close(ours)
    return said[:-1]


def drawn(lines: list[str]) -> str:
    width, height = round(COLUMNS * CELL + 2 * MARGIN), LINE * len(lines) + 2 * MARGIN + 24
    text = "\n".join(_row(line, 44 + MARGIN + index * LINE) for index, line in enumerate(lines))
    dots = "".join(
        f'<circle cx="{24 + 20 * index}" cy="22" r="6" fill="{colour}"/>'
        for index, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="A terminal: validate, probe, run and plan">\n'
        f'<rect width="{width}" height="{height}" rx="10" fill="#0d1117"/>{dots}\n'
        "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace\" "
        f'font-size="14" fill="#e6edf3">\n{text}\n</g>\n</svg>\n'
    )


def _row(line: str, y: int) -> str:
    """Each run of words at its own column: neither another font nor collapsed blanks can shift it."""
    runs, column, codes = [], 0, set[str]()
    for index, piece in enumerate(_SGR.split(line)):
        if index % 2:
            codes = codes | set(piece.split(";")) if piece.strip("0") else set()
            continue
        for words in _WORDS.finditer(piece):
            x, width = MARGIN + (column + words.start()) * CELL, len(words[0]) * CELL
            place = f'x="{x:.1f}" y="{y}" textLength="{width:.1f}"'
            runs.append(f"<text {place}{_style(codes)}>{escape(words[0])}</text>")
        column += len(piece)
    return "".join(runs)


def _style(codes: set[str]) -> str:
    colour = next((f' fill="{COLOURS[code]}"' for code in sorted(codes) if code in COLOURS), "")
    return colour + (' font-weight="bold"' if "1" in codes else "")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = session(Path(folder))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(drawn(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
