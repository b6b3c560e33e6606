"""The API of a cluster, as far as discovery needs it: pages of a list, lines of a watch (Kubernetes' API concepts).

Who asks is the service account of the pod, or who the configuration names; a token is read anew for each request, since
the kubelet puts a new one there every hour or so.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from watchbill.discovery.kubernetes_objects import Object, as_map
from watchbill.domain.credentials import TlsOptions
from watchbill.domain.errors import WatchbillError
from watchbill.domain.kubernetes_sd import KubernetesSd, Role
from watchbill.domain.redaction import redact, spelled
from watchbill.ports import Files, FilesError, HttpAnswer, HttpClient, HttpError, Judge, UnjudgedError

T = TypeVar("T")

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its own."""
PAGE = 250
"""Objects to be told at once: a page is some hundred KB."""
PAGE_SECONDS = 30.0
WATCH_SECONDS = 300
"""After so long to twice as long the server ends a watch, and another begins."""
SILENCE_SECONDS = 100.0
"""A server sends a bookmark a minute; a connection that says nothing for longer may be dead without anybody's telling."""
MOST_BYTES = 32 << 20
"""Of a page. An object is at most some MB."""
INLINE_BYTES = 64 << 10
MOST_TOKEN_BYTES = 64 << 10
MOST_CHARACTERS = 300
"""Of what the server says of an error."""
GONE = 410
TOO_MANY_REQUESTS = 429


class ApiError(WatchbillError):
    """The API said no, or nothing that makes sense. ``status``: 0 where there was none."""

    def __init__(self, message: str, status: int = 0, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class Resource(NamedTuple):
    """Objects of one kind: where they are, and what the sources of their targets begin with."""

    group: str
    plural: str
    kind: str


RESOURCES: Mapping[Role, Resource] = {
    "ingress": Resource("/apis/networking.k8s.io/v1", "ingresses", "ingress"),
    "service": Resource("/api/v1", "services", "svc"),
    "probe": Resource("/apis/monitoring.coreos.com/v1", "probes", "probe"),
}


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list. ``version``: the state of the cluster that it shows; ``more``: how to ask for the next, if any."""

    items: tuple[Object, ...]
    version: str
    more: str


@dataclass(frozen=True, slots=True)
class Api:
    """One cluster, as one account sees it."""

    options: KubernetesSd
    http: HttpClient
    files: Files
    judge: Judge
    environment: Mapping[str, str]

    async def own_namespace(self) -> str:
        """:raises ApiError: this is no pod."""
        return await self._file(f"{ACCOUNT}/namespace")

    async def page(self, resource: Resource, namespace: str, selectors: Mapping[str, str], more: str) -> Page:
        """The first page, or that after ``more``.

        :raises ApiError: ``status`` 410 where ``more`` has expired.
        :raises HttpError: nobody answered.
        """
        query = {"limit": str(PAGE), **selectors, **({"continue": more} if more else {})}
        async with self._ask(resource, namespace, query, timeout_seconds=PAGE_SECONDS) as answer:
            body = await answer.read(MOST_BYTES)
        return await self._read(read_page, body)

    @asynccontextmanager
    async def watch(
        self, resource: Resource, namespace: str, selectors: Mapping[str, str], *, version: str, seconds: int
    ) -> AsyncIterator[Events]:
        """What changes after that version, for so long.

        :raises ApiError: ``status`` 410 where the version is no longer known; the events can tell so, too.
        :raises HttpError: nobody answered.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            **selectors,
        }
        async with self._ask(
            resource, namespace, query, timeout_seconds=None, idle_seconds=SILENCE_SECONDS
        ) as answer:
            yield Events(answer.chunks, self._read)

    @asynccontextmanager
    async def _ask(
        self, resource: Resource, namespace: str, query: Mapping[str, str], **patience: float | None
    ) -> AsyncIterator[HttpAnswer]:
        within = f"/namespaces/{namespace}" if namespace else ""
        server, token, tls = await self._account()
        url = f"{server}{resource.group}{within}/{resource.plural}?{urlencode(query)}"
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            async with self.http.open(
                "GET",
                url,
                headers=headers,
                timeout_seconds=patience["timeout_seconds"],
                idle_seconds=patience.get("idle_seconds"),
                tls=tls,
            ) as answer:
                if answer.status != 200:
                    raise await _refusal(answer, resource)
                yield answer
        except ApiError as error:  # whose words are the server's, which has seen the token
            raise ApiError(
                redact(str(error), spelled([token] if token else [])),
                error.status,
                retry_after_seconds=error.retry_after_seconds,
            ) from None

    async def _account(self) -> tuple[str, str, TlsOptions]:
        """Where the API is, the token to show if any, and how to know that it is the API."""
        options = self.options
        if options.api_server is not None:
            token = await self._file(options.token_file) if options.token_file else ""
            return options.api_server, token, options.tls
        host = self.environment.get("KUBERNETES_SERVICE_HOST", "")
        port = self.environment.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise ApiError(
                "this process is no pod of a cluster (KUBERNETES_SERVICE_HOST is not set); name the api_server"
            )
        server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        return server, await self._file(f"{ACCOUNT}/token"), TlsOptions(ca_file=f"{ACCOUNT}/ca.crt")

    async def _file(self, path: str) -> str:
        try:
            text = (await self.files.read(path, MOST_TOKEN_BYTES)).decode("ascii").strip()
        except FilesError as error:
            raise ApiError(str(error)) from error
        except UnicodeDecodeError as error:
            raise ApiError(f"{path} holds more than letters and digits") from error
        if not text or not text.isprintable():
            raise ApiError(f"{path} {'holds line breaks' if text else 'is empty'}")
        return text

    async def _read(self, read: Callable[[bytes], T], content: bytes) -> T:
        """Aside where that would hold the loop.

        :raises ApiError: it makes no sense.
        """
        try:
            return read(content) if len(content) <= INLINE_BYTES else await self.judge(read, [content])
        except (ValueError, RecursionError, UnjudgedError) as error:
            raise ApiError(f"the API sent what makes no sense: {str(error)[:200]}") from error


