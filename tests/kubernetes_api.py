"""A double of a cluster's API on loopback, true to the protocol of lists and watches (Kubernetes' API concepts).

Every change has a version. A list shows one version, page after page; a watch tells what came after one; both are Gone
once the history before it was compacted. Tokens are checked, and what is refused is told by a Status object.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.servers import Caller, header_of, path_of, serving

Object = dict[str, Any]
PLURALS = {
    "/api/v1": ("services", "Service"),
    "/apis/networking.k8s.io/v1": ("ingresses", "Ingress"),
    "/apis/monitoring.coreos.com/v1": ("probes", "Probe"),
}
_PATH = re.compile(r"(?P<group>/api/v1|/apis/[^/]+/v1)(/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)")
_SET = re.compile(r"(?P<key>\S+)\s+(?P<how>in|notin)\s+\((?P<values>[^)]*)\)")


_GROUPS = {group.split("/")[-2]: group for group in PLURALS if group.startswith("/apis/")}
_DISCOVERY: dict[str, Object] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [
            {"name": name, "versions": [version], "preferredVersion": version}
            for name in _GROUPS
            for version in [{"groupVersion": f"{name}/v1", "version": "v1"}]
        ],
    },
    **{
        group: {
            "kind": "APIResourceList",
            "groupVersion": "/".join(group.split("/")[2:]),
            "resources": [
                {
                    "name": plural,
                    "singularName": "",
                    "namespaced": True,
                    "kind": kind,
                    "verbs": ["list", "watch"],
                }
            ],
        }
        for group, (plural, kind) in PLURALS.items()
    },
}
"""What clients ask before they ask for anything."""


class Change(NamedTuple):
    version: int
    kind: str
    plural: str
    now: Object
    before: Object | None


class Asked(NamedTuple):
    """One request: what for, and with what token."""

    path: str
    query: Mapping[str, str]
    token: str

    @property
    def watches(self) -> bool:
        return "watch" in self.query


class Refusal(Exception):  # noqa: N818 - what the API says
    def __init__(self, code: int, reason: str, message: str, headers: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code, self.headers = code, headers
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


@dataclass
class Watch:
    """One that is open, and how it is to end."""

    asked: Asked
    caller: Caller
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    bookmarks: int = 0
    end: Callable[[Caller], Any] | None = None


@dataclass
class KubernetesApi:
    """``tokens``: who may ask; ``forbidden``: (plural, namespace) that nobody may; ``down``: what every request gets."""

    tokens: set[str] = field(default_factory=lambda: {"token-1"})
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    down: Refusal | None = None
    gone_within_the_stream: bool = False
    torn: bool = False
    """Whether events are sent in pieces, as a proxy may do."""
    withheld: bool = False
    """Whether a proxy keeps what watches say."""
    brief: bool = False
    """Whether watches end before they say anything."""
    watch_refusal: Refusal | None = None
    asked: list[Asked] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    version: int = 1000
    compacted: int = 0
    """What came before this version is forgotten."""
    between_pages: Callable[[], None] | None = None
    port: int = 0
    _now: dict[tuple[str, str], Object] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    # --- what the cluster does ------------------------------------------------------------------------

    def put(self, plural: str, found: Object) -> Object:
        self.version += 1
        meta = {
            "namespace": "default",
            "uid": "u",
            "managedFields": [{"manager": "kubectl"}],
            **found["metadata"],
        }
        found = {**found, "metadata": {**meta, "resourceVersion": str(self.version)}, "status": {"x": 1}}
        before = self._now.get((plural, _key(found)))
        self._now[plural, _key(found)] = found
        self._change(Change(self.version, "MODIFIED" if before else "ADDED", plural, found, before))
        return found

    def remove(self, plural: str, key: str) -> None:
        self.version += 1
        before = self._now.pop((plural, key))
        meta = {**before["metadata"], "resourceVersion": str(self.version)}
        self._change(Change(self.version, "DELETED", plural, {**before, "metadata": meta}, before))

    def compact(self) -> None:
        """Forget how it came to what is now. Something else changed meanwhile, so the version has moved on."""
        self.version += 1
        self.compacted = self.version

    def _change(self, change: Change) -> None:
        self.changes.append(change)
        for watch in self.watches:
            watch.wake.set()

    # --- what happens to watches ----------------------------------------------------------------------

    def bookmark(self) -> None:
        self.version += 1
        for watch in self.watches:
            watch.bookmarks += 1
            watch.wake.set()

    def end_watches(self, how: Callable[[Caller], Any] | None = None) -> None:
        """As the server does when their time is over, or ``how``."""

        async def orderly(caller: Caller) -> None:
            await caller.say(b"0\r\n\r\n")

        for watch in self.watches:
            watch.end = how or orderly
            watch.wake.set()

    async def watched(self, count: int = 1) -> None:
        """Until so many watches are open at once."""
        async with asyncio.timeout(20):
            while len(self.watches) < count:
                self._arrived.clear()
                await self._arrived.wait()

    async def asked_for(self, what: Callable[[Asked], bool], times: int = 1) -> None:
        async with asyncio.timeout(20):
            while sum(map(what, self.asked)) < times:
                self._arrived.clear()
                await self._arrived.wait()

    # --- HTTP -----------------------------------------------------------------------------------------

    async def converse(self, caller: Caller) -> None:
        request = await caller.request()
        parts = urlsplit(path_of(request))
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        scheme, _, token = (header_of(request, "Authorization") or "").partition(" ")
        asked = Asked(parts.path, query, token if scheme == "Bearer" else "")
        self.asked.append(asked)
        self._arrived.set()
        try:
            await self._answer(asked, caller)
        except Refusal as refusal:
            await _say(caller, refusal.code, refusal.status, refusal.headers)

    async def _answer(self, asked: Asked, caller: Caller) -> None:
        if self.down is not None:
            raise self.down
        if asked.token not in self.tokens:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        if asked.path in _DISCOVERY:
            await _say(caller, 200, _DISCOVERY[asked.path])
            return
        match = _PATH.fullmatch(asked.path)
        if not match or match["group"] not in PLURALS or PLURALS[match["group"]][0] != match["plural"]:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        plural, namespace = match["plural"], match["namespace"] or ""
        if plural in self.absent:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        if (plural, namespace) in self.forbidden:
            verb = "watch" if asked.watches else "list"
            raise Refusal(
                403, "Forbidden",
                f'{plural} is forbidden: User "system:serviceaccount:monitoring:watchbill" cannot {verb} resource "{plural}"',
            )  # fmt: skip
        if asked.watches:
            await self._watch(asked, caller, plural, namespace)
        else:
            await _say(caller, 200, self._list(asked, plural, namespace, PLURALS[match["group"]][1]))

    def _list(self, asked: Asked, plural: str, namespace: str, kind: str) -> Object:
        version, after = self.version, ""
        if more := asked.query.get("continue"):
            version, after = json.loads(base64.b64decode(more))
            if version < self.compacted:
                raise _gone("The provided continue parameter is too old")
        fits = _fits(asked.query, namespace)
        found = {key: one for key, one in self._at(plural, version).items() if fits(one) and key > after}
        limit = int(asked.query.get("limit", "0")) or len(found)
        page = sorted(found)[:limit]
        meta: Object = {"resourceVersion": str(version)}
        if len(found) > limit:
            meta["continue"] = base64.b64encode(json.dumps([version, page[-1]]).encode()).decode()
            meta["remainingItemCount"] = len(found) - limit
            if self.between_pages is not None:
                self.between_pages()
        items = [found[key] for key in page] or None  # an empty list is null in Go
        return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": meta, "items": items}

    def _at(self, plural: str, version: int) -> dict[str, Object]:
        found = {key: one for (kind, key), one in self._now.items() if kind == plural}
        for change in reversed(self.changes):
            if change.version <= version or change.plural != plural:
                continue
            if change.before is None:
                found.pop(_key(change.now), None)
            else:
                found[_key(change.now)] = change.before
        return found

    async def _watch(self, asked: Asked, caller: Caller, plural: str, namespace: str) -> None:
        if self.watch_refusal is not None:
            raise self.watch_refusal
        told = int(asked.query["resourceVersion"])
        gone = told < self.compacted
        if gone and not self.gone_within_the_stream:
            raise _gone(f"too old resource version: {told} ({self.compacted})")
        await caller.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        if gone:
            await self._event(caller, "ERROR", _gone(f"too old resource version: {told}").status)
        if gone or self.brief:
            await caller.say(b"0\r\n\r\n")
            return
        watch, fits = Watch(asked, caller), _fits(asked.query, namespace)
        self.watches.append(watch)
        self._arrived.set()
        try:
            while watch.end is None:
                watch.wake.clear()
                if self.withheld:
                    await watch.wake.wait()
                    continue
                for change in [one for one in self.changes if one.version > told and one.plural == plural]:
                    told = change.version
                    if kind := _seen_as(change, fits):
                        await self._event(caller, kind, change.now)
                while watch.bookmarks and asked.query.get("allowWatchBookmarks") == "true":
                    watch.bookmarks -= 1
                    told = self.version
                    await self._event(
                        caller, "BOOKMARK", {"kind": "X", "metadata": {"resourceVersion": str(self.version)}}
                    )
                await watch.wake.wait()
            ending = watch.end(caller)
            if ending is not None:
                await ending
        finally:
            self.watches.remove(watch)

    async def _event(self, caller: Caller, kind: str, found: Object) -> None:
        line = json.dumps({"type": kind, "object": found}).encode() + b"\n"
        pieces = [line[at : at + 7] for at in range(0, len(line) - 1, 7)] + [b"\n"] if self.torn else [line]
        if self.torn:
            pieces[-2] = pieces[-2].removesuffix(b"\n")
        for piece in pieces:
            await caller.say(b"%x\r\n%s\r\n" % (len(piece), piece))


def _seen_as(change: Change, fits: Callable[[Object], bool]) -> str | None:
    """What fits a selector no longer is deleted for who watches by it, and what fits it now is added."""
    now = change.kind != "DELETED" and fits(change.now)
    before = change.before is not None and fits(change.before)
    if now:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else None


def _fits(query: Mapping[str, str], namespace: str) -> Callable[[Object], bool]:
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")

    def fits(found: Object) -> bool:
        meta = found["metadata"]
        if namespace and meta["namespace"] != namespace:
            return False
        wanted = (term.partition("=") for term in fields.split(",") if term)
        if any(meta[path.removeprefix("metadata.")] != value for path, _, value in wanted):
            return False
        own = meta.get("labels", {})
        return all(_holds(term.strip(), own) for term in re.split(r",(?![^(]*\))", labels) if term)

    return fits


def _holds(term: str, labels: Mapping[str, str]) -> bool:
    if match := _SET.fullmatch(term):
        values = [value.strip() for value in match["values"].split(",")]
        return (labels.get(match["key"]) in values) == (match["how"] == "in")
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key) != value
    key, equals, value = term.partition("=")
    return labels.get(key) == value if equals else key in labels


def _gone(message: str) -> Refusal:
    return Refusal(410, "Expired", message)


def _key(found: Object) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"


async def _say(caller: Caller, code: int, body: Object, headers: Sequence[str] = ()) -> None:
    content = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {code} Said",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    await caller.say("\r\n".join([*lines, "", ""]).encode() + content)


@asynccontextmanager
async def kubernetes_api(tls: ssl.SSLContext | None = None) -> AsyncIterator[KubernetesApi]:
    api = KubernetesApi()
    async with serving(api.converse, tls=tls) as server:
        api.port = server.port
        yield api
