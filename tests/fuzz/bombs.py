"""Bombs made by hand: small files that stand for huge ones, files that are none, and files that change while they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import TypeAlias

from tests.fuzz.case import Case
from tests.fuzz.plants import (
    GOOD,
    HEAD,
    Build,
    aliases,
    become,
    certificate,
    check,
    config_map,
    deep_folders,
    fifo,
    flow,
    grow,
    http,
    linked,
    listening,
    loops,
    many_files,
    merges,
    named_as_a_file,
    named_schema,
    names,
    patterns,
    pipe_beside,
    sizes,
    sparse,
    swap,
    text,
    unreadable,
    vanish,
)
from tests.fuzz.verdict import Complaint, Verdict

ACCEPTED = "(accepted)"
REFUSED = "(refused)"
ANY = "(anything)"
Meanwhile: TypeAlias = Callable[[Path, int], None]
"""What is done to the path again and again while it is loaded; the number counts."""


@dataclass(frozen=True)
class Bomb:
    """``says`` is what a problem of it must say, or that it is accepted, or refused for whatever reason."""

    name: str
    build: Build
    says: str
    meanwhile: Meanwhile | None = None

    @contextmanager
    def planted(self, folder: Path) -> Iterator[Path]:
        Case(self.name).write(folder)
        path = self.build(folder)
        with _busy(self.meanwhile, path):
            yield path

    def expected(self, verdict: Verdict) -> Verdict:
        said = ACCEPTED if verdict.accepted else "\n".join(verdict.problems)
        if self.says == ANY or self.says in said or (self.says == REFUSED and not verdict.accepted):
            return verdict
        complaint = Complaint("not what was expected", f"wanted {self.says!r}, got {said[:300]!r}")
        return replace(verdict, complaints=(*verdict.complaints, complaint))


@contextmanager
def _busy(meanwhile: Meanwhile | None, path: Path) -> Iterator[None]:
    stop = Event()

    def work() -> None:
        number = 0
        while meanwhile is not None and not stop.is_set():
            with suppress(OSError):
                meanwhile(path, number)
            stop.wait(0.0005)
            number += 1

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


_WIDE = {letter: "[" + ", ".join(f"{letter}{number}" for number in range(1000)) + "]" for letter in "ab"}
_ALL: tuple[Bomb, ...] = (
    # what stands for more than it is
    Bomb("alias bomb", text(aliases(10, "{0}: &{0} [{1}]")), "aliases and merge keys add more than"),
    Bomb("alias bomb of mappings", text(aliases(10, "{0}: &{0} {{k: [{1}]}}")), "aliases and merge keys add more than"),
    Bomb("merge key bomb", text(merges(8)), "aliases and merge keys add more than"),
    Bomb("merge keys of many", text(HEAD + "  a: &a {type: icmp, host: h, labels: {" + ",".join(f"l{n}: x" for n in range(5000)) + "}}\n" + "".join(f"  c{n}: {{<<: *a}}\n" for n in range(200))), "aliases and merge keys add more than"),
    Bomb("a label of thousands, merged into as many", text(HEAD + "  a: &a {type: icmp, host: h, labels: &l {" + ",".join(f"l{n}: x" for n in range(2000)) + "}}\n" + "".join(f"  c{n}: {{type: icmp, host: h, labels: {{<<: *l}}}}\n" for n in range(60))), "labels must have at most 64 items"),
    Bomb("alias in itself", text("version: 1\nchecks: &a {a: *a}\n"), "stands inside what it names"),
    Bomb("alias as key", text("version: 1\nx: &a checks\n*a : {}\n"), "unknown section"),
    Bomb("a million aliases", text("version: 1\nx: &a y\nchecks: [" + "*a," * 300_000 + "]\n"), "checks must be a mapping"),
    # nesting
    Bomb("flow nesting", text("[" * 900_000), "nested more than 100 levels deep"),
    Bomb("flow mappings", text("{a: " * 200_000), "nested more than 100 levels deep"),
    Bomb("block nesting", text("- " * 400_000), "nested more than 100 levels deep"),
    Bomb("question marks", text("? " * 400_000), "nested more than 100 levels deep"),
    Bomb("nesting by indentation", text("".join(" " * n + "a:\n" for n in range(1300))), "nested more than 100 levels deep"),
    Bomb("nesting in a key", text("version: 1\nchecks:\n  ? " + "[" * 5000), "nested more than 100 levels deep"),
    Bomb("nesting of a hundred", text("version: 1\nchecks: " + "[" * 90 + "]" * 90), "checks must be a mapping"),
    Bomb("a JSON Schema of ninety levels", http("json_schema: " + "{not: " * 90 + "{}" + "}" * 90), ACCEPTED),
    # scalars
    Bomb("a scalar of a megabyte", text("version: 1\nchecks: " + "x" * (1 << 20)), "checks must be a mapping, got text"),
    Bomb("a key of a megabyte", text("version: 1\n? " + "x" * 1_000_000 + "\n: 1\n"), "unknown section"),
    Bomb("an id of a megabyte", text(f'{HEAD}  ? "{"x" * 1_000_000}"\n  : {{type: icmp, host: h}}\n'), "cannot be an id"),
    Bomb("a type of a megabyte", check("type: " + "x" * 1_000_000), "type must be one of"),
    Bomb("an anchor of a megabyte", text("version: 1\nx: &" + "a" * 1_000_000 + " 1\n"), ANY),
    Bomb("a tag of a megabyte", text("version: 1\nx: !" + "a" * 1_000_000 + " 1\n"), ANY),
    Bomb("5,000 digits", check("type: tcp, host: h, port: " + "9" * 5000), "a whole number has at most"),
    Bomb("5,000 hexadecimal digits", check("type: tcp, host: h, port: 0x" + "f" * 5000), "a whole number has at most"),
    Bomb("a float of 100,000 digits", text("version: 1\nmetrics: {buckets: [0." + "1" * 100_000 + "]}\n"), ANY),
    Bomb("an exponent", text("version: 1\nmetrics: {buckets: [1e99999999]}\n"), "buckets"),
    Bomb("a duration of digits", check("type: icmp, host: h, interval: " + "1s" * 400_000), "a duration is"),
    Bomb("dates and sexagesimals", text("version: 2026-13-45\nchecks: {1: 12:30:45, 2001-01-01: x}\n"), "version must be 1"),
    # counts
    Bomb("24,000 wrong checks", text(HEAD + "".join(f"  c{n}: {{type: icmp, hos: h}}\n" for n in range(24_000))), "host"),
    Bomb("150,000 keys that are numbers", text("version: 1\nchecks: {" + "".join(f"{n:x}1: ," for n in range(140_000)) + "}"), "a key is text"),
    Bomb("100,000 unknown sections", text("version: 1\n" + "".join(f"s{n}:\n" for n in range(120_000))), "unknown section"),
    Bomb("100,000 unknown keys", check("type: icmp, host: h, " + ",".join(f"k{n}: " for n in range(100_000))), "a check has at most 200 keys"),
    Bomb("50,000 duplicate keys", text("version: 1\nchecks: {" + "a: ," * 200_000 + "}"), "duplicate key"),
    Bomb("70,000 services", text("version: 1\nservices: {" + "".join(f"s{n}: {{}}," for n in range(70_000)) + "}"), "more than 20,000 services"),
    Bomb("20,000 services", text("version: 1\nservices: {" + "".join(f"s{n}: {{labels: {{a: b}}}}," for n in range(20_000)) + "}"), ACCEPTED),
    Bomb("100,000 moves", text(GOOD + "moved: {" + "".join(f"m{n}: m{n + 1}," for n in range(60_000)) + "m60000: a}"), ACCEPTED),
    Bomb("moves in a circle", text(GOOD + "moved: {" + "".join(f"m{n}: m{n + 1}," for n in range(10_000)) + "m10000: m0}"), "moved runs in a circle"),
    Bomb("many circles", text(GOOD + "moved: {" + "".join(f"m{n}: n{n}, n{n}: m{n}," for n in range(20_000)) + "}"), "moved runs in a circle"),
    Bomb("400,000 values in a list", http("status: [" + "200," * 240_000 + "]"), ANY),
    Bomb("a million commas", text("version: 1\nchecks: {" + "," * 1_000_000 + "}"), "not YAML"),
    Bomb("a million comments", text(GOOD + "#\n" * 500_000), ACCEPTED),
    Bomb("defaults of 64 labels for 20,000 checks", text("version: 1\ndefaults: {labels: {" + ",".join(f"l{n}: x" for n in range(64)) + "}}\nchecks:\n" + "".join(f"  c{n}: {{type: icmp, host: h}}\n" for n in range(20_000))), "add more than"),
    Bomb("for_each of 200 headers", text(HEAD + "  a: {type: http, url: 'http://h/', headers: {" + ",".join(f"l{n}: x" for n in range(190)) + "}, for_each: {x: [" + flow(10_000) + "]}}"), "add more than"),
    Bomb("200 headers by alias", text(HEAD + "  a: {type: http, url: 'http://h/', headers: &h {" + ",".join(f"l{n}: x" for n in range(190)) + "}}\n" + "".join(f"  c{n}: {{type: http, url: 'http://h/', headers: *h}}\n" for n in range(1250))), ACCEPTED),
    Bomb("a text of 500 KB in defaults of 10,000 checks", text("version: 1\ndefaults: {description: " + "x" * 500_000 + "}\nchecks:\n" + "".join(f"  c{n}: {{type: icmp, host: h}}\n" for n in range(10_000))), "add more than"),
    Bomb("a text of 500 KB, 10,000 times", text(HEAD + f"  a: {{type: icmp, host: h, description: &d {'x' * 500_000}}}\n" + "".join(f"  c{n}: {{type: icmp, host: h, description: *d}}\n" for n in range(10_000))), "aliases and merge keys add more than"),
    Bomb("a schema of a text, 10,000 times", http(f"json_schema: {{const: &t {'x' * 500_000}, enum: [{'*t,' * 10_000}]}}"), "aliases and merge keys add more than"),
    # bytes
    Bomb("UTF-16", text(GOOD.encode("utf-16")), "not UTF-8 but UTF-16"),
    Bomb("UTF-32", text(GOOD.encode("utf-32")), "not UTF-8"),
    Bomb("Latin-1", text((GOOD + "# ä\n").encode("latin-1")), "not UTF-8"),
    Bomb("NUL", text(GOOD + "#\0\n"), "U+0000"),
    Bomb("escaped NUL", check('type: http, url: "http://127.0.0.1/\\0", body: "\\0"'), "NUL"),
    Bomb("two BOMs", text("\ufeff\ufeff" + GOOD), ANY),
    Bomb("a surrogate", check('type: icmp, host: "\\ud800"'), "not YAML"),
    Bomb("CR only", text(GOOD.replace("\n", "\r")), ACCEPTED),
    Bomb("10 MB and one byte", text(b"#" * ((10 << 20) + 1)), "is larger than 10 MB"),
    Bomb("50 MB in all", sizes, "larger than 50 MB"),
    Bomb("a sparse terabyte", sparse, "is larger than 10 MB"),
    # files that are none
    Bomb("a pipe", fifo, "is not a regular file"),
    Bomb("a socket", listening, "cannot be read"),
    Bomb("a folder", lambda folder: folder, "holds no *.yaml file"),
    Bomb("nothing", lambda folder: folder / "nowhere.yaml", "does not exist"),
    Bomb("a folder named like a file", named_as_a_file, "holds no *.yaml file"),
    *(Bomb(device, linked(device), REFUSED) for device in ("/dev/zero", "/dev/tty", "/dev/full", "/dev/ptmx", "/proc/self/mem", "/proc/kmsg", "/proc/self/environ", "/proc/self/fd/0", "/sys/kernel/uevent_seqnum")),
    Bomb("a link to itself", linked("checks.yaml"), "cannot be read"),
    Bomb("a dangling link", linked("nowhere"), "does not exist"),
    Bomb("links in a circle", loops, ACCEPTED),
    Bomb("no permission", unreadable, ANY),
    Bomb("folders 120 deep", deep_folders, ANY),
    Bomb("3,000 files", many_files, "version must be 1"),
    Bomb("names of files", names, "is declared twice"),
    # files that change
    Bomb("vanishes while it is read", text(GOOD), ANY, vanish),
    Bomb("grows while it is read", text(GOOD), ANY, grow),
    Bomb("becomes something else while it is read", text(GOOD), ANY, become),
    Bomb("generations swapped while they are read", config_map, ANY, swap),
    # expressions
    Bomb("a pattern of repetitions", http('body: {matches: "((a{100}){100}){100}"}'), "not a regular expression that RE2 accepts"),
    Bomb("a wide class repeated", http('body: {matches: "\\\\pL{1000}"}'), "not a regular expression that RE2 accepts"),
    Bomb("300 patterns under the bound", http(f"body: {{matches: [{patterns(300, '(?i)[[:alpha:]]{{900}}')}]}}"), ANY),
    Bomb("20,000 patterns", http(f"body: {{matches: [{patterns(20_000, '.{{200}}')}]}}"), ANY),
    Bomb("patterns of the largest kind", http(f"body: {{matches: [{patterns(2000, chr(92) * 2 + 'pL{30}')}]}}"), ANY),
    Bomb("a JSONPath of 100,000 segments", http(f'json: {{? "${".a" * 100_000}" : 1}}'), ANY),
    Bomb("a JSONPath of 2,000 segments", http(f'json: {{? "${".a" * 2000}" : 1}}'), ACCEPTED),
    Bomb("a JSONPath of parentheses", http(f'json: {{? "$[?{"(" * 4000}" : 1}}'), "not a JSONPath"),
    Bomb("a JSONPath of negations", http(f'json: {{? "$[?{"!" * 4000}@.a]" : 1}}'), "JSONPath"),
    Bomb("a JSONPath of conjunctions", http(f'json: {{? "$[?{"@.a && " * 500}@.b]" : 1}}'), ANY),
    Bomb("10,000 JSONPaths", http("json: {" + ", ".join(f'"$.a{n}[?@.b > {n}]": 1' for n in range(10_000)) + "}"), ANY),
    Bomb("a schema of itself", http("json_schema: {$ref: '#'}"), ANY),
    Bomb("schemas that name each other", http("json_schema: {$ref: '#/definitions/a', definitions: {a: {$ref: '#/definitions/b'}, b: {$ref: '#/definitions/a'}}}"), ANY),
    Bomb("a schema from elsewhere", http("json_schema: {$ref: 'http://127.0.0.1:9/schema.json'}"), "not a valid JSON Schema"),
    Bomb("a schema from a file", http("json_schema: {$ref: 'file:///etc/passwd'}"), "not a valid JSON Schema"),
    Bomb("a schema of 100,000 values", http(f"json_schema: {{enum: [{flow(100_000)}]}}"), ANY),
    Bomb("a schema of patterns", http("json_schema: {allOf: [" + ", ".join(f'{{pattern: "(a{{1,{n % 900 + 1}}}){{1,90}}$"}}' for n in range(2000)) + "]}"), ANY),
    Bomb("a schema of 100 KB for 9,000 checks", named_schema(9000, '{"enum": [' + flow(15_000) + "]}"), "JSON Schemas add more than"),
    Bomb("a schema of 100 KB for 300 checks", named_schema(300, '{"enum": [' + flow(15_000) + "]}"), ACCEPTED),
    Bomb("a schema file nested deeply", named_schema(1, '{"not": ' * 100_000 + "{}" + "}" * 100_000), "nested too deeply"),
    Bomb("a certificate of 4 MB for 9,000 checks", certificate, ACCEPTED),
    Bomb("a schema that doubles", http("json_schema: {definitions: {d0: {type: string}, " + ", ".join(f"d{n}: {{allOf: [{{$ref: '#/definitions/d{n - 1}'}}, {{$ref: '#/definitions/d{n - 1}'}}]}}" for n in range(1, 40)) + "}, $ref: '#/definitions/d39'}"), ANY),
    # references and for_each
    Bomb("for_each of a million", check(f"type: icmp, host: h, for_each: {{a: {_WIDE['a']}, b: {_WIDE['b']}}}"), "for_each stands for 1,000,000 checks"),
    Bomb("for_each of 20 names", check("type: icmp, host: h, for_each: {" + ", ".join(f"n{n}: [{flow(10)}]" for n in range(20)) + "}"), "for_each stands for"),
    Bomb("for_each of 10,000, twelve times", text(HEAD + f"  a: {{type: icmp, host: h, for_each: &e {{x: [{flow(10_000)}]}}}}\n" + "".join(f"  b{n}: {{type: icmp, host: h, for_each: *e}}\n" for n in range(11))), ANY),
    Bomb("for_each of long texts", check(f"type: icmp, host: h, description: '${{each.x}}{'y' * 900_000}', for_each: {{x: [{flow(1000)}]}}"), "add more than"),
    Bomb("references by the thousand", check(f"type: icmp, host: h, description: '{'${LONG}' * 100_000}'"), "references put more than"),
    Bomb("references in 100,000 values", http("status: [" + "'${NUMBER}'," * 60_000 + "]"), "at most 200 values with references"),
    Bomb("references that default to references", check(f"type: icmp, host: '{'${A:-' * 10_000}x{'}' * 10_000}'"), "a reference cannot stand in a reference"),
    Bomb("a file that names itself", check("type: icmp, host: h, description: '${file:checks.yaml}'"), "cannot hold a secret"),
    Bomb("a pipe as a secret", pipe_beside, "is not a regular file"),
    Bomb("the kernel's log as a secret", check("type: heartbeat, every: 1d, token: '${file:/proc/kmsg}'"), ANY),
    # names in an exposition
    Bomb("labels that end a line", check('type: icmp, host: h, labels: {a: "x\\"} 1\\n# EOF\\nup 1\\r\\u2028\\\\"}'), ACCEPTED),
    Bomb("64 labels of 1,000 characters", check("type: icmp, host: h, labels: {" + ", ".join(f"l{n}: '{'🙂' * 1000}'" for n in range(64)) + "}"), ACCEPTED),
    Bomb("labels of the product's own", check("type: icmp, host: h, labels: {le: x, __name__: y, check: z}"), "is reserved"),
    Bomb("a host of IDNA junk", check("type: icmp, host: 'xn--\u200d.\u00ad\u0301.xn--zzzzzzzz--'"), ANY),
)  # fmt: skip
BOMBS: Mapping[str, Bomb] = {bomb.name: bomb for bomb in _ALL}
HEAVY = frozenset(
    {
        "a million aliases",
        "24,000 wrong checks",
        "100,000 unknown sections",
        "100,000 unknown keys",
        "70,000 services",
        "20,000 services",
        "100,000 moves",
        "many circles",
        "400,000 values in a list",
        "defaults of 64 labels for 20,000 checks",
        "for_each of 200 headers",
        "200 headers by alias",
        "20,000 patterns",
        "10,000 JSONPaths",
        "a certificate of 4 MB for 9,000 checks",
        "for_each of 10,000, twelve times",
        "references in 100,000 values",
        "50 MB in all",
    }
)
"""Half a second and more each: left out of a quick look."""
