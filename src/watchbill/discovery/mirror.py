"""What a cluster has of one kind in one place, followed: listed once, then every change in turn.

A watch that ends, however it does, goes on where it stood. Whose version the server has forgotten (410, as an answer or within
the stream) lists again, and so does one that hears nothing watch after watch: a proxy may keep what the server says. Whatever fails is told, waited for (twice as long each time, up to half a minute, and never in
step with others), and leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio

from watchbill.discovery.kubernetes_api import GONE, TOO_MANY_REQUESTS, WATCH_SECONDS, Api, ApiError, Resource
from watchbill.discovery.kubernetes_objects import Object, key_of
from watchbill.ports import HttpError

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
GONE_IN_A_ROW = 3
"""Once is what happens to every watch some day; a server that forgets all the time is in trouble."""
UNHEARD_IN_A_ROW = 3
"""Watches that told nothing, not even how far they are, before everything is listed again."""
BRIEF_SECONDS = 5.0
"""Watches that end sooner and tell nothing are a failure, and no reason to list without a pause."""
PAGING_ATTEMPTS = 3
"""A list that takes longer than the server keeps its pages for begins anew."""


@dataclass(slots=True)
class Mirror:
    """``changed`` is told of what is new, ``failed`` of why nothing is; ``objects`` are by namespace and name.

    ``random``: from 0 to 1; ``monotonic``: seconds.
    """

    api: Api
    resource: Resource
    namespace: str
    """Empty for all."""
    selectors: Mapping[str, str]
    changed: Callable[[], None]
    failed: Callable[[str], None]
    random: Callable[[], float]
    monotonic: Callable[[], float]
    objects: dict[str, Object] = field(default_factory=dict)
    known: bool = False
    """Whether it was ever listed."""
    _version: str = ""
    """To watch from; empty where everything is to be listed."""
    _failures: int = 0
    _unheard: int = 0

    async def follow(self) -> None:
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                if self._unheard >= UNHEARD_IN_A_ROW:
                    self._version = ""
                continue
            except ApiError as error:
                if error.status != TOO_MANY_REQUESTS:
                    self._version = ""
                if error.status != GONE or self._failures >= GONE_IN_A_ROW:
                    self.failed(str(error))
                least = error.retry_after_seconds
            except HttpError as error:
                self._version = ""
                self.failed(error.message)
                least = 0.0
            await anyio.sleep(max(least, self._wait()))

    async def _list(self) -> None:
        for _ in range(PAGING_ATTEMPTS):
            found: dict[str, Object] = {}
            more = ""
            try:
                while True:
                    page = await self.api.page(self.resource, self.namespace, self.selectors, more)
                    found |= {key_of(one): one for one in page.items}
                    more = page.more
                    if not more:
                        break
            except ApiError as error:
                if error.status != GONE or not more:
                    raise
                continue  # the rest of the list has expired
            self.objects, self.known = found, True
            self._version, self._unheard = page.version, 0
            self.changed()
            return
        raise ApiError(f"the list of {self.resource.plural} expires before it is read to its end")

    async def _watch(self) -> None:
        seconds = round(WATCH_SECONDS * (1 + self.random()))
        opened, began = False, self.monotonic()
        self._unheard += 1
        try:
            async with self.api.watch(
                self.resource, self.namespace, self.selectors, version=self._version, seconds=seconds
            ) as events:
                opened = True
                async for event in events:
                    self._failures = self._unheard = 0
                    self._version = event.version
                    self._take(event.kind, event.found)
        except HttpError:
            if not opened:
                raise
            # Cut off, or silent since nothing changes or the connection is dead: another one goes on, or fails and says why.
        if self.monotonic() - began >= BRIEF_SECONDS:
            self._failures = 0
        elif self._unheard >= UNHEARD_IN_A_ROW:
            raise ApiError(f"watches of {self.resource.plural} end as soon as they begin, and tell nothing")
        self.changed()  # all is as it was told
        await anyio.sleep(FIRST_WAIT_SECONDS * (1 + self.random()))

    def _take(self, kind: str, found: Object) -> None:
        match kind:
            case "ADDED" | "MODIFIED":
                if self.objects.get(key_of(found)) == found:
                    return  # its status alone, which a controller may write all the time
                self.objects[key_of(found)] = found
            case "DELETED":
                self.objects.pop(key_of(found), None)
            case _:
                return  # a bookmark is only a version
        self.changed()

    def _wait(self) -> float:
        self._failures += 1
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * float(1 << min(self._failures, 10)))
        return longest * (0.5 + self.random() / 2)
