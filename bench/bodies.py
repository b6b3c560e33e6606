"""How long hostile bodies hold the event loop: ``python -m bench.bodies``.

A server in a process of its own sends them; the probers run as in production, with a task beside them that wants to
run every millisecond. *Hold* is the longest that it had to wait.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import anyio

from bench.beat import Beat, milliseconds
from watchbill.domain.checks import parse_check
from watchbill.net import open_network
from watchbill.probes import make_execute, probers
from watchbill.serve import system_clock
from watchbill.workers.judging import open_judges

MIB = 1 << 20
COSTLY_PATTERN = r"\pL{300}.{300}x"
"""What RE2 takes longest for of what was tried: 7 us a byte."""


def bomb(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(mebibytes)) + packer.flush()


def long_named() -> bytes:
    """A gzip inside a gzip whose file name goes on for a gigabyte: nothing comes out for a long time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b"\x1f\x8b\x08\x08" + bytes(6))
    return head + b"".join(packer.compress(b"n" * MIB) for _ in range(1024)) + packer.flush()


@dataclass(frozen=True)
class Case:
    """``body`` is made in the server. ``expect`` and ``fields`` are the check's."""

    name: str
    body: Callable[[], bytes]
    expect: dict[str, Any]
    headers: tuple[str, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)


def cases() -> list[Case]:
    large = {"max_body_bytes": 64 * MIB}
    found = [Case("1 MiB, nothing expected of it", lambda: bytes(MIB), {})]
    for size in (1, 16, 64):
        content = (size * MIB) - 16
        found += [
            Case(f"{size} MiB of text", partial(bytes, content), {"body": {"contains": "x"}}, fields=large),
            Case(
                f"{size} MiB, costly pattern",
                partial(_letters, content),
                {"body": {"matches": COSTLY_PATTERN}},
                fields=large,
            ),
            Case(f"{size} MiB of JSON", partial(_numbers, content), {"json": {"$[0]": 1}}, fields=large),
        ]
    found += [
        Case(
            "16 MiB, not UTF-8",
            lambda: random.Random(1).randbytes(16 * MIB),
            {"body": {"contains": "x" * 50}},
            fields=large,
        ),
        Case("1 MiB of JSON, deep", lambda: b"[" * MIB, {"json": {"$[0]": 1}}),
        Case(
            "64 MiB of JSON, empty lists",
            lambda: b"[" + b"[]," * (21 * MIB) + b"1]",
            {"json": {"$[0]": 1}},
            fields=large,
        ),
        Case("1 MiB of JSON, every node", partial(_numbers, MIB - 16), {"json": {"$..[?@ > 5]": 1}}),
        Case(
            "1 MiB of JSON, schema",
            partial(_numbers, MIB - 16),
            {"json_schema": {"items": {"type": "string"}}},
        ),
        Case(
            "gzip, 64 KiB of 64 MiB",
            partial(bomb, 63),
            {"body": {"contains": "x"}},
            ("Content-Encoding: gzip",),
            large,
        ),
        Case(
            "gzip, 1 MiB of 1 GiB",
            partial(bomb, 1000),
            {"body": {"contains": "x"}},
            ("Content-Encoding: gzip",),
            large,
        ),
        Case(
            "gzip twice, 1 GiB of file name",
            long_named,
            {"body": {"contains": "x"}},
            ("Content-Encoding: gzip, gzip",),
            large,
        ),
    ]
    with suppress(ImportError):
        import brotli  # noqa: PLC0415 - it may be there or not

        found.append(
            Case(
                "brotli, of 1 GiB",
                lambda: brotli.compress(bytes(1024 * MIB), quality=1),
                {"body": {"contains": "x"}},
                ("Content-Encoding: br",),
                large,
            )
        )
    return found


def _letters(size: int) -> bytes:
    return "é".encode() * (size // 2)


def _numbers(size: int) -> bytes:
    return b"[" + b"1," * (size // 2) + b"1]"


# --- the server, in a process of its own -------------------------------------------------------------


class Handler(BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            request = self.request.recv(65536)
            case = CASES[int(request.split(b" ")[1].removeprefix(b"/"))]
            if case.name not in MADE:
                MADE[case.name] = case.body()
            body = MADE[case.name]
            head = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *case.headers]
            self.request.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)


CASES = cases()
MADE: dict[str, bytes] = {}


def serve() -> None:
    ThreadingTCPServer.daemon_threads = True
    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


# --- the probes --------------------------------------------------------------------------------------


async def measure(port: int) -> None:
    clock, beat = system_clock(), Beat()
    async with open_network() as network, open_judges() as judges, anyio.create_task_group() as group:
        execute = make_execute(
            probers(network, clock.now, judges, lambda _: 0),
            clock=clock,
            location="",
            monotonic=clock.monotonic,
        )
        group.start_soon(beat.run)
        print(f"{'body':34} {'hold ms':>8} {'CPU ms':>7} {'seconds':>8}  result")
        for number, case in enumerate(CASES):
            check = parse_check(
                {"id": "c", "type": "http", "url": f"http://127.0.0.1:{port}/{number}", "interval": "1m", "timeout": "30s",
                 "expect": case.expect, **case.fields}
            )  # fmt: skip
            await execute(
                parse_check({**check.model_dump(exclude={"expect"}, by_alias=True), "expect": {}}), slot=None
            )
            beat.clear()
            begun = time.perf_counter()
            result = await execute(check, slot=None)
            await anyio.sleep(0.05)
            said = "; ".join(failure.message for failure in result.failures) or "success"
            print(
                f"{case.name:34} {milliseconds(beat.walls):8.1f} {milliseconds(beat.cpus):7.1f} {time.perf_counter() - begun:8.2f}  {said[:90]}"
            )
        group.cancel_scope.cancel()


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    with subprocess.Popen(
        [sys.executable, "-m", "bench.bodies", "serve"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        anyio.run(measure, int(server.stdout.readline()), backend_options={"use_uvloop": True})
        server.kill()


if __name__ == "__main__":
    main()
