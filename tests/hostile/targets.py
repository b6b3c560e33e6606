"""Every misbehaving server of :mod:`tests.misbehaviour` in one process, and in another one that behaves.

``python -m tests.hostile.targets 1`` or ``good`` says on one line of JSON where they are, and serves until its stdin ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import uvloop

from tests.misbehaviour import TABLE
from tests.misbehaviour.conversations import warm_up
from tests.servers import http_server, response
from watchbill.probes.aside import COSTLY_BYTES

LARGEST_BODY = 200_000
"""What a request that is never read holds of the configuration; more than any buffer on its way is not needed to be refused."""


@dataclass(frozen=True, slots=True)
class Target:
    """A misbehaving server: the check that goes there, and the reason that it must end with (empty: success)."""

    name: str
    check_id: str
    check: dict[str, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class Targets:
    """``good``: the check of a server that behaves; ``judged``: of one whose answer must be judged aside."""

    good: dict[str, Any]
    judged: dict[str, Any]
    hostile: tuple[Target, ...]


@contextmanager
def targets(every: int = 1) -> Iterator[Targets]:
    """Up while the block runs: each of the table, or every second, ..."""
    with _process("good") as good, _process(str(every)) as hostile:
        yield Targets(**good, hostile=tuple(Target(**each) for each in hostile))


@contextmanager
def _process(which: str) -> Iterator[Any]:
    command = [sys.executable, "-m", "tests.hostile.targets", which]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as serving:
        assert serving.stdout is not None
        assert serving.stdin is not None
        try:
            yield json.loads(serving.stdout.readline())
        finally:
            serving.stdin.close()


def _check_id(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


async def serve_good() -> None:
    document = json.dumps({"ready": True, "parts": ["ready"] * (COSTLY_BYTES // 4)}).encode()
    async with http_server(response()) as good, http_server(response(document)) as judged:
        expected = {"expect": {"json": {"$.ready": True}}}
        await _until_the_end(
            {
                "good": {"type": "http", "url": good.url()},
                "judged": {"type": "http", "url": judged.url(), **expected},
            }
        )


async def serve_hostile(every: int) -> None:
    """Standing back, since targets are other machines, which take no time from the exporter's."""
    os.nice(10)
    warm_up()
    found = []
    async with AsyncExitStack() as stack:
        for row in TABLE[::every]:
            declared = await stack.enter_async_context(row.open())
            if len(body := declared.get("body", "")) > LARGEST_BODY:
                declared = {**declared, "body": body[:LARGEST_BODY]}
            check = {"type": row.check_type, **declared}
            reason = row.reason.value if row.reason else ""
            found.append(
                {"name": row.name, "check_id": _check_id(row.name), "check": check, "reason": reason}
            )
        await _until_the_end(found)


async def _until_the_end(where: Any) -> None:
    print(json.dumps(where), flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main(which: str) -> None:
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # clients that hang up are what it is for
    uvloop.run(serve_good() if which == "good" else serve_hostile(int(which)))


if __name__ == "__main__":
    main(sys.argv[1])