class Event(NamedTuple):
    """One line of a watch. ``kind``: ADDED, MODIFIED, DELETED, BOOKMARK, or what is not known yet."""

    kind: str
    found: Object
    version: str


class Events:
    """The lines of a watch until the server ends it; a line without an end is none."""

    def __init__(self, chunks: AsyncIterator[bytes], read: Callable[..., Any]) -> None:
        self._chunks = chunks
        self._read = read
        self._buffer = bytearray()
        self._looked = 0

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        """:raises ApiError: what came is no event, or one that ends the watch."""
        while not (line := await self._line()).strip():
            pass
        event: Event = await self._read(read_event, line)
        if event.kind == "ERROR":
            raise _status_error(event.found, "the watch ended")
        return event

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n", self._looked)) < 0:
            self._looked = len(self._buffer)
            if self._looked > MOST_BYTES:
                raise ApiError(f"an event has more than {MOST_BYTES} bytes")
            self._buffer += await anext(self._chunks)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._looked = 0
        return line


def read_page(content: bytes) -> Page:
    """:raises ValueError: that is no list."""
    found = as_map(json.loads(content))
    meta = as_map(found.get("metadata"))
    version, items, more = meta.get("resourceVersion"), found.get("items"), meta.get("continue")
    if not (isinstance(version, str) and isinstance(items, list | None)):
        raise ValueError("no list, or one without a version")  # noqa: TRY004 - what was sent is wrong, not what was passed
    return Page(tuple(map(_needed, items or ())), version, more if isinstance(more, str) else "")


def read_event(line: bytes) -> Event:
    """:raises ValueError: that is no event."""
    event = as_map(json.loads(line))
    kind, found = event.get("type"), as_map(event.get("object"))
    if kind == "ERROR":
        return Event(kind, found, "")
    version = as_map(found.get("metadata")).get("resourceVersion")
    if not (isinstance(kind, str) and isinstance(version, str)):
        raise ValueError("an event without a type, or about an object without a version")  # noqa: TRY004 - as above
    return Event(kind, _needed(found), version)


def _needed(found: Any) -> Object:
    """What targets are made of. Who manages which field is often most of an object."""
    found = as_map(found)
    meta = as_map(found.get("metadata"))
    return {
        "metadata": {key: meta[key] for key in ("namespace", "name", "labels", "annotations") if key in meta},
        "spec": found.get("spec"),
    }


# --- what is refused ----------------------------------------------------------------------------------


async def _refusal(answer: HttpAnswer, resource: Resource) -> ApiError:
    try:
        found = as_map(json.loads(await answer.read(INLINE_BYTES)))
    except (ValueError, RecursionError, HttpError):
        found = {}
    error = _status_error(found, f"the API answered {answer.status}")
    hint = ""
    if answer.status == 404:
        hint = f"; it has no {resource.plural} at {resource.group}"
    elif answer.status == 403:
        hint = f"; a role must allow list and watch on {resource.plural}"
    wait = answer.headers.get("retry-after", "")
    seconds = min(float(wait), 60.0) if wait.isascii() and wait.isdigit() else 0.0
    return ApiError(f"{error}{hint}", answer.status, retry_after_seconds=seconds)


def _status_error(found: Object, said: str) -> ApiError:
    """A Status object says what happened in words and as a code."""
    message, code = found.get("message"), found.get("code")
    words = " ".join(message.split()) if isinstance(message, str) else ""
    words = words if len(words) <= MOST_CHARACTERS else f"{words[: MOST_CHARACTERS - 1]}…"
    return ApiError(f"{said}: {words}" if words else said, code if isinstance(code, int) else 0)
