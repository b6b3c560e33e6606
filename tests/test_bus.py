"""Commands to one handler, events to everyone, and a broken subscriber silences nobody."""

import pytest

from watchbill.bus import Bus
from watchbill.domain.messages import ConfigRejected, Event, RecordHeartbeat

pytestmark = pytest.mark.anyio
REJECTED = ConfigRejected("why", 1, "test")


async def test_send_publishes_what_the_handler_says_and_hands_it_back() -> None:
    heard: list[Event] = []
    bus = Bus({RecordHeartbeat: lambda _: [REJECTED]}, {ConfigRejected: [heard.append]})
    assert await bus.send(RecordHeartbeat("a")) == [REJECTED]
    assert heard == [REJECTED]


async def test_handlers_and_subscribers_may_be_asynchronous() -> None:
    heard: list[Event] = []

    async def handle(_: RecordHeartbeat) -> list[Event]:
        return [REJECTED]

    async def hear(event: ConfigRejected) -> None:
        heard.append(event)

    bus = Bus({RecordHeartbeat: handle})
    bus.subscribe(ConfigRejected, hear)
    await bus.send(RecordHeartbeat("a"))
    assert heard == [REJECTED]


async def test_an_error_of_a_handler_reaches_the_sender() -> None:
    def refuse(_: RecordHeartbeat) -> list[Event]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Bus({RecordHeartbeat: refuse}).send(RecordHeartbeat("a"))


async def test_a_command_without_a_handler_is_refused() -> None:
    with pytest.raises(LookupError, match="no handler for RecordHeartbeat"):
        await Bus().send(RecordHeartbeat("a"))


async def test_a_subscriber_that_fails_is_counted_and_the_others_still_run_in_order() -> None:
    heard: list[str] = []

    def first(_: Event) -> None:
        heard.append("first")

    def broken(_: Event) -> None:
        raise ZeroDivisionError

    def last(_: Event) -> None:
        heard.append("last")

    bus = Bus(events={ConfigRejected: [first, broken, last]})
    await bus.publish(REJECTED)
    assert heard == ["first", "last"]
    errors = bus.statistics().handler_errors
    assert {name.rsplit(".", 1)[-1]: count for name, count in errors.items()} == {
        "first": 0,
        "broken": 1,
        "last": 0,
    }
