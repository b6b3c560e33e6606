"""What may be shown of a probe: no secret that a target echoed, no control characters, no novels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from watchbill.domain.checks import Check
from watchbill.domain.redaction import is_clean, redact
from watchbill.domain.specs import echoes

MOST_CHARACTERS = 500
MOST_REMEMBERED = 2_000


class Screen:
    """For one check. It remembers the facts that it found nothing in: certificates and addresses hardly ever change, and
    looking for a secret in all its spellings takes longer the more there are (1 us each)."""

    __slots__ = ("_clean", "secrets")

    def __init__(self, check: Check) -> None:
        self.secrets = echoes(check)
        self._clean = ""

    def show(self, facts: dict[str, Any]) -> None:
        """Put what may be shown in the place of what may not."""
        texts = [text for value in facts.values() if isinstance(value, str | list) for text in _texts(value)]
        together = " ".join(texts)
        if together == self._clean:
            return
        if self._may_be_shown(texts, together):
            self._clean = together if len(together) <= MOST_REMEMBERED else ""
            return
        for name, value in facts.items():
            facts[name] = _shown(value, self.secrets)

    def _may_be_shown(self, texts: list[str], together: str) -> bool:
        """All of them, searched as one text; what lies across two of them is looked at again one by one."""
        short = len(together) <= MOST_CHARACTERS or max(map(len, texts)) <= MOST_CHARACTERS
        return short and together.isprintable() and is_clean(together, self.secrets)


def presentable(text: str, secrets: tuple[str, ...] = ()) -> str:
    """One printable line of at most 500 characters, without secrets, also where the text was cut within one."""
    text = redact(text, secrets)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return ()


def _shown(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return presentable(value, secrets)
    if isinstance(value, list):
        return [_shown(item, secrets) for item in value]
    return value
