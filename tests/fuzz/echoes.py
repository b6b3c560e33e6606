"""What targets say and what people declare, wherever it is shown: pages, metrics, the API and the log.

Beside every check that meets a hostile text stands one of the same kind that meets a harmless one. However they
differ in words, their rows on the page must have the same elements and attributes, and as many series.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from shutil import which
from typing import Any

import yaml
from cryptography import x509
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.dns_server import DnsServer, dns_server, records
from tests.exporter import Exporter, exporter
from tests.fuzz.corpus import corpus
from tests.proof import Claim
from tests.servers import LOOPBACK, Authority, Caller, Conversation, Issued, path_of, serving, shake_hands
from watchbill.web.page import ROWS

HARMLESS = "harmless"
KINDS = ("body", "header", "place", "banner", "txt", "alias", "label")
CERTIFICATES = 12
Declared = dict[str, Any]
SELDOM = "3000d"
"""So that each check is probed once, when it is registered, and has no slot meanwhile."""
NEVER = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
NAMES = re.compile(r"(watchbill|probe|process|python)_[a-z0-9_]+")
TAGS = set(
    "html head meta title style body header h1 h2 ul li b main nav a div table thead tbody tr th td span small bdi p footer".split()
)
LINKS = ("/", "https://", "http://")


# --- targets ------------------------------------------------------------------------------------------


@asynccontextmanager
async def targets(texts: Sequence[str], folder: Path) -> AsyncIterator[dict[str, Declared]]:
    """Servers that say these texts in every place a check looks at; the checks that look, by id."""

    async def answer(caller: Caller) -> None:
        _, kind, number = path_of(await caller.request()).split("/")
        said = texts[int(number)].encode()
        line = said.replace(b"\r", b" ").replace(b"\n", b" ").replace(b"\0", b" ")
        status = b"302 Found\r\nLocation: ftp://" + line if kind == "place" else b"200 OK"
        body = said if kind == "body" else b"ok"
        head = b"HTTP/1.1 %s\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n"
        await caller.say(head % (status, line if kind == "header" else b"x", len(body)) + body)

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(serving(answer))
        names = await stack.enter_async_context(dns_server())
        checks: dict[str, Declared] = {}
        for number, text in enumerate(texts):
            banner = await stack.enter_async_context(serving(_greeting(text)))
            _script(names, number, text)
            checks |= _checks(number, text, http.url("").rstrip("/"), banner.port, names.port)
        for number, port in enumerate(await _certified(stack, texts, folder)):
            checks[f"cert-{number}"] = {"type": "tls", "host": LOOPBACK, "port": port}
        yield checks


def _greeting(text: str) -> Conversation:
    async def greet(caller: Caller) -> None:
        await caller.say(text.encode() + b"\n")

    return greet


def _script(names: DnsServer, number: int, text: str) -> None:
    said = text.encode()
    names.scripts[f"t{number}.test", "TXT"] = records("TXT", f'"{_escaped(said[:200])}"')
    alias = _escaped(said[:60]) or "x"
    names.scripts[f"a{number}.test", "A"] = records(
        "A", "127.0.0.1", cnames=[(f"a{number}.test", f"{alias}.test")]
    )


def _escaped(data: bytes) -> str:
    """As zone files write it (RFC 1035 §5.1)."""
    return "".join(f"\\{byte:03d}" for byte in data)


def _checks(number: int, text: str, http: str, banner: int, names: int) -> dict[str, Declared]:
    server = f"{LOOPBACK}:{names}"
    nothing = {"equals": "nothing"}
    return {
        f"body-{number}": {"type": "http", "url": f"{http}/body/{number}", "expect": {"body": nothing}},
        f"header-{number}": {"type": "http", "url": f"{http}/header/{number}", "expect": {"headers": {"x-echo": nothing}}},
        f"place-{number}": {"type": "http", "url": f"{http}/place/{number}"},
        f"banner-{number}": {"type": "tcp", "host": LOOPBACK, "port": banner, "expect": {"response": nothing}},
        f"txt-{number}": {"type": "dns", "name": f"t{number}.test", "record": "TXT", "server": server, "expect": {"answers": {"any": nothing}}},
        f"alias-{number}": {"type": "dns", "name": f"a{number}.test", "server": server, "expect": {"answers": {"any": nothing}}},
        f"label-{number}": {"type": "tcp", "host": LOOPBACK, "port": 1, "service": f"s{number}", "description": _written(text), "labels": {"said": _written(text)}},
    }  # fmt: skip


async def _certified(stack: AsyncExitStack, texts: Sequence[str], folder: Path) -> list[int]:
    """The harmless text first; then as many as a certificate takes."""
    authority, ports = Authority(folder), list[int]()
    for text in texts:
        try:
            issued = authority.issue(x509.DNSName(text[:200]), common_name=text[:60])
        except ValueError:
            continue
        server = await stack.enter_async_context(serving(_shaking(issued)))
        ports.append(server.port)
        if len(ports) > CERTIFICATES:
            break
    return ports


def _shaking(issued: Issued) -> Conversation:
    context = issued.context()

    async def shake(caller: Caller) -> None:
        await shake_hands(caller, context)

    return shake


def declared(texts: Sequence[str], checks: Mapping[str, Declared]) -> str:
    written = [_written(text) for text in texts]
    services = {
        f"s{number}": {"description": text, "owner": text, "runbook": text}
        for number, text in enumerate(written)
    }
    return yaml.safe_dump(
        {
            "version": 1,
            "defaults": {"interval": SELDOM, "timeout": "10s"},
            "metrics": {"certificates": True, "details": True, "phases": True},
            "services": services,
            "checks": dict(checks),
        }
    )


def _written(text: str) -> str:
    """As a configuration takes it: it refuses NUL, and a dollar before a brace stands for itself when doubled."""
    return text.replace("\0", "\x01").replace("${", "$${")


# --- what is shown ------------------------------------------------------------------------------------


class Rows(HTMLParser):
    """Every table row's elements with the names of their attributes, by the check or service it is about."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.rows: dict[str, list[tuple[str, ...]]] = {}
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self._row: list[tuple[str, ...]] = []
        self._about = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self._row, self._about = [], ""
        self._row.append((tag, *(name for name, _ in attrs)))
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        for value in (value or "" for name, value in attrs if name in {"href", "src", "action"}):
            self.links.append(value)
            self._about = self._about or value.removeprefix("/api/v1/checks/").removeprefix("/?service=")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self._about:
            self.rows[self._about] = self._row
            self._row, self._about = [], ""


