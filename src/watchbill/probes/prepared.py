"""What is worked out once per declared check instead of once per probe."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from watchbill.domain.fields import CheckFields

C = TypeVar("C", bound=CheckFields)
T = TypeVar("T")


class PerCheck(Generic[C, T]):
    """``make(check)``, remembered for as long as that very check object lives.

    By identity: a check is frozen but holds mappings, so it has no hash, and a changed check is another object.
    """

    def __init__(self, make: Callable[[C], T]) -> None:
        self._make = make
        self._made: dict[int, tuple[weakref.ref[C], T]] = {}

    def of(self, check: C) -> T:
        key = id(check)
        known = self._made.get(key)
        if known is not None and known[0]() is check:
            return known[1]
        made = self._make(check)
        self._made[key] = (weakref.ref(check, lambda gone: self._forget(key, gone)), made)
        return made

    def _forget(self, key: int, gone: weakref.ref[C]) -> None:
        known = self._made.get(key)
        if known is not None and known[0] is gone:
            del self._made[key]
