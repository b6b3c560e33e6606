"""Secrets that stand where they do not belong: in what way, and what is said of it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.policy.canaries import MARK
from tests.policy.declared import Case
from watchbill.cli.main import cli
from watchbill.config import load
from watchbill.domain.errors import ConfigError

SECRET = f"{MARK}901a{MARK}901b{MARK}901c"
BY_HAND = (
    f"a: {{type: http, url: 'http://u:{SECRET}@x:port/'}}",
    f"a: {{type: http, url: 'http://u:{SECRET} @x/'}}",
    f"a: {{type: http, url: 'ftp://u:{SECRET}@x/'}}",
    f"a: {{type: http, url: 'http://u:{SECRET}/x@y/'}}",
    f"a: {{type: http, url: '//u:{SECRET}@x/'}}",
    f"a: {{type: http, url: 'http://u:{SECRET}@/'}}",
    f"a: {{type: http, url: 'http://u:{SECRET}@169.254.169.254/'}}",
    f"a: {{type: http, url: 'http://u:{SECRET}@x/', auth: {{bearer: {SECRET}}}}}",
    f"a: {{type: http, url: 'http://x/', proxy: 'http://u:{SECRET}@x'}}",
    f"a: {{type: http, url: 'http://x/', proxy: 'smtp://u:{SECRET}@x:1'}}",
    f"a: {{type: http, url: 'http://x/', proxy: {{url: 'http://u:{SECRET}@x:1', password: {SECRET}}}}}",
    f"a: {{type: http, url: 'http://x/', proxy: {{url: 'http://x:1', password: {SECRET}}}}}",
    f"a: {{type: http, url: 'http://x/', auth: {SECRET}}}",
    f"a: {{type: http, url: 'http://x/', auth: {{basic: {SECRET}}}}}",
    f"a: {{type: http, url: 'http://x/', auth: {{basic: {{username: u, pasword: {SECRET}}}}}}}",
    f"a: {{type: http, url: 'http://x/', auth: {{basic: ['u', {SECRET}]}}}}",
    f"a: {{type: http, url: 'http://x/', auth: {{bearer: {SECRET}, basic: {{username: u, password: {SECRET}}}}}}}",
    f"a: {{type: http, url: 'http://x/', headers: {SECRET}}}",
    f"a: {{type: http, url: 'http://x/', headers: ['Authorization: {SECRET}']}}",
    f'a: {{type: http, url: "http://x/", headers: {{Authorization: "{SECRET}\\n"}}}}',
    f"a: {{type: http, url: 'http://x/', password: {SECRET}}}",
    f"a: {{type: http, url: 'http://x/', token: {SECRET}}}",
    f"a: {{type: http, url: 'http://x/', body: ${{{SECRET}!}}}}",
    f"a: {{type: http, url: 'http://x/', body: 'pa${{{SECRET}'}}",
    f"a: {{type: http, url: 'http://x/', body: 'pa${{{SECRET}${{'}}",
    f"a: {{type: http, url: 'http://x/', body: '${{A:-{SECRET}${{B}}}}'}}",
    f"a: {{type: http, url: 'http://x/', body: !{SECRET} x}}",
    f"a: {{type: http, url: 'http://x/', body: !{SECRET} [x]}}",
    f"a: {{type: http, url: 'http://x/', body: *{SECRET}}}",
    f"a: {{type: http, url: 'http://x/', body: &{SECRET} }}",
    f"a: {{type: http, url: 'http://x/', body: @{SECRET}}}",
    f"a: {{type: http, url: 'http://x/', body: %{SECRET}}}",
    f"a: {{type: http, url: 'http://x/', body: '{SECRET}",
    f'a: {{type: http, url: "http://x/", body: "{SECRET}\\q"}}',
    f"a: {{type: http, url: 'http://x/', body: {SECRET}: x}}",
    f"a: {{type: http, url: 'http://x/', body: [{SECRET}}}",
    f"a:\n    type: http\n    url: http://x/\n    body: {SECRET}\n   headers: {{}}",
    f"a:\n    type: http\n    url: http://x/\n    body: {SECRET}\n    body: {SECRET}",
    f"a: {{type: tcp, host: x, port: 1, send: {{text: {SECRET}}}}}",
    f"a: {{type: tcp, host: x, port: {SECRET}}}",
    f"a: {{type: tcp, host: 'u:{SECRET}@x', port: 1}}",
    f"a: {{type: dns, name: x, server: 'u:{SECRET}@x'}}",
    f"a: {{type: dns, name: x, server: 'https://u:{SECRET}@x/', transport: https}}",
    f"a: {{type: heartbeat, every: 1h, token: [{SECRET}]}}",
    f"a: {{type: icmp, host: x, for_each: {{a: [{{token: {SECRET}}}]}}}}",
    f"a: {SECRET}",
    f"a: [{SECRET}]",
)
"""Checks, as people get them wrong."""
FORMS = ("text", "json", "github")


def moved(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same check with its canary under a key that is none, and in values of other kinds."""
    for kind, change in _CHANGES.items():
        changed = json.loads(json.dumps(case.declared))
        if _change(changed, case.value, change):
            yield kind, changed


def _misspelt(holder: Any, key: Any) -> None:
    if isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        holder[key] = {"x": holder[key]}


def _listed(holder: Any, key: Any) -> None:
    holder[key] = [holder[key], [holder[key]]]


def _mapped(holder: Any, key: Any) -> None:
    holder[key] = {"value": holder[key]}


_CHANGES = {"misspelt": _misspelt, "a list": _listed, "a mapping": _mapped}


def _change(value: Any, secret: str, change: Any) -> bool:
    """Where the reference or the secret itself stands, the deepest holder first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        if isinstance(item, dict | list):
            if _change(item, secret, change):
                return True
        elif isinstance(item, str) and ("${" in item or secret in item):
            change(value, key)
            return True
    return False


def told(cases: list[Case], environ: Mapping[str, str], folder: Path) -> tuple[int, dict[str, bytes]]:
    """How many files were refused for a mistake, and what ``validate`` and the loader's errors said of them."""
    folder.mkdir(exist_ok=True)
    for secret in folder.parent.glob("secret-*"):
        (folder / secret.name).write_text(secret.read_text())
    texts = [f"version: 1\nchecks:\n  {text}\n" for text in BY_HAND]
    for case in cases:
        for _, changed in moved(case):
            texts.append(json.dumps({"version": 1, "checks": {case.check: changed}}, ensure_ascii=False))
    mistakes, said = 0, list[str]()
    for number, text in enumerate(texts):
        file = folder / f"{MARK}000-{number}.yaml"
        file.write_text(text)
        refused, shown = _loaded(file, environ)
        mistakes += refused
        said.append(shown)
    printed = [
        _printed(folder / f"{MARK}000-{number}.yaml", form)
        for number in range(len(BY_HAND))
        for form in FORMS
    ]
    return mistakes, {
        "errors of the loader": "\n".join(said).encode(),
        "validate": "\n".join(printed).encode(),
    }


def _loaded(file: Path, environ: Mapping[str, str]) -> tuple[bool, str]:
    """Whether it is refused, and all that an error can show of itself: its text, its repr, its traceback."""
    try:
        loaded = load(file, environ=environ)
    except ConfigError as error:
        shown = [str(error), repr(error), *traceback.format_exception(error), repr(error.problems)]
        return True, "\n".join(shown)
    return False, f"{file.name} is valid\n{loaded!r}"


def _printed(file: Path, form: str) -> str:
    return CliRunner().invoke(cli, ["validate", str(file), "--format", form]).output
