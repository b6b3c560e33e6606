"""The body of an HTTP response: read up to a bound, decoded where it is judged, and judged off the loop if large."""

from __future__ import annotations

import re
from contextlib import aclosing
from functools import partial

import anyio
import anyio.lowlevel
import httpx2

from watchbill.domain.checks import Http
from watchbill.domain.expectations import HttpExpect, body_failures
from watchbill.domain.results import Failure, Reason
from watchbill.ports import NetworkError, Offload
from watchbill.probes.answer import Reply
from watchbill.probes.attempt import Attempt
from watchbill.probes.decoding import DecodingError, decoding_of

OFFLOADED_BYTES = 64 * 1024
"""A larger body is judged off the event loop..."""
OFFLOADED_COSTLY_BYTES = 8 * 1024
"""...and one of this size where patterns or JSON are judged, which take up to 5 us a byte."""
JUDGING_SECONDS = 5
MOST_CODINGS = 2
PACKED_MORE_BYTES = 64 * 1024
"""A body may be larger packed than unpacked, by little."""
# What a target names is looked up among Python's codecs, some of which take quadratic time or are not for text.
_CHARSETS = re.compile(
    r"utf-?(8|16|16-?le|16-?be|32)|(us-)?ascii|iso-8859-(1|2|3|4|5|6|7|8|9|10|11|13|14|15|16)|latin-?1"
    r"|windows-125[0-8]|koi8-[ru]|shift_jis|euc-(jp|kr)|iso-2022-(jp|kr)|gbk|gb2312|gb18030|big5",
    re.IGNORECASE,
)


async def pass_over(answer: Reply, attempt: Attempt, *, limit: int) -> None:
    """Receive a body that nobody judges, up to ``limit`` bytes; only its size, as it is sent, is a fact."""
    size = 0
    async for chunk in answer:
        size += len(chunk)
        if size > limit:
            break
    attempt.phases.stop()
    attempt.facts["body_bytes"] = min(size, limit)


async def read_body(response: httpx2.Response, attempt: Attempt, *, limit: int) -> tuple[bytes, bool]:
    """The decoded body up to ``limit`` bytes, and whether there was more."""
    codings = _codings(response)
    parts: list[bytes] = []
    size = received = 0
    try:
        most = limit + limit // 8 + PACKED_MORE_BYTES
        decoding = decoding_of(codings, most)
        async with aclosing(response.aiter_raw()) as pieces:
            async for piece in pieces:
                received += len(piece)
                for step in decoding.feed(piece):
                    parts.append(step[: limit - size])
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
    return b"".join(parts), size > limit or received > most or decoding.cut


def _codings(response: httpx2.Response) -> list[str]:
    listed = response.headers.get("content-encoding", "").lower()
    codings = [coding for token in listed.split(",") if (coding := token.strip()) not in {"", "identity"}]
    if len(codings) > MOST_CODINGS:
        raise NetworkError(
            Reason.PROTOCOL, f"the body must have at most {MOST_CODINGS} content codings, has more"
        )
    return codings


async def judge_body(
    check: Http, response: httpx2.Response, body: bytes, *, truncated: bool, offload: Offload
) -> list[Failure]:
    charset = response.charset_encoding or ""
    judge = partial(
        _body_failures, check.expect, body, charset=charset, truncated=truncated, limit=check.max_body_bytes
    )
    if len(body) <= _judged_here(check.expect):
        return judge()
    # What was received in time is judged in peace: a busy machine of ours must not look like a slow target.
    with anyio.move_on_after(JUDGING_SECONDS, shield=True):
        return await offload(judge)
    return [Failure(Reason.INTERNAL, f"the body could not be judged within {JUDGING_SECONDS}s")]


def _judged_here(expect: HttpExpect) -> int:
    """How large a body is judged without leaving the event loop."""
    costly = expect.json_ or expect.json_schema or (expect.body is not None and expect.body.matches)
    return OFFLOADED_COSTLY_BYTES if costly else OFFLOADED_BYTES


def _body_failures(
    expect: HttpExpect, body: bytes, *, charset: str, truncated: bool, limit: int
) -> list[Failure]:
    text = body.decode(charset if _CHARSETS.fullmatch(charset) else "utf-8", errors="replace")
    return body_failures(expect, text, truncated=truncated, limit=limit)
