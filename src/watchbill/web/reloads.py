"""Reloads over HTTP: any number of asks while one runs make one more, and share its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio

from watchbill.domain.errors import WatchbillError
from watchbill.domain.messages import Command, Event, ReloadConfig


@dataclass(slots=True)
class _Shared:
    """One reload that several wait for; neither events nor a refusal where it was cut short."""

    done: anyio.Event = field(default_factory=anyio.Event)
    events: Sequence[Event] = ()
    refusal: WatchbillError | None = None


class Reloads:
    """A reload that has begun may have read the file already, so who asks then waits for the next."""

    def __init__(self, send: Callable[[Command], Awaitable[Sequence[Event]]]) -> None:
        self._send = send
        self._turn = anyio.Lock()
        self._next: dict[bool, _Shared] = {}

    async def ask(self, *, allow_mass_delete: bool) -> Sequence[Event]:
        """:raises WatchbillError: the new configuration was refused, and nothing changed."""
        shared = self._next.get(allow_mass_delete)
        if shared is None:
            shared = self._next[allow_mass_delete] = _Shared()
            await self._run(shared, allow_mass_delete)
        else:
            await shared.done.wait()
        if shared.refusal is not None:
            raise shared.refusal
        return shared.events

    async def _run(self, shared: _Shared, allow_mass_delete: bool) -> None:
        try:
            async with self._turn:
                del self._next[allow_mass_delete]
                shared.events = await self._send(ReloadConfig("http", allow_mass_delete=allow_mass_delete))
        except WatchbillError as error:
            shared.refusal = error
        finally:
            if self._next.get(allow_mass_delete) is shared:
                del self._next[allow_mass_delete]
            shared.done.set()
