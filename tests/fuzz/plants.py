"""What a bomb is made of: texts, files that are none, and what is done to them while they are read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

GOOD = "version: 1\nchecks: {a: {type: icmp, host: 127.0.0.1}}\n"
HEAD = "version: 1\nchecks:\n"
Build: TypeAlias = Callable[[Path], Path]
"""Writes below a folder of its own, and says what of it is to be loaded."""


def text(content: str | bytes) -> Build:
    def build(folder: Path) -> Path:
        (folder / "checks.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
        return folder / "checks.yaml"

    return build


def linked(target: str) -> Build:
    def build(folder: Path) -> Path:
        (folder / "checks.yaml").symlink_to(target)
        return folder / "checks.yaml"

    return build


def check(fields: str) -> Build:
    return text(f"{HEAD}  a: {{{fields}}}\n")


def http(expect: str) -> Build:
    return check(f"type: http, url: 'http://127.0.0.1:9/', expect: {{{expect}}}")


def aliases(depth: int, shape: str) -> str:
    lines = [shape.format("a0", ", ".join(["x"] * 10))]
    lines += [shape.format(f"a{level}", ", ".join([f"*a{level - 1}"] * 10)) for level in range(1, depth)]
    return "version: 1\n" + "\n".join(lines)


def merges(depth: int) -> str:
    lines = ["version: 1", "a0: &a0 {" + ", ".join(f"k{number}: 1" for number in range(10)) + "}"]
    lines += [
        f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, depth)
    ]
    return "\n".join(lines)


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "checks.yaml")
    return folder


def listening(folder: Path) -> Path:
    with closing(socket.socket(socket.AF_UNIX)) as bound:
        here = Path.cwd()
        os.chdir(folder)  # the path of a socket is short
        bound.bind("checks.yaml")
        os.chdir(here)
    return folder / "checks.yaml"


def loops(folder: Path) -> Path:
    (folder / "checks.yaml").write_text(GOOD)
    for name in ("again", "b", "c"):
        (folder / name).symlink_to(folder)
    (folder / "deep").mkdir()
    (folder / "deep/up").symlink_to("..")
    return folder


def unreadable(folder: Path) -> Path:
    path = text(GOOD)(folder)
    path.chmod(0)
    return path


def deep_folders(folder: Path) -> Path:
    here = Path.cwd()
    os.chdir(folder)
    for _ in range(120):
        os.mkdir("d" * 30)
        os.chdir("d" * 30)
    Path("checks.yaml").write_text(GOOD)
    os.chdir(here)
    (folder / "top.yaml").write_text("version: 1\nlimits: {}\n")
    return folder


def many_files(folder: Path) -> Path:
    for number in range(3000):
        (folder / f"{number}.yaml").write_text("version: 2\nchecks: {}\n")
    return folder


def names(folder: Path) -> Path:
    for name in (
        b"\xff\xfe.yaml",
        b"a\nb: 1:1.yaml",
        b"\x1b[31m.yaml",
        "\u202e.yaml".encode(),
        b"-.yaml",
        b" .yaml",
    ):
        (folder / os.fsdecode(name)).write_bytes(b"version: 1\nchecks: {a: {type: tcp, host: h}}\n")
    return folder


def pipe_beside(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return check("type: heartbeat, every: 1d, token: '${file:pipe}'")(folder)


def named_as_a_file(folder: Path) -> Path:
    (folder / "x.yaml").mkdir()
    return folder


def sizes(folder: Path) -> Path:
    for number in range(6):
        (folder / f"{number}.yaml").write_bytes(GOOD.replace("a:", f"a{number}:").encode() + b"#" * 9_000_000)
    return folder


def sparse(folder: Path) -> Path:
    with (folder / "checks.yaml").open("wb") as file:
        file.truncate(1 << 40)
    return folder


def config_map(folder: Path) -> Path:
    for generation in ("..1", "..2"):
        (folder / generation).mkdir()
        (folder / generation / "checks.yaml").write_text(GOOD)
    (folder / "..data").symlink_to("..1")
    (folder / "checks.yaml").symlink_to("..data/checks.yaml")
    return folder


def swap(folder: Path, number: int) -> None:
    link = folder / "..new"
    link.symlink_to(f"..{number % 2 + 1}")
    link.replace(folder / "..data")


def vanish(path: Path, number: int) -> None:
    path.unlink() if number % 2 else path.write_text(GOOD)


def grow(path: Path, number: int) -> None:
    path.write_text(GOOD * (number % 50))


def become(path: Path, number: int) -> None:
    """A file, a pipe, a folder and a link in turn."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    match number % 4:
        case 0:
            path.write_text(GOOD)
        case 1:
            os.mkfifo(path)
        case 2:
            path.mkdir()
        case _:
            path.symlink_to("/dev/zero")


def named_schema(number: int, schema: str) -> Build:
    def build(folder: Path) -> Path:
        (folder / "large.json").write_text(schema)
        lines = (
            f"  c{n}: {{type: http, url: 'http://127.0.0.1:9/', expect: {{json_schema: large.json}}}}\n"
            for n in range(number)
        )
        return text(HEAD + "".join(lines))(folder)

    return build


def certificate(folder: Path) -> Path:
    (folder / "large.pem").write_bytes(b"x" * (4 << 20))
    return text(
        HEAD + "".join(f"  c{n}: {{type: tls, host: h, tls: {{ca_file: large.pem}}}}\n" for n in range(9000))
    )(folder)


def flow(number: int) -> str:
    return ", ".join(map(str, range(number)))


def patterns(number: int, pattern: str) -> str:
    return ", ".join(f'"{pattern}{index}"' for index in range(number))
