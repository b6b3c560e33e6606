"""After the application is closed no task, thread, socket or file of its own is left, on the real adapters."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from pathlib import Path

import anyio
import psutil
import pytest

from tests.exporter import free_port
from watchbill.app import open_app
from watchbill.config import load
from watchbill.domain.messages import ReloadConfig
from watchbill.net import open_network
from watchbill.ports import Ports
from watchbill.serve import offload, system_clock
from watchbill.storage import open_storage
from watchbill.workers.judging import open_judges
from watchbill.workers.loading import Loader

pytestmark = pytest.mark.e2e


def open_files() -> list[str]:
    """What this process holds open, the listing itself aside."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}").split(":")[0])
        except OSError:
            continue
    return sorted(found)


async def probe_and_reload(folder: Path, port: int) -> set[str]:
    """One life of the application; the names of the tasks that were left after it."""
    config = folder / "checks.yaml"
    config.write_text(
        "version: 1\nchecks:\n"
        f"  refused: {{type: tcp, host: 127.0.0.1, port: {port}, interval: 1s}}\n"
        f"  page: {{type: http, url: 'http://localhost:{port}/', interval: 1s}}\n"
        "  ping: {type: icmp, host: 127.0.0.1, interval: 1s}\n"
        f"  name: {{type: dns, name: a.test, server: '127.0.0.1:{port}', interval: 1s}}\n"
    )
    before = asyncio.all_tasks()
    async with (
        open_storage(str(folder / "h.duckdb")) as storage,
        open_network() as network,
        open_judges() as judges,
    ):
        ports = Ports(
            clock=system_clock(),
            network=network,
            storage=storage,
            load_config=Loader(str(config)).load,
            offload=offload,
            judge=judges,
        )
        async with open_app(load(config, environ={}), ports) as app:
            await anyio.sleep(2.5)
            await app.bus.send(ReloadConfig("test"))
    assert app.produced >= 8
    assert app.writer.statistics().rows == app.produced
    return {task.get_name() for task in asyncio.all_tasks() - before}


def test_nothing_is_left(tmp_path: Path) -> None:
    port = free_port()
    options = {"use_uvloop": True}
    # Once before, so that what the interpreter and its libraries keep for good is there on both sides.
    anyio.run(probe_and_reload, tmp_path, port, backend_options=options)
    gc.collect()
    threads, files = set(threading.enumerate()), open_files()
    children = set(psutil.Process().children())
    assert anyio.run(probe_and_reload, tmp_path, port, backend_options=options) == set()
    gc.collect()
    assert set(threading.enumerate()) - threads == set()
    assert open_files() == files
    assert set(psutil.Process().children()) - children == set()
