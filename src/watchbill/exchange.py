"""HTTP that is no probe, as the core asks for it: part of :mod:`watchbill.ports`, which is where to import it from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.errors import WatchbillError
from watchbill.domain.results import Reason


class HttpError(WatchbillError):
    """No whole answer came: nobody answered, or not by the rules, or not in time.

    ``reason`` says why as it would of a target; the text names scheme, host and port alone, so it can be shown.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The head of an answer, and its body as it comes. Names of headers are lower-case."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    """To be read once, within the block that opened it. Raises :class:`HttpError` where the body ends early."""

    async def read(self, limit: int) -> bytes:
        """The whole body. :raises HttpError: ``too_large`` where it is longer than that, else as ``chunks``."""
        announced = self.headers.get("content-length", "")
        parts, size = list[bytes](), int(announced) if announced.isascii() and announced.isdigit() else 0
        if size <= limit:
            size = 0
            async for chunk in self.chunks:
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    break
        if size > limit:
            raise HttpError(Reason.TOO_LARGE, f"the answer must have at most {limit} bytes")
        return b"".join(parts)


class HttpClient(Protocol):
    """Requests to servers that are no targets: one connection for each, no proxy of the environment, no cookies."""

    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        timeout_seconds: float | None,
        idle_seconds: float | None = None,
        tls: TlsOptions | None = None,
        follow_redirects: bool = False,
        allow_link_local: bool = False,
    ) -> AbstractAsyncContextManager[HttpAnswer]:
        """Send a request; the answer's head is there when the block begins, the connection is gone when it ends.

        ``timeout_seconds`` bounds everything from the lookup to the last byte of the body, ``idle_seconds`` each wait for
        the other end, which is what a stream without an end needs. User and password in the URL are sent (Basic).
        A redirect to another origin is shown no credentials, and is never followed to a link-local address.

        :raises HttpError: from entering the block; what the block itself raises passes.
        """
        ...


class NoHttp:
    """An :class:`HttpClient` that reaches nobody, where none was handed in."""

    @asynccontextmanager
    async def open(self, method: str, url: str, **_: Any) -> AsyncIterator[HttpAnswer]:
        answers: tuple[HttpAnswer, ...] = ()
        for answer in answers:
            yield answer
        raise HttpError(Reason.INTERNAL, "no HTTP client was handed in")
