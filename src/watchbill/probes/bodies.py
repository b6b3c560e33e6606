"""The body of an HTTP response: read up to a bound, decoded where it is judged, and judged aside if that may take its time."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import anyio.lowlevel
import httpx2

from watchbill.domain.checks import Http
from watchbill.domain.expectations import HttpExpect, body_failures
from watchbill.domain.results import Failure, Reason
from watchbill.judgement import judge_body
from watchbill.ports import Judge, NetworkError
from watchbill.probes.answer import Reply
from watchbill.probes.aside import COSTLY_BYTES, judge_aside
from watchbill.probes.attempt import Attempt
from watchbill.probes.decoding import DecodingError, decoding_of

JUDGED_HERE_BYTES = 64 * 1024
"""A larger body is judged aside, whatever is expected of it."""
SMALL_BYTES, GATHERED_BYTES = 4 * 1024, 64 * 1024
"""Parts of a body under the first are put together until they have the second."""
MOST_CODINGS = 2
LONGEST_CONTENT_TYPE = 256
PACKED_MORE_BYTES = 64 * 1024
"""A body may be larger packed than unpacked, by little."""


class Parts:
    """What came of a body, in few parts: of one that is sent byte by byte each would be an object that takes forty."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._small = bytearray()

    def add(self, part: bytes) -> None:
        if len(part) < SMALL_BYTES:
            self._small += part
            if len(self._small) >= GATHERED_BYTES:
                self._gather()
        else:
            self._gather()
            self._parts.append(part)

    def all(self) -> list[bytes]:
        self._gather()
        return self._parts

    def _gather(self) -> None:
        if self._small:
            self._parts.append(bytes(self._small))
            self._small.clear()


async def pass_over(answer: Reply, attempt: Attempt, *, limit: int) -> None:
    """Receive a body that nobody judges, up to ``limit`` bytes; only its size, as it is sent, is a fact."""
    size = 0
    async for chunk in answer:
        size += len(chunk)
        if size > limit:
            break
    attempt.phases.stop()
    attempt.facts["body_bytes"] = min(size, limit)


async def read_body(response: httpx2.Response, attempt: Attempt, *, limit: int) -> tuple[list[bytes], bool]:
    """The decoded body up to ``limit`` bytes, in parts, and whether there was more."""
    codings = _codings(response)
    parts = Parts()
    size = received = 0
    try:
        most = limit + limit // 8 + PACKED_MORE_BYTES
        decoding = decoding_of(codings, most)
        async with aclosing(response.aiter_raw()) as pieces:
            async for piece in pieces:
                received += len(piece)
                for step in decoding.feed(piece):
                    parts.add(step[: limit - size])
                    size += len(step)
                    if codings:
                        await anyio.lowlevel.checkpoint()  # unfolding goes on without waiting for anything
                    if size > limit:
                        break
                if size > limit or received > most or decoding.cut:
                    break
            else:
                decoding.finish()
    except DecodingError as error:
        raise NetworkError(Reason.PROTOCOL, f"the body is not valid {', '.join(codings)}: {error}") from error
    attempt.facts["body_bytes"] = min(size, limit)
    return parts.all(), size > limit or received > most or decoding.cut


def _codings(response: httpx2.Response) -> list[str]:
    listed = response.headers.get("content-encoding", "").lower()
    codings = [coding for token in listed.split(",") if (coding := token.strip()) not in {"", "identity"}]
    if len(codings) > MOST_CODINGS:
        raise NetworkError(
            Reason.PROTOCOL, f"the body must have at most {MOST_CODINGS} content codings, has more"
        )
    return codings


async def judge_received(
    check: Http, response: httpx2.Response, parts: list[bytes], *, truncated: bool, judge: Judge
) -> list[Failure]:
    """``parts``: the decoded body as it came, since joining sixty megabytes takes time as well."""
    expect, charset = check.expect, _charset(response)
    if truncated:
        return body_failures(expect, "", truncated=True, limit=check.max_body_bytes)
    if sum(map(len, parts)) <= _judged_here(expect):
        return judge_body(b"".join(parts), expect, charset)
    return await judge_aside(judge, judge_body, parts, expect, charset, what="body")


def _charset(response: httpx2.Response) -> str:
    """As the target names it, in few words: RFC 2231 lets it name the codec for that name, and some are slow."""
    if len(response.headers.get("content-type", "")) > LONGEST_CONTENT_TYPE:
        return ""
    return response.charset_encoding or ""


def _judged_here(expect: HttpExpect) -> int:
    """How large a body is judged without leaving the event loop."""
    costly = expect.json_ or expect.json_schema or (expect.body is not None and expect.body.matches)
    return COSTLY_BYTES if costly else JUDGED_HERE_BYTES
