"""Mutations of YAML text: bytes, lines, indentation, quotes, tags, anchors, merge keys, encodings."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

SNIPPETS: tuple[bytes, ...] = tuple(
    snippet.encode("utf-8", "surrogatepass")
    for snippet in (
        *"[]{}:,-?!&*|>'\"%@`#\n\t ~\\", "<<: *a\n", "&a ", "*a", "*b ", "${", "${HOST}", "$$", "!!int ", "!!binary ", "!!python/object/apply:os.system ", "!!set ", "!<x> ", "!!str ", "!!null ", "!!float ",
        "---\n", "...\n", "%YAML 1.1\n", "%TAG ! tag:x,2000:\n", "? ", "- ", "0o17", "0x1F", "1e999", ".inf", ".nan", "2026-13-45", "9" * 5000, "12:30:45", "|2\n", ">-\n", "\u2028", "\x85", "\ufeff",
        "\ud800", '"\\ud800"', '"\\x00"', '"\\U0010FFFF"', "\x00", "\x1b[2J", "\U0001f600", "\u202e", "\ufffe", "\r", "\r\n", " " * 200, "[" * 120, "- " * 120, "version: 1\n", "checks:\n", "<<: [*a, *a]\n", "=: x\n",
    )
)  # fmt: skip


def mutate(content: bytes, chance: Random) -> bytes:
    return chance.choice(MUTATIONS)(content, chance)


def _at(content: bytes, chance: Random) -> int:
    return chance.randrange(len(content) + 1)


def _flip(content: bytes, chance: Random) -> bytes:
    at = _at(content, chance)
    return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]


def _insert(content: bytes, chance: Random) -> bytes:
    at = _at(content, chance)
    return content[:at] + chance.choice(SNIPPETS) + content[at:]


def _insert_at_value(content: bytes, chance: Random) -> bytes:
    places = [found.end() for found in re.finditer(rb": |- ", content)]
    at = chance.choice(places or [0])
    return content[:at] + chance.choice(SNIPPETS) + content[at:]


def _cut(content: bytes, chance: Random) -> bytes:
    first, last = sorted((_at(content, chance), _at(content, chance)))
    return content[:first] + content[min(last, first + chance.choice((1, 3, 30, 3000))) :]


def _truncate(content: bytes, chance: Random) -> bytes:
    return content[: _at(content, chance)]


def _repeat(content: bytes, chance: Random) -> bytes:
    first, last = sorted((_at(content, chance), _at(content, chance)))
    return content[:last] + content[first:last] * chance.choice((1, 1, 2, 20)) + content[last:]


def _lines(change: Callable[[list[bytes], int, Random], None]) -> Callable[[bytes, Random], bytes]:
    def mutation(content: bytes, chance: Random) -> bytes:
        lines = content.split(b"\n")
        change(lines, chance.randrange(len(lines)), chance)
        return b"\n".join(lines)

    return mutation


def _indent(lines: list[bytes], at: int, chance: Random) -> None:
    lines[at] = chance.choice(
        (
            b" " + lines[at],
            b"  " + lines[at],
            b"\t" + lines[at],
            lines[at][1:],
            lines[at].lstrip(),
            b" " * 40 + lines[at],
        )
    )


def _again(lines: list[bytes], at: int, chance: Random) -> None:
    lines.insert(chance.choice((at, chance.randrange(len(lines)))), lines[at])


def _away(lines: list[bytes], at: int, _: Random) -> None:
    del lines[at]


def _moved(lines: list[bytes], at: int, chance: Random) -> None:
    line = lines.pop(at)
    lines.insert(chance.randrange(len(lines) + 1), line)


def _merged(lines: list[bytes], at: int, chance: Random) -> None:
    """An anchor on one value, and an alias or a merge of it below."""
    key, colon, rest = lines[at].partition(b":")
    if colon:
        lines[at] = key + b": &a" + rest
        below = chance.randrange(at, len(lines)) + 1
        near = lines[below - 1]
        indent = near[: len(near) - len(near.lstrip())]
        lines.insert(
            below,
            indent
            + chance.choice((b"<<: *a", b"again: *a", b"- *a", b"<<: [*a, *a]", b"*a : *a", b"<<: {}")),
        )


def _quoted(lines: list[bytes], at: int, chance: Random) -> None:
    key, colon, rest = lines[at].partition(b": ")
    if colon:
        lines[at] = (
            key
            + colon
            + chance.choice(
                (
                    b'"%s"',
                    b"'%s'",
                    b'"%s',
                    b"|\n      %s",
                    b">\n%s",
                    b"[%s]",
                    b"{%s}",
                    b"{a: %s}",
                    b"!!str %s",
                    b"!!int %s",
                    b"! %s",
                    b"? %s",
                )
            )
            % rest.strip()
        )


def _encoded(content: bytes, chance: Random) -> bytes:
    text = content.decode("utf-8", "replace")
    encoding = chance.choice(
        ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7", "utf-8-sig", "shift-jis")
    )
    return text.encode(encoding, "replace")


def _line_ends(content: bytes, chance: Random) -> bytes:
    return content.replace(
        b"\n", chance.choice((b"\r\n", b"\r", b"\n\n", b"\xe2\x80\xa8", b"\xc2\x85", b" "))
    )


MUTATIONS: tuple[Callable[[bytes, Random], bytes], ...] = (
    _flip, _insert, _insert, _insert_at_value, _insert_at_value, _cut, _truncate, _repeat, _lines(_indent), _lines(_indent), _lines(_again), _lines(_again), _lines(_away),
    _lines(_moved), _lines(_merged), _lines(_merged), _lines(_quoted), _lines(_quoted), _encoded, _line_ends,
)  # fmt: skip
