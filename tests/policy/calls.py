"""What the sources may call and import, held by walking their syntax trees.

Three rules: nothing unsafe anywhere; the outside (sockets, files, clocks, threads, randomness) in adapters alone; each
library in its own home.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.proof import Claim

SOURCE = Path(__file__).parents[2] / "src" / "watchbill"
OUTSIDE = frozenset(
    {
        "asyncio", "uvloop", "threading", "multiprocessing", "concurrent", "socket", "ssl", "select", "selectors",
        "subprocess", "time", "random", "uuid", "secrets", "pathlib", "shutil", "tempfile", "glob",
        "anyio.to_thread", "anyio.to_process", "anyio.from_thread",
    }
)  # fmt: skip
OUTSIDE_OF_ANYIO = frozenset(
    {
        "connect_tcp", "connect_unix", "create_tcp_listener", "create_udp_socket", "create_connected_udp_socket",
        "open_file", "open_process", "run_process", "open_signal_receiver", "current_time", "getaddrinfo",
        "to_thread", "to_process", "from_thread", "Path", "run",
    }
)  # fmt: skip
ADAPTERS = {
    "net/": "the network",
    "config/": "reads files, off the loop",
    "storage/duckdb": "the disk, on one thread",
    "web/server.py": "sockets and uvicorn",
    "web/addresses.py": "listening sockets",
    "web/backseat.py": "one thread for passwords",
    "web/encrypted.py": "a transport of the server's",
    "cli/": "another process",
    "client.py": "another process",
    "serve.py": "brings the real ports",
    "workers/": "processes of our own",
    "heap.py": "the collector of this process",
    "hugepages.py": "the memory of this process",
    "systemd.py": "talks to the service manager",
    "library.py": "brings the real ports",
    "log.py": "one thread, so that stderr blocks nothing",
    "testing.py": "anyio.current_time, to follow a virtual clock",
}
HOMES: Mapping[str, tuple[str, ...]] = {
    "asyncio": (
        "net/",
        "web/server.py",
        "web/encrypted.py",
        "web/backseat.py",
        "storage/postgres.py",
        "serve.py",
    ),
    "uvloop": ("serve.py",),
    "socket": ("net/", "web/addresses.py", "web/server.py", "serve.py", "systemd.py", "workers/process.py"),
    "ssl": ("net/", "client.py", "cli/exporter.py"),
    "OpenSSL": ("net/", "web/tls.py", "web/encrypted.py"),
    "cryptography": ("net/", "web/tls.py"),
    "bcrypt": ("web/passwords.py",),
    "service_identity": ("net/",),
    "subprocess": ("workers/process.py",),
    "multiprocessing": (),
    "threading": ("log.py", "web/backseat.py"),
    "concurrent": (),
    "pickle": ("workers/frames.py",),
    "secrets": ("cli/outside.py", "net/icmp.py", "storage/"),
    "random": (),
    "uuid": (),
    "tempfile": (),
    "duckdb": ("storage/",),
    "yaml": ("config/nodes.py", "discovery/formats.py", "generate/"),
    "opentelemetry": ("otlp/",),
    "google": ("otlp/",),
    "fastapi": ("web/",),
    "starlette": ("web/",),
    "uvicorn": ("web/server.py",),
    "click": ("cli/",),
    "httptools": ("probes/answer.py",),
    "h2": ("probes/http2.py",),
    "httpx2": ("probes/", "client.py", "net/http.py"),
    "httpcore2": ("net/http.py",),
    "brotli": ("probes/decoding.py",),
    "backports": ("probes/decoding.py",),
    "compression": ("probes/decoding.py",),
    "prometheus_client": ("metrics/own.py",),
    "ctypes": ("hugepages.py",),
    "re2": ("domain/rules.py", "cli/alike.py", "cli/asking.py", "generate/world.py"),
    "jsonpath_rfc9535": ("domain/json_rules.py",),
    "jsonschema_rs": ("domain/json_rules.py",),
    "dns": (
        "dnsquery.py",
        "dnsrecords.py",
        "net/nameservers.py",
        "net/resolver.py",
        "net/witnesses.py",
        "probes/",
    ),
    "xml": ("cli/junit.py",),
    "urllib.request": (),
    "http.client": (),
}
"""Who may import what; an empty tuple: nobody."""
UNSAFE_MODULES = frozenset(
    {"marshal", "shelve", "dill", "cloudpickle", "telnetlib", "ftplib", "pty", "code", "codeop", "runpy", "imp",
     "requests", "httpx", "aiohttp", "jinja2", "mako"}
)  # fmt: skip
UNSAFE_CALLS = frozenset({"eval", "exec", "compile", "__import__", "input", "breakpoint"})
UNSAFE_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "os": frozenset(
        {"system", "popen", "execv", "execve", "execl", "execvp", "execvpe", "spawnv", "spawnl", "spawnvp", "fork", "forkpty",
         "posix_spawn"}
    ),
    "yaml": frozenset({"load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all", "UnsafeLoader", "FullLoader", "Loader", "CLoader"}),
    "tempfile": frozenset({"mktemp"}),
    "ssl": frozenset({"_create_unverified_context", "CERT_NONE", "PROTOCOL_SSLv23"}),
    "hashlib": frozenset({"md5", "sha1", "new"}),
    "logging": frozenset({"basicConfig"}),
    "asyncio": frozenset({"create_subprocess_shell"}),
    "sys": frozenset({"settrace", "setprofile"}),
}  # fmt: skip
UNSAFE_KEYWORDS: Mapping[str, object] = {
    "shell": None,
    "verify": False,
    "trust_env": True,
    "usedforsecurity": False,
}
"""Keyword -> the value that must not be passed; ``None``: none at all."""
EVERYWHERE = frozenset({"0.0.0.0", "::"})
ALLOWED: Mapping[tuple[str, str], str] = {
    ("net/icmpsockets.py", "0.0.0.0"): "an ICMP socket is bound to get an identifier; nothing listens",
    ("net/icmpsockets.py", "::"): "the same for IPv6",
    ("web/addresses.py", "0.0.0.0"): "what `--listen :9876` asks for, where there is no IPv6",
    ("web/addresses.py", "0.0.0.0:"): "the same",
    ("cli/exporter.py", "ssl.CERT_NONE"): "what `insecure_skip_verify` asks for, by its own name",
    ("web/addresses.py", "::"): "what `--listen :9876` asks for",
    ("domain/relabelling.py", "hashlib.md5"): "what Prometheus' hashmod is; it keeps nothing safe",
    ("domain/relabelling.py", "usedforsecurity=False"): "says so",
    (
        "storage/duckdb_schema.py",
        "assert",
    ): "our own SQL files are numbered without a gap, which the tests load",
}
"""(module, what) -> why it may be there."""


class Offence(NamedTuple):
    module: str
    line: int
    what: str
    rule: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.what} ({self.rule})"


def prove(folder: Path, *, full: bool) -> list[Claim]:
    trees = sources()
    found = [offence for module, tree in trees.items() for offence in offences(module, tree)]
    nodes = sum(1 for tree in trees.values() for _ in ast.walk(tree))
    unused = [f"{module}: {what} is allowed, and not there" for module, what in unneeded(trees)]
    problems = [*map(str, found), *unused]
    return [
        Claim(
            "Nothing unsafe is called, the outside is touched by adapters alone, each library has its home",
            f"{len(trees)} modules, {nodes:,} nodes of their syntax trees, {len(HOMES)} homes",
            "\n".join([f"{len(problems)} offences", *problems]),
            "0 offences",
            holds=len(trees) > 100 and not problems,
        )
    ]


def sources() -> dict[str, ast.Module]:
    return {
        str(path.relative_to(SOURCE)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
    }


def offences(module: str, tree: ast.AST) -> list[Offence]:
    """What is there and must not be, in the order of the lines."""
    found = [offence for offence in _all(module, tree) if (module, offence.what) not in ALLOWED]
    return sorted(set(found), key=lambda offence: (offence.line, offence.what))


def unneeded(trees: Mapping[str, ast.AST]) -> list[tuple[str, str]]:
    present = {(module, offence.what) for module, tree in trees.items() for offence in _all(module, tree)}
    return [each for each in ALLOWED if each not in present]


def _all(module: str, tree: ast.AST) -> Iterator[Offence]:
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for name in _imported(node):
            yield from (Offence(module, line, name, rule) for rule in _import_rules(module, name))
        for what, rule in _unsafe(node):
            yield Offence(module, line, what, rule)
        if not module.startswith(tuple(ADAPTERS)):
            for what in _outside(node):
                yield Offence(module, line, what, "only adapters touch the outside")


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _import_rules(module: str, name: str) -> Iterator[str]:
    root = name.partition(".")[0]
    if root in UNSAFE_MODULES:
        yield "nobody imports that"
    for library, homes in HOMES.items():
        if (name == library or name.startswith(f"{library}.")) and not module.startswith(homes):
            yield f"{library} is at home in {', '.join(homes) or 'no module'}"
    if not module.startswith(tuple(ADAPTERS)) and (
        name in OUTSIDE or root in OUTSIDE or _of_anyio(name) in OUTSIDE_OF_ANYIO
    ):
        yield "only adapters touch the outside"


def _of_anyio(name: str) -> str:
    return name.removeprefix("anyio.") if name.startswith("anyio.") else ""


def _outside(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(value=ast.Name(id="anyio"), attr=attribute) if attribute in OUTSIDE_OF_ANYIO:
            yield f"anyio.{attribute}"
        case ast.Call(func=ast.Name(id="open")):
            yield "open()"


def _unsafe(node: ast.AST) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in UNSAFE_CALLS:
            yield f"{name}()", "nobody calls that"
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in UNSAFE_ATTRIBUTES.get(owner, ()):
            yield f"{owner}.{name}", "nobody uses that"
        case ast.ImportFrom(module=str(owner), names=names):
            for alias in names:
                if alias.name in UNSAFE_ATTRIBUTES.get(owner, ()):
                    yield f"{owner}.{alias.name}", "nobody uses that"
        case ast.keyword(arg=str(name), value=value) if name in UNSAFE_KEYWORDS:
            unwanted = UNSAFE_KEYWORDS[name]
            if unwanted is None or (isinstance(value, ast.Constant) and value.value is unwanted):
                yield f"{name}={ast.unparse(value)}", "nobody passes that"
        case ast.Assert(test=test) if not _narrows(test):
            yield "assert", "an assert tells a type, and decides nothing: python -O leaves it out"
        case ast.Constant(value=str(text)) if text in EVERYWHERE or text.startswith("0.0.0.0:"):
            yield text, "nothing listens everywhere unasked"
    if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func) == "yaml.load"):  # fmt: skip
        yield "yaml.load", "nobody calls that"


def _narrows(test: ast.expr) -> bool:
    match test:
        case ast.Call(func=ast.Name(id="isinstance")):
            return True
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
    return False
