"""The driver against a server that answers as blackbox_exporter does: chunked, and not always well."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from bench.driver import Driver

pytestmark = pytest.mark.anyio
GOOD = b"# TYPE probe_success gauge\nprobe_success 1\n"
BAD = b"# TYPE probe_success gauge\nprobe_success 0\n"


@pytest.mark.parametrize(("body", "successes"), [(GOOD, 20), (BAD, 0)], ids=["success", "failure"])
async def test_it_reads_chunked_answers_and_counts_successes(body: bytes, successes: int) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:30], body[30:]))
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
        writer.close()
        await writer.wait_closed()
        ended.put_nowait(None)

    ended: asyncio.Queue[None] = asyncio.Queue()
    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        driver = Driver(server.sockets[0].getsockname()[1], "/probe?target=t&module=m")
        await driver.run(rate=1000, seconds=0.02)
        assert (len(driver.latencies), driver.successes, driver.refused) == (20, successes, 0)
        for _ in range(driver.close()):
            await ended.get()
