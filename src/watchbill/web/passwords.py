"""Basic authentication against bcrypt hashes, so that guessing delays nobody else.

A hash takes 60 ms of a core and more. One is computed at a time, in a thread; each address has one under way and a few
waiting, and what is more is refused at once, so that a flood from one address leaves the others their turn. A password
that was found right, or wrong, is known again by a keyed hash: it is kept nowhere.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum

import anyio
import bcrypt

from watchbill.ports import Offload

MOST_REMEMBERED = 256
MOST_WAITING = 64
MOST_WAITING_AN_ADDRESS = 8
BCRYPT_BYTES = 72
"""bcrypt looks at no more of a password."""


class Verdict(Enum):
    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"
    """Too many wait already; nothing was looked at."""


class Passwords:
    """``secret`` keys the hashes by which passwords are known again; it must be of this process alone."""

    def __init__(self, secret: bytes, offload: Offload) -> None:
        self._secret = secret
        self._offload = offload
        self._right = _Remembered()
        self._wrong = _Remembered()  # apart, so that guesses cannot push out what was right
        self._one_at_a_time = anyio.Lock()
        self._turns: dict[str, _Turn] = {}
        self._waiting = 0

    async def judge(self, users: Mapping[str, str], authorization: str, *, address: str) -> Verdict:
        """Whether the header names a user and its password. An unknown user takes the time of a known one."""
        said = credentials(authorization)
        if said is None:
            return Verdict.WRONG
        name, password = said
        known = users.get(name)
        stored = self._hash_of_somebody(users, name) if known is None else known
        digest = self._digest(name, password, stored)
        if known is not None and self._right.has(digest):
            return Verdict.RIGHT
        if self._wrong.has(digest):
            return Verdict.WRONG
        matches = await self._computed(password, stored, address)
        if matches is None:
            return Verdict.BUSY
        right = matches and known is not None
        (self._right if right else self._wrong).add(digest)
        return Verdict.RIGHT if right else Verdict.WRONG

    def _hash_of_somebody(self, users: Mapping[str, str], name: str) -> str:
        """Always the same one for a name, so that unknown names are as slow, and as different, as known ones."""
        hashes = sorted(users.values())
        chosen = hmac.digest(self._secret, name.encode(errors="surrogateescape"), "sha256")
        return hashes[int.from_bytes(chosen[:8], "big") % len(hashes)]

    def _digest(self, name: str, password: bytes, stored: str) -> bytes:
        parts = (name.encode(errors="surrogateescape"), stored.encode(), password)
        return hmac.digest(self._secret, b"".join(b"%d:%s" % (len(part), part) for part in parts), "sha256")

    async def _computed(self, password: bytes, stored: str, address: str) -> bool | None:
        turn = self._turns.get(address) or _Turn()
        if self._waiting >= MOST_WAITING or turn.waiting >= MOST_WAITING_AN_ADDRESS:
            return None
        self._turns[address] = turn
        self._waiting += 1
        turn.waiting += 1
        try:
            async with turn.lock, self._one_at_a_time:
                return await self._offload(bcrypt.checkpw, password[:BCRYPT_BYTES], stored.encode())
        finally:
            self._waiting -= 1
            turn.waiting -= 1
            if not turn.waiting:
                self._turns.pop(address, None)


class _Turn:
    """What one address waits for."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.waiting = 0


class _Remembered:
    """The digests seen last."""

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def has(self, digest: bytes) -> bool:
        if digest not in self._digests:
            return False
        self._digests.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        self._digests[digest] = None
        if len(self._digests) > MOST_REMEMBERED:
            self._digests.popitem(last=False)


def credentials(authorization: str) -> tuple[str, bytes] | None:
    """Name and password of an ``Authorization: Basic`` header (RFC 7617); ``None`` where it is none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    name, colon, password = decoded.partition(b":")
    return (name.decode(errors="surrogateescape"), password) if colon else None
