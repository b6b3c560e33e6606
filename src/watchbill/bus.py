"""The message bus: commands to their one handler, events to everyone who asked.

``send`` and ``publish`` run in the caller's task: when they return, every subscriber has run, in order.
Whatever may be slow (a disk, a network) takes the event into a bounded buffer of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import Any, TypeAlias

import structlog

from watchbill.domain.messages import Command, Event

Handler: TypeAlias = Callable[[Any], "Sequence[Event] | Awaitable[Sequence[Event]]"]
Subscriber: TypeAlias = Callable[[Any], "Awaitable[None] | None"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BusStatistics:
    """``handler_errors``: how often each subscriber failed, by name; every subscriber is there."""

    handler_errors: Mapping[str, int]


def name_of(function: Callable[..., Any]) -> str:
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__name__)


class Bus:
    """Two tables: command -> handler and event -> subscribers."""

    def __init__(
        self,
        commands: Mapping[type, Handler] | None = None,
        events: Mapping[type, Sequence[Subscriber]] | None = None,
    ) -> None:
        self._handlers: dict[type, Handler] = dict(commands or {})
        self._subscribers: dict[type, list[tuple[str, Subscriber]]] = {}
        self._errors: Counter[str] = Counter()
        for event, subscribers in (events or {}).items():
            for subscriber in subscribers:
                self.subscribe(event, subscriber)

    def handle(self, command: type, handler: Handler) -> None:
        self._handlers[command] = handler

    def subscribe(self, event: type | Iterable[type], subscriber: Subscriber, *, name: str = "") -> None:
        """Call ``subscriber`` with every event of that type (or those types) from now on.

        Commands may be listened to as well: they are told before they are handled.
        """
        for event_type in [event] if isinstance(event, type) else event:
            label = name or name_of(subscriber)
            self._errors[label] += 0
            self._subscribers.setdefault(event_type, []).append((label, subscriber))

    async def send(self, command: Command) -> Sequence[Event]:
        """Handle a command, publish what happened, and hand it back.

        :raises LookupError: nobody handles commands of this type.
        :raises Exception: whatever the handler raised.
        """
        handler = self._handlers.get(type(command))
        if handler is None:
            raise LookupError(f"no handler for {type(command).__name__}")
        if type(command) in self._subscribers:
            await self.publish(command)
        answer = handler(command)
        events: Sequence[Event] = await answer if isawaitable(answer) else answer
        for event in events:
            await self.publish(event)
        return events

    async def publish(self, event: Event | Command) -> None:
        """Tell every subscriber; one that fails is logged and counted, and the others still run."""
        for name, subscriber in self._subscribers.get(type(event), ()):
            try:
                waiting = subscriber(event)
                if waiting is not None:
                    await waiting
            except Exception:  # the border: one broken subscriber must not silence the others
                self._errors[name] += 1
                log.exception("bus.subscriber_failed", subscriber=name, subject=type(event).__name__)

    def statistics(self) -> BusStatistics:
        return BusStatistics(handler_errors=dict(self._errors))
