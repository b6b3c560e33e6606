"""Asks one exporter for probes at a steady rate over kept-alive connections, whether it keeps up or not.

A program of its own, since the measuring one must not share its loop. It prints a :class:`bench.peer.Driven` as JSON.
An answer's latency counts from the instant it was due to be asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import deque
from dataclasses import asdict
from typing import Any, cast

import httptools
import psutil
import uvloop

from bench.machine import Meter
from bench.numbers import quantile

OUTSTANDING_AT_MOST = 2000
GOOD = b"\nprobe_success 1\n"


class Answers(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, due: float) -> None:
        self._due = due
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(self._driver.request)

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._driver.answered(self, self._due, good=GOOD in self._body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._driver.lost(self)


class Driver:
    """Counts of one run; :meth:`run` may be called again."""

    def __init__(self, port: int, path: str) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/plain\r\n\r\n".encode()
        self._port = port
        self._idle: deque[Answers] = deque()
        self._busy: set[Answers] = set()
        self._opening = 0
        self._forget()

    def _forget(self) -> None:
        self.successes, self.refused = 0, 0
        self.latencies: list[float] = []

    async def run(self, rate: float, seconds: float) -> None:
        """Ask evenly for this long, then wait for the last answers."""
        self._forget()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            while (ahead := due - loop.time()) > 0:
                await asyncio.sleep(ahead)
            self._ask(due)
        async with asyncio.timeout(20):
            while self._busy or self._opening:
                await asyncio.sleep(0.005)

    def _ask(self, due: float) -> None:
        if self._idle:
            connection = self._idle.pop()
            self._busy.add(connection)
            connection.ask(due)
        elif len(self._busy) + self._opening >= OUTSTANDING_AT_MOST:
            self.refused += 1
        else:
            self._opening += 1
            self._last = asyncio.ensure_future(self._ask_anew(due))

    async def _ask_anew(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Answers(self), "127.0.0.1", self._port)
        finally:
            self._opening -= 1
        self._busy.add(connection)
        connection.ask(due)

    def answered(self, connection: Answers, due: float, *, good: bool) -> None:
        self._busy.discard(connection)
        self._idle.append(connection)
        self.successes += good
        self.latencies.append(asyncio.get_running_loop().time() - due)

    def close(self) -> int:
        """Close all connections and say how many they are."""
        connections = [*self._idle, *self._busy]
        for connection in connections:
            connection.close()
        return len(connections)

    def lost(self, connection: Answers) -> None:
        if connection in self._busy:
            self._busy.discard(connection)
            self.refused += 1
        elif connection in self._idle:
            self._idle.remove(connection)


async def drive(asked: argparse.Namespace) -> dict[str, Any]:
    driver = Driver(asked.port, asked.path)
    await driver.run(asked.rate, asked.warm_up)
    process = psutil.Process(asked.pid)
    meter = Meter(asked.pid)
    await driver.run(asked.rate, asked.seconds)
    usage = meter.read()
    return {
        "probes": len(driver.latencies),
        "successes": driver.successes,
        "refused": driver.refused,
        "usage": asdict(usage),
        "rss_bytes": process.memory_info().rss,
        "latency_p50_seconds": quantile(driver.latencies, 0.5),
        "latency_p99_seconds": quantile(driver.latencies, 0.99),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--pid", type=int, required=True, help="whose CPU time is taken over the window")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, required=True)
    print(json.dumps(uvloop.run(drive(parser.parse_args()))))


if __name__ == "__main__":
    main()
