"""The exporter's side of a worker: it is started, told, listened to and ended without holding the event loop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from socket import socketpair
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import SocketStream

from watchbill.workers.frames import LENGTH, packed, unpacked

STEP_BYTES = 256 * 1024
PASSED_ON = re.compile(
    "PATH|HOME|LANG|LANGUAGE|TZ|TMPDIR|LD_LIBRARY_PATH|PYTHON[A-Z0-9]+|LC_[A-Z]+|MALLOC_[A-Z_]+"
)
"""The variables that a worker gets, ``HOME`` since packages may lie below it: what else is there may be secret
(``LANGCHAIN_API_KEY``), and a worker reads what strangers send."""


class WorkerLostError(Exception):
    """The worker could not be started, or ended before it answered."""


class Worker:
    """One worker. Calls are made one after the other."""

    def __init__(self, process: subprocess.Popen[bytes], stream: SocketStream) -> None:
        self._process = process
        self._stream = stream
        self._received = bytearray()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def send(self, value: object) -> None:
        """:raises WorkerLostError: it has ended."""
        await self._write(packed(value))

    async def send_bytes(self, parts: Iterable[bytes]) -> None:
        """The parts as one, copied a little at a time.

        :raises WorkerLostError: it has ended.
        """
        parts = list(parts)
        await self._write(LENGTH.pack(sum(map(len, parts))))
        for part in parts:
            for start in range(0, len(part), STEP_BYTES):
                await self._write(part[start : start + STEP_BYTES])

    async def receive(self) -> Any:
        """The next value; others run before it is unpacked.

        :raises WorkerLostError: it has ended.
        """
        (length,) = LENGTH.unpack(await self._read(LENGTH.size))
        content = await self._read(length)
        await anyio.lowlevel.checkpoint()
        return unpacked(content)

    async def end(self) -> None:
        """At once, whatever it is doing; nothing of it is left."""
        with anyio.CancelScope(shield=True):
            self._process.kill()
            await self._stream.aclose()
            await anyio.to_thread.run_sync(self._process.wait)

    async def _write(self, data: bytes) -> None:
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise WorkerLostError("ended before it was told everything") from error

    async def _read(self, size: int) -> bytes:
        while len(self._received) < size:
            try:
                self._received += await self._stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise WorkerLostError("ended before it answered") from error
        found = bytes(self._received[:size])
        del self._received[:size]
        return found


async def start_worker(name: str) -> Worker:
    """The caller ends it.

    :raises WorkerLostError: there is no process to be had.
    """
    try:
        ours, its = socketpair()
    except OSError as error:
        raise WorkerLostError(f"could not be started: {error.strerror}") from error
    with its, anyio.CancelScope(shield=True):
        try:
            # Started from a thread: the interpreter uses vfork, while the event loop's own way forks a process of
            # hundreds of megabytes, which takes up to a tenth of a second.
            process = await anyio.to_thread.run_sync(_spawn, name, its.fileno())
        except OSError as error:
            ours.close()
            raise WorkerLostError(f"could not be started: {error.strerror}") from error
        stream = await SocketStream.from_socket(ours)
    return Worker(process, stream)


def _spawn(name: str, connected: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "watchbill.workers", name]
    environ = {variable: value for variable, value in os.environ.items() if PASSED_ON.fullmatch(variable)}
    return subprocess.Popen(command, stdin=connected, stdout=connected, env=environ)  # noqa: S603 - our own interpreter and module


@asynccontextmanager
async def open_worker(name: str) -> AsyncIterator[Worker]:
    """:raises WorkerLostError: there is no process to be had."""
    worker = await start_worker(name)
    try:
        yield worker
    finally:
        await worker.end()
