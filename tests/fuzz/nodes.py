"""Mutations of a document's tree: keys and values deleted, doubled, swapped, retyped, misspelt, made extreme, made references."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from tests.fuzz.valid import TYPES, Documents, Tree, check

EXTREMES: tuple[Any, ...] = (
    0, -1, 1, 65536, 1 << 31, 1 << 63, 1 << 64, 10**30, 0.0, -0.0, 1e-320, 1e308, float("inf"), float("nan"), True, False, None, "",
    "0s", "-1s", "0.0000001s", "999999999999d", "1e3s", "3660d", "3661d", "٣s", "1 s", "1h1h", "500ms", "0x10", "1_000", "12:30:45", "2026-13-45",
    "a" * 201, "a" * 1001, "a" * 70_000, "é" * 255, ".", "..", "-", "~", "null", "yes", "=", "<<", "*", "&a", "!", "%", "@", "`", "\\", "/", "//", "[", "]",
    [], {}, [[]], [{}], {"": ""}, [None], {"a": {"a": {"a": {}}}}, [1, "a", None, True], list(range(500)), {"${HOST}": "${HOST}"},
)  # fmt: skip
ODD_TEXTS = (
    "\x1b[31mred", "a\x00b", "a\x7fb", "a\x85b", "\u2028", "\u202e\u2066", "\ufeff", "\ufffe", "\U0010ffff", "e\u0301", "ﬀ", "１２７.0.0.1", "İ", "ß", "\r\n", "\t",
    'a"b', "a\\", "a\nb", 'x"} 1\n# EOF\n', "{{7*7}}", "<script>", "%s%n", "$(id)", "';--", "../../etc/passwd", "/dev/zero", "con", "a" * 300, "\ud83d\ude00",
)  # fmt: skip
ADDRESSES = (
    "http://", "http:///x", "http://[", "http://[::1", "http://[::1]:x/", "http://h:0/", "http://h:65536/", "http://h:-1/", "http://h:99999999999/", "http://h:٣/",
    "http://user:canary-literal-9d2e@/", "http://:@h/", "http://a@b@c/", "http://h\\@c/", "http://h/\u2028", "http://xn--/", "http://xn--a/", "http://\u00ad.example/",
    "http://a..b/", "http://.../", "http://-a/", f"http://{'a.' * 200}b/", f"http://{'a' * 64}.example/", "http://ﬃ.example/", "http://١٢٧.0.0.1/",
    "http://[v1.x]/", "http://[::1%25eth0]/", "http://[fe80::1%eth0]/", "http://0x7f.1/", "http://127.1:80/", "http://h?@x", "http://h#@x", "ftp://h/", "javascript:1", "//h",
    "http://\u2024/", "http://h:80:90/", "http://[1.2.3.4]/", "http://[::ffff:1.2.3.4]/", "http://%00/", "http://%6c/", "http://h:\uff18\uff10/", "HTTPS://H/", "http://h:/", "http://h: 80/",
)  # fmt: skip
PATTERNS = (
    "(", "(?=a)", "\\1", "a{1001}", "((a{100}){100}){100}", "\\pL{500}", "(?i)" + "[a-z]" * 500, "[[:alpha:]]{900}", "(a*)*", "(?P<n>x)(?P<n>y)", "\\C", "x" * 4097, "(" * 1001 + ")" * 1001,
    "|" * 4000, "[" + "\\x{10FFFF}" * 300 + "]", ".{999}.{999}", "(?:(?:(?:a?){30}){30}){1}", "\\Q", "\\", "[z-a]", "(?i)ſ", "\\p{Greek}{300}",
)  # fmt: skip
REFERENCES = (
    "${HOST}", "${TOKEN}", "${API_PASSWORD}", "${REGION_KEY}", "${PATTERN}", "${BIDI}", "${NOT_TEXT}", "${EMPTY}", "${LONG}", "${NUMBER}", "${NOPE}", "${NOPE_SECRET}", "${EMPTY:-}", "${NOPE:-x}",
    "${NOPE:-${HOST}}", "${", "${}", "${ HOST }", "$", "$$", "$${HOST}", "$$${HOST}", "${HOST", "${each.region}", "${each.}", "${each.nope}", "${file:}", "${file:secret.txt}",
    "${file:binary.dat}", "${file:.}", "${file:/dev/zero}", "${file:/dev/tty}", "${file:/proc/self/mem}", "${file:nowhere}", "${file:../../../../../../etc/hostname}", "${file:\x00}",
    "${file:checks.yaml}", "${file:" + "a/" * 3000 + "}", "${a.b}", "${1A}", "${A:-\n}", "${A:-:-}", "$\u007bHOST}",
)  # fmt: skip
JSON_PATHS = (
    "$[", "$..*..*..*", "$" + "[0]" * 3000, "$[?" + "(" * 200, "$[?@.a=='" + "x" * 5000 + "']", "$[?search(@.a, '(a+)+$')]", "$[?match(@, @)]", "$[99999999999999999999]", "$['\\ud800']",
    "$[?" + "!" * 2000 + "@]", "$" + ".a" * 5000, "$[?" + " && ".join(["@.a"] * 1000) + "]", "x", "$ ", "$[?length(@)<1e400]", "$[1:2:0]", "$[?count(@..*)>1]",
)  # fmt: skip
SCHEMAS: tuple[Any, ...] = (
    {"$ref": "#"}, {"$ref": "http://127.0.0.1:9/x"}, {"$ref": "file:///etc/passwd"}, {"$ref": "schema.json"}, {"allOf": [{"$ref": "#"}]}, {"enum": list(range(3000))}, {"type": "nope"},
    {"pattern": "(a+)+$(?=x)"}, {"pattern": "(" * 500}, {"$schema": "http://x/"}, {"multipleOf": 0}, {"minLength": -1}, {"$ref": "#/definitions/" + "a" * 500}, True, [], "nowhere.json", ".", "binary.dat",
    {"definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}}, "$ref": "#/definitions/a"}, {"$id": "::", "$ref": "x"}, {"${TOKEN}": "${TOKEN}"}, {"const": "${API_PASSWORD}"},
    {"patternProperties": {"[": {}}}, {"$dynamicRef": "#x"}, {"format": "regex", "pattern": "\\pL{1000}"}, {"maxLength": 1e400},
)  # fmt: skip
SPECIAL: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("url", ADDRESSES), ("host", ADDRESSES), ("server", ADDRESSES), ("proxy", ADDRESSES), ("resolver", ADDRESSES), ("name", ODD_TEXTS), ("matches", PATTERNS),
    ("json", tuple({path: 1} for path in JSON_PATHS)), ("json_schema", SCHEMAS), ("labels", tuple({text: text} for text in ODD_TEXTS)),
    ("for_each", ({"a": []}, {"a": [{}]}, {"a": list(range(300)), "b": list(range(300))}, {"a": ["A b"]}, {"a": ["${TOKEN}"]}, {"a b": [1]}, {"a": ["x", "x"]}, {"a": [1.0, 1]}, {"a": ["${each.a}"]}, [])),
    ("moved", ({"a": "a"}, {"a": "b", "b": "a"}, {"gone": "${HOST}"}, {"shop-home": "db"}, {"gone": None}, {"Ä": "db"})),
    ("relabel", ({"action": "keep", "regex": "("}, [{}], [{"target_label": "${1}", "replacement": "${TOKEN}"}], [{"action": "hashmod", "modulus": -1}], "x", [{"regex": PATTERNS[3]}] * 200)),
    ("file_sd", ({"files": []}, {"files": ["../../etc/*.json"]}, {"files": ["${TOKEN}.json"]}, {"files": ["\x00.json"]}, {"refresh": "0s"}, [])),
    ("body", ({"matches": PATTERNS[3]}, {"matches": list(PATTERNS)}, "${LONG}")),
)  # fmt: skip


class Spot(NamedTuple):
    """One key of a mapping, or one place in a list."""

    holder: Any
    at: Any

    @property
    def value(self) -> Any:
        return self.holder[self.at]


def mutate(documents: Documents, chance: Random) -> None:
    """Change one thing in one document, in place."""
    name = chance.choice(sorted(documents))
    spots = _spots(documents[name])
    if not spots:
        documents[name] = chance.choice((None, {}, [], "x", 1))
        return
    chance.choice(MUTATIONS)(chance.choice(spots), spots, chance)


def _spots(tree: Tree) -> list[Spot]:
    found: list[Spot] = []
    todo = [tree]
    while todo and len(found) < 3000:
        holder = todo.pop()
        places = (
            holder if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        )
        for at in places:
            found.append(Spot(holder, at))
            todo.append(holder[at])
    return found


def _delete(spot: Spot, _: list[Spot], __: Random) -> None:
    del spot.holder[spot.at]


def _copy(spot: Spot, spots: list[Spot], chance: Random) -> None:
    other = chance.choice(spots)
    other.holder[other.at] = copy.deepcopy(spot.value)


def _swap(spot: Spot, spots: list[Spot], chance: Random) -> None:
    other = chance.choice(spots)
    first, second = copy.deepcopy(spot.value), copy.deepcopy(other.value)
    spot.holder[spot.at] = second
    other.holder[other.at] = first


def _misspell(spot: Spot, _: list[Spot], chance: Random) -> None:
    if isinstance(spot.holder, dict) and isinstance(spot.at, str) and spot.at:
        at = chance.randrange(len(spot.at))
        letter = chance.choice(("", "x", spot.at[at] * 2, spot.at[at].upper(), "_"))
        spot.holder[spot.at[:at] + letter + spot.at[at + 1 :]] = spot.holder.pop(spot.at)


def _rename(spot: Spot, spots: list[Spot], chance: Random) -> None:
    if isinstance(spot.holder, dict):
        keys = [other.at for other in spots if isinstance(other.at, str)]
        spot.holder[
            chance.choice((chance.choice(keys or ["x"]), chance.choice(ODD_TEXTS), 1, None, True, 1.5))
        ] = spot.holder.pop(spot.at)


def _extreme(spot: Spot, _: list[Spot], chance: Random) -> None:
    spot.holder[spot.at] = copy.deepcopy(chance.choice(EXTREMES))


def _odd(spot: Spot, _: list[Spot], chance: Random) -> None:
    odd = chance.choice(ODD_TEXTS)
    value = spot.value
    spot.holder[spot.at] = chance.choice((odd, value + odd, odd + value)) if isinstance(value, str) else odd


def _reference(spot: Spot, _: list[Spot], chance: Random) -> None:
    made, value = chance.choice(REFERENCES), spot.value
    if isinstance(value, str):
        made = chance.choice((made, f"{value}{made}", f"{made}{value}", f"${{NOPE:-{value}}}"))
    spot.holder[spot.at] = made


def _retype(spot: Spot, _: list[Spot], chance: Random) -> None:
    value = spot.value
    forms: list[Any] = [str(value), [value], {"x": value}, None]
    if isinstance(value, dict):
        forms += [list(value.items()), list(value), list(value.values())]
    spot.holder[spot.at] = copy.deepcopy(chance.choice(forms))


def _special(spot: Spot, spots: list[Spot], chance: Random) -> None:
    """What is worst for a key of that name; made where there is none."""
    name, values = chance.choice(SPECIAL)
    here = [other for other in spots if other.at == name] or [spot]
    chosen = chance.choice(here)
    worst = copy.deepcopy(chance.choice(values))
    if chosen.at == name or not isinstance(chosen.value, dict):
        chosen.holder[chosen.at] = worst
    else:
        chosen.value[name] = worst


def _another_check(spot: Spot, spots: list[Spot], chance: Random) -> None:
    """Where checks are told apart by type, the fields of two types in one."""
    typed = [other for other in spots if isinstance(other.value, dict) and "type" in other.value]
    chosen = chance.choice(typed or [spot])
    if isinstance(chosen.value, dict):
        chosen.value.update(check(chance))
        chosen.value["type"] = chance.choice(TYPES)


Mutation = Callable[[Spot, list[Spot], Random], None]
MUTATIONS: tuple[Mutation, ...] = (
    _delete, _copy, _swap, _misspell, _misspell, _rename, _extreme, _extreme, _odd, _reference, _reference, _retype, _special, _special, _special, _another_check,
)  # fmt: skip
