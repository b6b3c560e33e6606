"""What only adapters may touch, held by walking the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "watchbill"
FORBIDDEN_MODULES = frozenset(
    {
        "asyncio", "uvloop", "threading", "multiprocessing", "concurrent", "socket", "ssl", "select", "selectors",
        "subprocess", "time", "random", "uuid", "secrets", "pathlib", "shutil", "tempfile", "glob",
        "anyio.to_thread", "anyio.to_process", "anyio.from_thread",
    }
)  # fmt: skip
FORBIDDEN_ANYIO = frozenset(
    {
        "connect_tcp", "connect_unix", "create_tcp_listener", "create_udp_socket", "create_connected_udp_socket",
        "open_file", "open_process", "run_process", "open_signal_receiver", "current_time", "getaddrinfo",
        "to_thread", "to_process", "from_thread", "Path", "run",
    }
)  # fmt: skip
FORBIDDEN_CALLS = frozenset({"open", "eval", "exec", "compile", "__import__", "input"})
ADAPTERS = {
    "net/": "the network",
    "config/": "reads files, off the loop",
    "storage/duckdb": "the disk, on one thread",
    "web/server.py": "sockets and uvicorn",
    "cli/": "another process",
    "client.py": "another process",
    "serve.py": "brings the real ports",
    "workers/": "processes of our own",
    "heap.py": "the collector of this process",
    "systemd.py": "talks to the service manager",
    "library.py": "brings the real ports",
    "log.py": "one thread, so that stderr blocks nothing",
    "testing.py": "anyio.current_time, to follow a virtual clock",
}
ASYNCIO_HOMES = ("net/", "web/server.py", "storage/postgres.py", "serve.py")


def modules() -> list[str]:
    return sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def offences(tree: ast.AST) -> list[str]:
    names = imported(tree)
    found = [name for name in names if name in FORBIDDEN_MODULES or name.split(".")[0] in FORBIDDEN_MODULES]
    found += [
        name for name in names if name.removeprefix("anyio.") in FORBIDDEN_ANYIO and name.startswith("anyio.")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "anyio" and node.attr in FORBIDDEN_ANYIO:
                found.append(f"anyio.{node.attr}")
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS
        ):
            found.append(f"{node.func.id}()")
    return sorted(set(found))


@pytest.mark.parametrize("module", modules())
def test_only_adapters_touch_the_outside(module: str) -> None:
    tree = ast.parse((SOURCE / module).read_text())
    if not module.startswith(tuple(ADAPTERS)):
        assert offences(tree) == []
    if not module.startswith(ASYNCIO_HOMES):
        assert not {name for name in imported(tree) if name.split(".")[0] in {"asyncio", "uvloop"}}


def test_the_rule_sees_what_it_forbids() -> None:
    text = "import time, anyio\nfrom anyio import to_thread\nfrom socket import socket\nopen('x'); anyio.current_time()"
    assert offences(ast.parse(text)) == [
        "anyio.current_time", "anyio.to_thread", "open()", "socket", "socket.socket", "time",
    ]  # fmt: skip


def test_every_adapter_named_here_exists() -> None:
    present = modules()
    unused = [name for name in ADAPTERS if not any(module.startswith(name) for module in present)]
    assert unused == []


def test_nothing_unsafe_is_called() -> None:
    for module in modules():
        tree = ast.parse((SOURCE / module).read_text())
        names = imported(tree)
        if module == "workers/frames.py":
            names -= {"pickle"}  # over pipes to processes that we started ourselves
        assert not {"pickle", "marshal", "shelve", "telnetlib"} & {name.split(".")[0] for name in names}, (
            module
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                pytest.fail(f"{module}:{node.value.lineno}: shell=")
