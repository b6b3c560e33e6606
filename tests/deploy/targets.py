"""Loopback targets of every type, and a configuration that watches them."""

from __future__ import annotations

import itertools
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import trustme
import yaml

from tests.exporter import free_port


class _Page(BaseHTTPRequestHandler):
    """Three times well and once not, again and again, so that every outcome shows within seconds."""

    statuses = itertools.cycle((200, 200, 200, 500))

    def do_GET(self) -> None:
        body = b"hello"
        self.send_response(next(self.statuses) if self.path == "/flaky" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing: standard error belongs to the test."""


class _Answers(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        packet, connection = self.request
        response = dns.message.make_response(dns.message.from_wire(packet))
        response.answer.append(dns.rrset.from_text("shop.test.", 60, "IN", "A", "127.0.0.1"))
        connection.sendto(response.to_wire(), self.client_address)


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A tls check hangs up after the handshake, as it should."""


@contextmanager
def _served(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        port: int = server.socket.getsockname()[1]
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def every_type(folder: Path) -> Iterator[Path]:
    """The path of a configuration with a check of each type, one that fails for ever and one that is parked.

    One of them breaks its objective, which is over a day, so that the shortest window of an alert is ten seconds.
    """
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    https = _Quiet(("127.0.0.1", 0), _Page)
    https.socket = context.wrap_socket(https.socket, server_side=True, do_handshake_on_connect=False)
    with ExitStack() as stack:
        tls_port = stack.enter_context(_served(https))
        http_port = stack.enter_context(_served(_Quiet(("127.0.0.1", 0), _Page)))
        dns_port = stack.enter_context(_served(socketserver.ThreadingUDPServer(("127.0.0.1", 0), _Answers)))
        checks = _checks(tls_port=tls_port, http_port=http_port, dns_port=dns_port)
        discovered = [{"targets": [f"127.0.0.1:{http_port}"], "labels": {"zone": "eu-1"}}]
        (folder / "targets.json").write_text(json.dumps(discovered), encoding="utf-8")
        path = folder / "checks.yaml"
        path.write_text(yaml.safe_dump(checks, sort_keys=False), encoding="utf-8")
        yield path


def _checks(*, tls_port: int, http_port: int, dns_port: int) -> dict[str, Any]:
    trusted = {"tls": {"ca_file": "ca.pem"}}
    return {
        "version": 1,
        "defaults": {"interval": "1s", "labels": {"env": "test"}},
        "services": {"shop": {"description": "The web shop", "owner": "team-shop", "runbook": "https://runbooks.example/shop"}},
        "checks": {
            "flaky": {"type": "http", "service": "shop", "url": f"https://127.0.0.1:{tls_port}/flaky", **trusted},
            "page": {"type": "http", "url": f"http://127.0.0.1:{http_port}/"},
            "port": {"type": "tcp", "service": "shop", "host": "127.0.0.1", "port": http_port},
            "certificate": {"type": "tls", "host": "127.0.0.1", "port": tls_port, **trusted},
            "name": {"type": "dns", "name": "shop.test", "server": f"127.0.0.1:{dns_port}"},
            "ping": {"type": "icmp", "host": "127.0.0.1", "count": 2},
            "backup": {"type": "heartbeat", "service": "shop", "every": "1h", "grace": "5m"},
            "refused": {"type": "tcp", "host": "127.0.0.1", "port": free_port()},
            "parked": {"type": "tcp", "host": "127.0.0.1", "port": 1, "enabled": False},
        },
        "discover": {
            "found": {
                "file_sd": {"files": ["targets.json"]},
                "check": {"type": "http", "url": "http://${each.__address__}/"},
            }
        },
        "slos": {
            "flaky": {
                "match": {"check": "flaky"},
                "window": "1d",
                "availability": "99%",
                "latency": {"objective": "99%", "within": "500ms"},
            }
        },
    }  # fmt: skip
