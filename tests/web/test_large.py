"""Bodies of many megabytes: whole, in slices, and few at once."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.types import Message, Receive, Scope, Send

from watchbill.web.large import MOST_AT_ONCE, SLICE_BYTES, Outbox

pytestmark = pytest.mark.anyio
GET: Scope = {"type": "http", "method": "GET"}
LARGE = [b"a" * SLICE_BYTES, b"", b"b" * (2 * SLICE_BYTES + 1)]


async def nothing() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


class Client:
    """Takes what it is sent, one message each time it ``reads``; all at once by default."""

    receive: Receive = staticmethod(nothing)

    def __init__(self, *, reads: bool = True) -> None:
        self.messages: list[Message] = []
        self.reading = anyio.Event()
        if reads:
            self.reading.set()

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        await checkpoint()
        await self.reading.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def ended(self) -> bool:
        return self.messages[-1]["type"] == "http.response.body" and not self.messages[-1].get("more_body")


@pytest.mark.parametrize("parts", [[], [b"x"], [b"x" * SLICE_BYTES], LARGE])
async def test_a_body_arrives_whole_and_in_slices(parts: list[bytes]) -> None:
    client = Client()
    await Outbox().response(parts, {"X": "y"})(GET, client.receive, client.send)
    assert client.body == b"".join(parts)
    assert client.ended
    assert dict(client.messages[0]["headers"])[b"content-length"] == str(len(client.body)).encode()
    assert max(len(message.get("body", b"")) for message in client.messages) <= SLICE_BYTES


async def test_head_has_the_length_and_no_body() -> None:
    client = Client()
    await Outbox().response(LARGE, {})({**GET, "method": "HEAD"}, client.receive, client.send)
    assert client.body == b""
    assert client.ended


async def test_the_oldest_body_that_nobody_reads_gives_way_to_the_newest() -> None:
    outbox = Outbox()
    idle = [Client(reads=False) for _ in range(MOST_AT_ONCE)]
    ended: list[int] = []

    async def answer(number: int, client: Client, send: Send) -> None:
        await outbox.response(LARGE, {})(GET, client.receive, send)
        ended.append(number)

    async def take_the_head_then_wait(client: Client, message: Message) -> None:
        client.messages.append(message)
        if message["type"] == "http.response.body":
            await client.reading.wait()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for number, client in enumerate(idle):

                async def send(message: Message, client: Client = client) -> None:
                    await take_the_head_then_wait(client, message)

                group.start_soon(answer, number, client, send)
            await anyio.wait_all_tasks_blocked()
            assert ended == []
            newest = Client()
            await answer(99, newest, newest.send)
            await anyio.wait_all_tasks_blocked()
            assert sorted(ended) == [0, 99]
            assert newest.body == b"".join(LARGE)
            assert not idle[0].ended
            for client in idle[1:]:
                client.reading.set()
    assert [client.body == b"".join(LARGE) for client in idle] == [False] + [True] * (MOST_AT_ONCE - 1)
