"""One request to the receiver, and what its answer means (https://opentelemetry.io/docs/specs/otlp/#otlphttp-response)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from watchbill.domain.otlp import OtlpOptions
from watchbill.domain.redaction import redact, spelled
from watchbill.domain.units import SECOND, Instant, to_instant
from watchbill.otlp.tally import Signal
from watchbill.ports import HttpAnswer, HttpClient, HttpError

PROTOBUF = "application/x-protobuf"
TRY_AGAIN = frozenset({429, 502, 503, 504})
MOST_ANSWER_BYTES = 64 * 1024
MOST_CHARACTERS = 200
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1
"""Of zlib: 6 takes three times as long for a tenth less."""


@dataclass(frozen=True, slots=True)
class Taken:
    """``rejected`` of what was sent were not; ``message``: what the receiver says of it."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Sending the same again would come to the same."""

    message: str


@dataclass(frozen=True, slots=True)
class Later:
    """``after_seconds``: when the receiver wants it again, if it says so."""

    message: str
    after_seconds: float | None = None


def pack(body: bytes, compression: str) -> bytes:
    if compression == "none":
        return body
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(body) + packer.flush()


async def deliver(
    http: HttpClient, options: OtlpOptions, signal: Signal, body: bytes, *, now: Instant
) -> Taken | Refused | Later:
    """``body`` is packed as the options say."""
    headers = {"content-type": PROTOBUF} | {
        name: value.get_secret_value() for name, value in options.headers.items()
    }
    if options.compression != "none":
        headers["content-encoding"] = options.compression
    try:
        async with http.open(
            "POST",
            options.url(signal),
            headers=headers,
            body=body,
            timeout_seconds=options.timeout.total_seconds(),
            tls=options.tls,
        ) as answer:
            return await _judged(answer, options, signal, now)
    except HttpError as error:
        return Later(error.message)


async def _judged(
    answer: HttpAnswer, options: OtlpOptions, signal: Signal, now: Instant
) -> Taken | Refused | Later:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status in TRY_AGAIN:
        return Later(f"it answers {answer.status}", _after(answer.headers.get("retry-after", ""), now))
    from watchbill.otlp import responses  # noqa: PLC0415 - protobuf, which has been imported by whoever encoded the body

    body = await _read(answer)
    if not 200 <= answer.status < 300:
        said = responses.status_message(body) if body and kind == PROTOBUF else ""
        return Refused(_shown(f"it answers {answer.status}{f': {said}' if said else ''}", options))
    if kind == PROTOBUF:
        rejected, message = responses.partial(signal, body or b"")
        return Taken(rejected, _shown(message, options))
    if body != b"" and "json" not in kind:
        # A web page says 200 to anything, and everything would be lost without a word.
        return Refused(
            _shown(
                f"it answers {answer.status} with {kind or 'no content type'}: no receiver of OTLP", options
            )
        )
    return Taken()


async def _read(answer: HttpAnswer) -> bytes | None:
    """``None`` where it is too long, or ends early: of a receiver of OTLP the status alone has decided already."""
    try:
        return await answer.read(MOST_ANSWER_BYTES)
    except HttpError:
        return None


def _after(value: str, now: Instant) -> float | None:
    """Of a ``Retry-After`` header: seconds, or a date in any of its three forms (RFC 9110 §5.6.7, §10.2.3)."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value[:64])
        # The form of asctime names no zone; it is GMT as the others are.
        return max(0.0, (to_instant(date if date.tzinfo else date.replace(tzinfo=UTC)) - now) / SECOND)
    except (ValueError, TypeError, OverflowError):
        return None


def _shown(text: str, options: OtlpOptions) -> str:
    """One short line without what we sent in the headers: a receiver may repeat it."""
    line = "".join(character if character.isprintable() else " " for character in text[: 4 * MOST_CHARACTERS])
    return redact(line, spelled(_secrets(options)))[:MOST_CHARACTERS]


def _secrets(options: OtlpOptions) -> Iterable[str]:
    for value in options.headers.values():
        secret = value.get_secret_value()
        # `Bearer TOKEN` may come back as the token alone.
        yield from (part for part in {secret, *secret.split()} if len(part) >= 6)
