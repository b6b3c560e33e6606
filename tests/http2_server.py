"""A server that agrees on h2 and then does what it is told, frame by frame; and nginx, which does it right."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import anyio
import h2.config
import h2.connection
import h2.events
from hyperframe.frame import Frame

from tests.exporter import free_port
from tests.servers import LOOPBACK, Authority, Caller, Issued, serving

OK_HEAD = [(":status", "200"), ("content-type", "text/plain")]


@dataclass(slots=True)
class Http2Caller:
    """One client. ``say_frames`` writes what the library would not."""

    caller: Caller
    h2: h2.connection.H2Connection
    requests: list[dict[str, str]] = field(default_factory=list)
    bodies: dict[int, bytes] = field(default_factory=dict)
    stream: int = 0

    async def request(self) -> dict[str, str]:
        """The next request in full; its stream is ``stream`` from then on."""
        ended = 0
        while not ended:
            data = await self.caller.reader.read(65_536)
            if not data:
                raise EOFError
            for event in self.h2.receive_data(data):
                match event:
                    case h2.events.RequestReceived(stream_id=stream, headers=headers):
                        self.stream = stream or 0
                        self.requests.append({_text(name): _text(value) for name, value in headers or []})
                    case h2.events.DataReceived(stream_id=stream, data=body, flow_controlled_length=size):
                        self.bodies[stream or 0] = self.bodies.get(stream or 0, b"") + (body or b"")
                        self.h2.acknowledge_received_data(size or 0, stream or 0)
                    case h2.events.StreamEnded(stream_id=stream):
                        ended = stream or 0
            await self.flush()
        return self.requests[-1]

    async def answer(self, body: bytes = b"ok", head: list[tuple[str, str]] | None = None) -> None:
        self.h2.send_headers(self.stream, head or OK_HEAD, end_stream=not body)
        while body:
            size = min(self.h2.local_flow_control_window(self.stream), 16_384)
            self.h2.send_data(self.stream, body[:size], end_stream=len(body) <= size)
            body = body[size:]
        await self.flush()

    async def say_frames(self, *frames: Frame) -> None:
        await self.caller.say(b"".join(frame.serialize() for frame in frames))

    async def flush(self) -> None:
        await self.caller.say(self.h2.data_to_send())


Conversation: TypeAlias = Callable[[Http2Caller], Awaitable[None]]


@dataclass(slots=True)
class Http2Server:
    port: int = 0
    callers: list[Http2Caller] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/"


@asynccontextmanager
async def http2_server(conversation: Conversation, issued: Issued) -> AsyncIterator[Http2Server]:
    running = Http2Server()

    async def converse(caller: Caller) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        one = Http2Caller(caller, h2.connection.H2Connection(config))
        running.callers.append(one)
        one.h2.initiate_connection()
        await one.flush()
        with suppress(h2.exceptions.ProtocolError):
            await conversation(one)

    context = issued.context()
    context.set_alpn_protocols(["h2"])
    async with serving(converse, tls=context) as server:
        running.port = server.port
        yield running


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; keepalive_requests {requests};
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    listen unix:{folder}/app.sock ssl http2;
    ssl_certificate '{certificate}'; ssl_certificate_key '{key}';
    add_header X-Protocol $server_protocol always;
    location = /large {{ default_type text/plain; root {folder}; try_files /large.txt =404; }}
    location = /away {{ return 302 /; }}
    location = /post {{ client_max_body_size 10m; proxy_pass https://127.0.0.1:{port}/; }}
    location / {{ return 200 "Welcome"; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    port: int
    socket: str
    ca_file: str

    def url(self, path: str = "/") -> str:
        return f"https://localhost:{self.port}{path}"


@asynccontextmanager
async def nginx(folder: Path, authority: Authority, *, requests: int = 1000) -> AsyncIterator[Nginx]:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    issued = authority.issue("localhost")
    port = free_port()
    (folder / "large.txt").write_bytes(b"x" * 3_000_000)
    folder.chmod(0o755)
    conf = folder / "nginx.conf"
    conf.write_text(
        NGINX.format(
            folder=folder, port=port, requests=requests, certificate=issued.cert_file, key=issued.key_file
        )
    )
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(conf), "-p", str(folder), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        with anyio.fail_after(20):
            while not await _listens(port):
                await anyio.sleep(0.01)
        yield Nginx(port, str(folder / "app.sock"), authority.ca_file)
    finally:
        process.kill()
        await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


def installed() -> bool:
    return shutil.which("nginx") is not None or os.access("/usr/sbin/nginx", os.X_OK)


def plain_alpn(issued: Issued, *protocols: str) -> ssl.SSLContext:
    context = issued.context()
    context.set_alpn_protocols(list(protocols))
    return context
