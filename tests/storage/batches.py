"""A process that writes batches until it is killed, and says on stdout which were acknowledged.

``python -m tests.storage.batches PATH FIRST``: batch ``n`` holds ROWS rows of slots of its own. ``limit:BYTES`` as a
third argument bounds how large a file may grow, as a full disk would.
"""

from __future__ import annotations

import resource
import sys

import anyio

from tests.storage.events import batch, registered, slots, success
from watchbill.domain.errors import StorageError
from watchbill.domain.history import Batch
from watchbill.storage import open_storage

ROWS = 50


def numbered(number: int) -> Batch:
    mine = slots("shop", (number + 1) * ROWS)[number * ROWS :]
    rows = [success("shop", slot, facts={"number": number}) for slot in mine]
    declared = [registered("shop")] if number == 0 else []
    return batch(*declared, *rows, until=mine[-1] + 1)


async def write(path: str, first: int, limit: int | None) -> None:
    async with open_storage(path) as store:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        for number in range(first, 100_000):
            ready = numbered(number)
            try:
                await store.commit(ready)
            except StorageError as error:
                print("failed", error, flush=True)
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                await store.reopen()
                await store.commit(ready)
                print("healed", number, flush=True)
                return
            print(number, flush=True)


if __name__ == "__main__":
    bound = int(sys.argv[3].removeprefix("limit:")) if len(sys.argv) > 3 else None
    anyio.run(write, sys.argv[1], int(sys.argv[2]), bound)
