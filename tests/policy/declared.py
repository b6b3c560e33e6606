"""A configuration with a canary in every place that can hold a secret, in every way in which one gets there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.policy.canaries import MARK, PLANTED, Canary, canary
from tests.policy.fields import Leaf, leaves
from watchbill.domain.checks import CHECK_TYPES

PLANTED_ID = f"planted-{MARK}{PLANTED:03}".lower()
NO_PLACE: Mapping[str, str] = {
    "service": "refused: it is a label",
    "description": "refused: pages show it",
    "labels.*": "refused: they are labels",
    "source_address": "an address, judged as a whole",
    "resolver": "an address, judged as a whole",
    "method": "a word, which is a fact of every result",
    "tls.cert_file": "as ca_file",
    "tls.key_file": "as ca_file",
    "proxy.ca_file": "as ca_file",
    "expect.status.*": "a closed form",
    "expect.json_schema.source": "the path of a file, whose text is the document",
}
"""Text in which no secret can stand -> why."""
IN_URL = ("{home}?q={value}", "{home}{value}/", "{home}#{value}")
TEMPLATES: Mapping[str, str] = {
    "host": "{value}.test",
    "name": "{value}.test",
    "server": "{value}.test",
    "tls.server_name": "{value}.test",
    "proxy.url": "http://{value}.test:3128",
    "tls.ca_file": "{value}.pem",
    "unix_socket": "{folder}/{value}.sock",
}
"""How a text has to look around a secret; elsewhere the secret is all."""
SMOOTH = (*TEMPLATES, "url")
"""Where only letters and digits fit."""
MANNERS = ("page", "redirect", "astray", "garbage", "json", "codings", "certificate")
"""In which an HTTP target gives it back."""


@dataclass(frozen=True)
class Case:
    """One canary in one place. ``manner`` is how the target echoes it, ``shown`` says where it stands."""

    canary: Canary
    value: str
    check: str
    shown: str
    manner: str
    declared: dict[str, Any]

    @property
    def smooth(self) -> bool:
        """Whether it is letters and digits alone."""
        return self.value == self.canary.core


@dataclass
class World:
    """What the configuration needs around it."""

    folder: Path
    port: Callable[[], int]
    """A port of loopback for the target of the next case."""
    randomness: random.Random
    environ: dict[str, str] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    ports: dict[int, Case] = field(default_factory=dict)
    resolver: int = 0


def declare(world: World) -> dict[str, Any]:
    """The configuration; what targets have to know stands in ``world`` then."""
    for model in CHECK_TYPES:
        for leaf in leaves(model):
            for way in _ways(leaf):
                _case(world, model.__name__.lower(), leaf, way)
    for path in ("url", "proxy", "proxy.url"):
        for way in ("literal", "token", "plain", "file"):
            _userinfo(world, path, way)
    checks = {case.check: case.declared for case in world.cases}
    planted = {
        "type": "tcp",
        "host": "127.0.0.1",
        "port": world.port(),
        "interval": "1s",
        "timeout": "1s",
        "labels": {"planted": f"{MARK}{PLANTED:03}"},
    }
    world.environ["LC_PLANTED"] = f"{MARK}{PLANTED:03}"  # workers get it
    large = {
        "type": "http",
        "url": f"http://127.0.0.1:{world.port()}/",
        "expect": {"json": {"$[0]": 1}},
        "timeout": "60s",
        "description": "Too large for the event loop, so that a worker judges it",
    }
    defaults = {"timeout": "2s", "interval": "1h"}
    return {"version": 1, "defaults": defaults, "checks": {PLANTED_ID: planted, "large": large, **checks}}


def _ways(leaf: Leaf) -> Iterator[str]:
    if leaf.secret:
        yield from ("literal", "token", "plain", "file", "default")
    elif leaf.type is str and leaf.path not in NO_PLACE:
        yield from ("token", "file", "secret default")


def _case(world: World, kind: str, leaf: Leaf, way: str) -> None:
    templates = IN_URL if leaf.path == "url" else (TEMPLATES.get(leaf.path, "{value}"),)
    for template in templates:
        own = _next(world)
        value = own.core if leaf.path in SMOOTH else own.rough
        reference = _reference(world, way, own, value)
        port = world.port()
        declared = _minimal(kind, leaf.path, port, world)
        home = f"http://127.0.0.1:{port}/"
        text = template.format(value=reference, home=home, folder=world.folder)
        if leaf.path == "tls.ca_file":
            (world.folder / f"{own.core}.pem").write_text("no certificate")
        _put(declared, leaf.path, text)
        if (
            way == "literal" and "headers" in declared
        ):  # what is written openly under any other name may be repeated
            declared["headers"] = {"X-Canary-Key": text}
        _keep(world, port, own, value, f"{kind} {leaf.path} by {way}", declared)


def _userinfo(world: World, path: str, way: str) -> None:
    own = _next(world)
    value = own.core if way == "literal" else own.rough
    port = world.port()
    declared = _minimal("http", "", port, world)
    url = f"http://someone:{_reference(world, way, own, value)}@127.0.0.1:{port}"
    _put(declared, path, url)
    _keep(world, port, own, value, f"http {path} userinfo by {way}", declared)


def _next(world: World) -> Canary:
    return canary(len(world.cases) + 1, world.randomness)


def _keep(world: World, port: int, own: Canary, value: str, shown: str, declared: dict[str, Any]) -> None:
    manner = MANNERS[own.number % len(MANNERS)] if declared["type"] == "http" else "page"
    if (
        manner == "certificate"
        and declared["url"].startswith("http://127.0.0.1:")
        and "proxy" not in declared
    ):
        declared["url"] = declared["url"].replace("http://", "https://", 1)
    elif manner == "certificate":
        manner = "page"
    case = Case(own, value, f"c{own.number}", shown, manner, declared)
    world.cases.append(case)
    world.ports[port] = case


def _reference(world: World, way: str, own: Canary, value: str) -> str:
    match way:
        case "token" | "plain":
            name = f"CANARY_{own.number}_{way.upper()}" if way == "token" else f"CANARY_{own.number}"
            world.environ[name] = value
            return f"${{{name}}}"
        case "file":
            (world.folder / f"secret-{own.number}").write_text(value)
            return f"${{file:secret-{own.number}}}"
        case "default":
            return f"${{UNSET_{own.number}:-{value}}}"
        case "secret default":
            return f"${{UNSET_{own.number}_TOKEN:-{value}}}"
        case _:
            return value.replace("$", "$$")


def _minimal(kind: str, path: str, port: int, world: World) -> dict[str, Any]:
    """As little as makes that place valid, expecting what no target says, so that every message is made."""
    place: dict[str, Any] = {"host": "127.0.0.1", "port": port}
    resolver = {"resolver": f"127.0.0.1:{world.resolver}"}
    match kind:
        case "http":
            never = {
                "status": 299,
                "body": {"contains": "never"},
                "headers": {"x-echo": "never"},
                "json": {"$.a": "never"},
            }
            declared: dict[str, Any] = {"url": f"http://127.0.0.1:{port}/", "expect": never, **resolver}
            if path.startswith("auth.basic"):
                declared["auth"] = {"basic": {"username": "someone", "password": "something"}}
            elif path.startswith("proxy."):
                declared["proxy"] = {"url": f"http://127.0.0.1:{port}", "username": "someone"}
            elif path.startswith("tls."):
                declared["url"] = f"https://127.0.0.1:{port}/"
            elif path == "unix_socket":
                del declared["resolver"]
        case "tcp":
            never = {"response": {"contains": "never"}}
            declared = {"expect": never, **({} if path == "unix_socket" else {**place, **resolver})}
        case "tls":
            declared = {**place, **resolver}
        case "dns":
            declared = {
                "name": "shop.test",
                "server": f"127.0.0.1:{port}",
                "record": "TXT",
                "expect": {"rcode": "REFUSED"},
            }
            if path.startswith("tls."):
                declared |= {"transport": "tls"}
        case "icmp":
            declared = {"host": "127.0.0.1", **resolver}
        case _:
            declared = {"every": "1h"}
    return {"type": kind, **declared}


def _put(declared: dict[str, Any], path: str, value: str) -> None:
    """Where ``*`` is a key of the user's own, or the only item of a list."""
    names = path.split(".")
    if names[-1] == "*" and names[-2] not in ("headers", "json"):
        names = names[:-1]
    if path == "expect.json_schema.document":
        declared["expect"]["json_schema"] = {"const": value}
        return
    keys = {"headers": "X-Canary", "json": "$.canary"}
    holder: Any = declared
    for index, name in enumerate(names):
        key = keys[names[index - 1]] if name == "*" else name
        if index == len(names) - 1:
            holder[key] = value
        else:
            if not isinstance(holder.get(key), dict):
                holder[key] = {}
            holder = holder[key]