@dataclass
class Echoes:
    texts: int = 0
    certified: int = 0
    """Of them, how many stand in a certificate, which does not take each."""
    shown: int = 0
    rows: int = 0
    samples: int = 0
    labelled: set[int] = field(default_factory=set)
    """The texts, by number, that were seen as the label that they were declared as."""
    lines: int = 0
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


def look(running: Exporter, checks: Mapping[str, Declared], texts: Sequence[str]) -> Echoes:
    found = Echoes(len(texts) - 1, sum(name.startswith("cert-") for name in checks) - 1)
    reasons = _look_at_api(running, checks, found)
    _look_at_pages(running, reasons, found)
    _look_at_metrics(running, reasons, texts, found)
    for line in running.log.read_text().splitlines():
        found.lines += 1
        found.expect(_is_a_line(line), f"the log holds {line[:200]!r}")
    found.expect("None" not in reasons.values(), "a check takes what it is told for good")
    return found


def _is_a_line(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return (
        entry["event"] != "forged"
        and entry["level"] in {"debug", "info", "warning"}
        and not NEVER.search(line)
    )


def _look_at_api(running: Exporter, checks: Mapping[str, Declared], found: Echoes) -> dict[str, str]:
    """Why each check failed, and whether we stood still meanwhile: then its durations are not shown."""
    reasons = {}
    for check_id in checks:
        answer = running.request(f"/api/v1/checks/{check_id}")
        found.expect(
            answer.headers["content-type"] == "application/json"
            and answer.headers["content-security-policy"].startswith("default-src 'none'"),
            f"{check_id} has no policy",
        )
        found.expect(not NEVER.search(answer.text), f"{check_id} has characters that are not text")
        latest = answer.json()["latest"]
        reasons[check_id] = f"{latest['reason']}{', stalled' if latest['stalled_seconds'] else ''}"
        found.shown += 1
    return reasons


def _look_at_pages(running: Exporter, reasons: Mapping[str, str], found: Echoes) -> None:
    rows: dict[str, list[tuple[str, ...]]] = {}
    for number in range(1, len(reasons) // ROWS + 2):
        answer = running.request(f"/?page={number}")
        found.expect("script-src" not in answer.headers["content-security-policy"], "the page allows scripts")
        found.expect(not NEVER.search(answer.text), "the page has characters that are not text")
        page = Rows(answer.text)
        rows |= page.rows
        found.expect(page.tags <= TAGS, f"the page has {page.tags - TAGS}")
        found.expect(
            not any(name.startswith("on") or name == "src" for name in page.attributes),
            "the page has a handler",
        )
        found.expect(
            all(link.startswith(LINKS) and not link.startswith("//") for link in page.links),
            "a link leads elsewhere",
        )
    for name, row in rows.items():
        kind = re.sub(r"\d+$", "", name)
        plain = rows.get(f"{kind}0")
        if "stalled" in reasons.get(name, "") + reasons.get(f"{kind}0", ""):
            continue
        runbook = ("a", "rel", "href")  # a service's text may be an address
        found.expect(
            plain is not None and [each for each in row if each != runbook] == plain,
            f"the row of {name} is {row}",
        )
        found.rows += 1


def _look_at_metrics(
    running: Exporter, reasons: Mapping[str, str], texts: Sequence[str], found: Echoes
) -> None:
    text = running.request("/metrics", headers={"Accept": "text/plain"}).body
    openmetrics = running.request("/metrics", headers={"Accept": "application/openmetrics-text"}).body
    counts: list[Counter[str]] = []
    for read, exposed in ((read_text, text), (read_openmetrics, openmetrics)):
        counts.append(Counter())
        try:
            families = list(read(exposed.decode()))
        except ValueError as error:
            found.problems.append(f"an exposition does not parse: {error}")
            continue
        for family in families:
            for sample in family.samples:
                counts[-1][sample.labels.get("check", "")] += 1
                found.samples += 1
                found.expect(bool(NAMES.fullmatch(sample.name)), f"a metric is called {sample.name}")
                if said := sample.labels.get("said"):
                    number = int(sample.labels["check"].rpartition("-")[2])
                    found.labelled.add(number)
                    found.expect(same(said, texts[number]), f"label {texts[number]!r} is exposed as {said!r}")
    unseen = [text for number, text in enumerate(texts) if text and number not in found.labelled]
    found.expect(not unseen, f"labels that are not exposed: {unseen[:3]}")
    for check_id, reason in reasons.items():
        plain = f"{check_id.rpartition('-')[0]}-0"
        for count in counts if reason == reasons[plain] else ():
            found.expect(
                count[check_id] == count[plain],
                f"{check_id} has {count[check_id]} series, {plain} has {count[plain]}",
            )
    if promtool := which("promtool"):
        linted = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
        found.expect(linted.returncode == 0, f"promtool says {linted.stderr[:500]!r}")


def same(shown: str, said: str) -> bool:
    """Alike but for what is no text."""
    return len(shown) == len(said) and all(
        a == b or (a == "\ufffd" and not b.isprintable()) for a, b in zip(shown, said, strict=True)
    )


# --- the proof ----------------------------------------------------------------------------------------


def prove_echoes(folder: Path, *, full: bool) -> list[Claim]:
    folder.mkdir()
    texts = [HARMLESS, *corpus(full=full)]
    found = asyncio.run(_meet(folder, texts))
    return [
        Claim(
            "no text of a target or a declaration becomes markup, a metric, a log line or a header",
            f"{found.texts} texts as bodies, headers, addresses, banners, DNS answers, labels and descriptions, {found.certified} in certificates",
            "; ".join(found.problems[:5])
            or f"{found.rows} rows, {found.samples} samples parsed back, {found.shown} answers and {found.lines} log lines as harmless texts have them",
            "the same elements, attributes and series as beside a harmless text; every line parses; a policy on every answer",
            found.rows > 4 * found.texts > 0
            and found.certified > 0
            and found.samples > 0
            and found.lines > 0
            and not found.problems,
        )
    ]


async def _meet(folder: Path, texts: Sequence[str]) -> Echoes:
    async with targets(texts, folder) as checks:
        config = folder / "checks.yaml"
        config.write_text(declared(texts, checks))
        return await asyncio.to_thread(_run, config, folder, checks, texts)


def _run(config: Path, folder: Path, checks: Mapping[str, Declared], texts: Sequence[str]) -> Echoes:
    with exporter(config, folder, "--log-level", "debug") as running:
        running.until("every check probed", lambda: all(_latest(running)))
        return look(running, checks, texts)


def _latest(running: Exporter) -> Iterator[Any]:
    return (check["latest"] for check in running.request("/api/v1/checks").json()["checks"])
