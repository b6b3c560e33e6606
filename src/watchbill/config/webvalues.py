"""The scalars of a web configuration: as loose as the YAML 1.1 library that reads that format elsewhere.

``no`` is a truth value where one is due, and a number is text where text is due.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping

from watchbill.config.fields import suggestion
from watchbill.config.mistakes import described
from watchbill.config.nodes import Node, shown_key
from watchbill.domain.errors import Problem

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUTHS = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}


class WebValues:
    """From nodes to values, one key after the other. A value that is wrong is told, and stands as its default meanwhile.

    Keys are dotted paths; ``keys`` are the values of the mapping that the last part of the path stands in.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.places: dict[str, Node] = {}

    def tell(self, node: Node, message: str, key: str) -> None:
        self.problems.append(node.problem(message, key))

    def mapping(
        self, node: Node | None, under: str, known: Collection[str] = (), *, what: str = "key"
    ) -> dict[str, Node]:
        """The values of a mapping by name, without those of nothing; without ``known`` any name will do, and all are there."""
        if node is None or node.value is None:
            return {}
        self.places[under] = node
        if not isinstance(node.value, dict):
            self.tell(
                node, f"{under or 'a web configuration'} must be a mapping, got {described(node)}", under
            )
            return {}
        found = {}
        for name, (key, value) in node.value.items():
            place = f"{under}.{name}".lstrip(".")
            if known and name not in known:
                near = suggestion(name, known) or f"; known are {', '.join(known)}"
                self.tell(key, f"unknown {what} {shown_key(name)}{near}", place)
            elif value.value is not None or not known:
                found[name] = self.places[place] = value
        return found

    def text(self, keys: Mapping[str, Node], key: str, *, name: str = "") -> str:
        node = keys.get(name or key.rpartition(".")[2])
        if node is None:
            return ""
        match node.value:
            case str(text):
                return text
            case bool(truth):
                return str(truth).lower()
            case int(number):
                return str(number)
            case None:
                return ""
        self.tell(node, f"{name or key.rpartition('.')[2]} must be text, got {described(node)}", key)
        return ""

    def truth(self, keys: Mapping[str, Node], key: str, *, default: bool) -> bool:
        name = key.rpartition(".")[2]
        node = keys.get(name)
        if node is None:
            return default
        value = _TRUTHS.get(node.value) if node.plain and isinstance(node.value, str) else node.value
        if isinstance(value, bool):
            return value
        self.tell(node, f"{name} must be true or false, got {described(node)}", key)
        return default

    def choice(self, keys: Mapping[str, Node], key: str, known: Collection[str], default: str = "") -> str:
        name = key.rpartition(".")[2]
        value = self.text(keys, key)
        if name not in keys or value in known:
            return value or default
        listed = ", ".join(each for each in known if each)
        self.tell(keys[name], f"{name} must be one of {listed}{_got(value)}{suggestion(value, known)}", key)
        return default

    def choices(self, keys: Mapping[str, Node], key: str, known: Collection[str]) -> tuple[str, ...]:
        name = key.rpartition(".")[2]
        chosen = []
        for node, value in self.texts(keys, key) or ():
            if value in known:
                chosen.append(value)
            else:
                self.tell(
                    node,
                    f"{name} has none{_named(value)}{suggestion(value, known)}; known are {', '.join(known)}",
                    key,
                )
        return tuple(dict.fromkeys(chosen))

    def texts(self, keys: Mapping[str, Node], key: str) -> list[tuple[Node, str]] | None:
        name = key.rpartition(".")[2]
        node = keys.get(name)
        if node is None:
            return None
        if isinstance(node.value, list):
            return [(item, self.text({name: item}, key)) for item in node.value]
        self.tell(node, f"{name} must be a list, got {described(node)}", key)
        return None

    def count(self, keys: Mapping[str, Node], key: str) -> int:
        node = keys.get(key.rpartition(".")[2])
        if node is None:
            return 0
        if isinstance(node.value, int) and not isinstance(node.value, bool) and node.value >= 0:
            return node.value
        self.tell(node, "burst must be a whole number of requests, such as 20", key)
        return 1

    def duration(self, keys: Mapping[str, Node], key: str) -> float:
        node = keys.get(key.rpartition(".")[2])
        if node is None or node.value in (0, "0"):
            return 0.0
        seconds = _seconds(node.value) if isinstance(node.value, str) else math.nan
        if math.isfinite(seconds):
            return seconds
        self.tell(node, "interval must be a duration such as 1s or 500ms, or 0 for no limit", key)
        return 0.0


def _seconds(text: str) -> float:
    """Go's notation, ``1m30s``; not a number where it is none."""
    parts = list(_parts(text))
    return sum(parts) if parts else math.nan


def _parts(text: str) -> Iterator[float]:
    at = 0
    while at < len(text):
        found = _DURATION.match(text, at)
        if found is None:
            yield math.nan
            return
        yield float(found[1]) * _UNIT_SECONDS[found[2]]
        at = found.end()


def _got(value: str) -> str:
    return f", got {value}" if len(value) <= 40 else ""


def _named(value: str) -> str:
    return f" called {value}" if len(value) <= 60 else " of that name"
