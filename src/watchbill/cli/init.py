"""``watchbill init``: a first configuration that explains itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from watchbill.cli.targets import check_of, guess
from watchbill.cli.terminal import count, plain, say
from watchbill.domain.errors import WatchbillError

HEAD = """\
# yaml-language-server: $schema=checks.schema.json
# Editors complete and check this file once the schema lies beside it: watchbill schema > checks.schema.json
version: 1

defaults: # hold for every check below; a check may say otherwise
  interval: 30s
  timeout: 5s
  # labels: {env: prod} # become Prometheus labels

# services: # what people rely on; a check joins one with "service: shop"
#   shop: {description: The web shop, owner: team-shop}

checks: # the key is the stable id: history hangs on it ("moved: {old: new}" renames)
"""
_NUMBER = re.compile(r"[0-9]+\.?[0-9]*(e[-+]?[0-9]+)?|0x[0-9a-f]+|0o[0-7]+")
OWN_PAGE = "http://127.0.0.1:9876/-/healthy"
HINTS = {
    "http": ("      # latency: 800ms", "      # body: {contains: Welcome}", '      # json: {"$.status": ok}'),
    "tcp": ("    # expect: {latency: 200ms}",),
    "tls": ("      # names: [www.example.com]",),
    "dns": ('    # expect: {answers: {any: "192.0.2.1"}}',),
    "icmp": ('    # expect: {loss: "< 34%"}',),
}


class FileKeptError(WatchbillError):
    """The file exists and was not to be overwritten."""


@click.command()
@click.argument("targets", nargs=-1, metavar="[URL...]")
@click.option(
    "-o",
    "--output",
    default="checks.yaml",
    show_default=True,
    metavar="PATH",
    help="Where to write; - is stdout.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that exists.")
def init(targets: tuple[str, ...], output: str, force: bool) -> None:
    """Write a commented configuration for these targets.

    https://shop.example/ becomes an http check that also watches the certificate, db.example:5432 a tcp check,
    gateway.example an icmp check; tls://HOST[:PORT] and dns://[SERVER/]NAME work too. Without targets it watches
    the exporter itself.

    Exit code: 0 written, 1 not.
    """
    text = render(targets or (OWN_PAGE,))
    if output == "-":
        click.echo(text, nl=False)
        return
    _write(Path(output), text, force=force)
    name = plain(output)
    say(f"wrote {name} with {count(len(targets) or 1, 'check')}")
    say(f"next: watchbill validate {name}; watchbill probe {name}; watchbill run {name}")


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FileKeptError(f"{path} exists; --force overwrites it, -o names another file") from None


def render(targets: Sequence[str]) -> str:
    """The file's text.

    :raises TargetError: where a target fits no type of check.
    """
    blocks, taken = [], set[str]()
    for target in targets:
        found = guess(target)
        check_of(found)
        check_id = _free(found.id, taken)
        taken.add(check_id)
        blocks.append("\n".join(_check(check_id, found.declared)) + "\n")
    return HEAD + "\n".join(blocks)


def _free(wanted: str, taken: set[str]) -> str:
    number, name = 2, wanted
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def _check(check_id: str, declared: Mapping[str, Any]) -> list[str]:
    kind = declared["type"]
    fields = {key: value for key, value in declared.items() if key != "type"}
    lines = [f"  {_key(check_id)}:", f"    type: {kind}"]
    if kind == "http":
        lines += _http(check_id, fields["url"])
    else:
        lines += [f"    {key}: {_scalar(value)}" for key, value in fields.items()]
    if kind == "tls":
        lines += ["    expect:", "      certificate_valid_for: 21d"]
    return [*lines, *HINTS[kind]]


def _key(check_id: str) -> str:
    """YAML reads ``10`` as a number and ``null`` as nothing; a key is a string."""
    other = check_id in {"null", "true", "false"} or _NUMBER.fullmatch(check_id) is not None
    return json.dumps(check_id) if other else check_id


def _http(check_id: str, url: str) -> list[str]:
    parts = urlsplit(url)
    lines = []
    if parts.username is not None:
        # The file goes into Git: the password comes from the environment instead.
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        name = _variable(check_id)
        basic = f'{{username: {_scalar(unquote(parts.username))}, password: "${{{name}}}"}}'
        lines.append(f"    auth: {{basic: {basic}}} # set {name}; a secret is never shown")
    lines = [f"    url: {_scalar(url)}", *lines, "    expect:", "      status: 2xx"]
    if parts.scheme == "https":
        lines.append("      certificate_valid_for: 14d")
    return lines


def _variable(check_id: str) -> str:
    name = "".join(c if c.isalnum() else "_" for c in check_id).upper() + "_PASSWORD"
    return name if name[0].isalpha() else f"CHECK_{name}"


def _scalar(value: object) -> str:
    """A JSON scalar is a YAML scalar; a dollar would begin a reference."""
    return json.dumps(value.replace("$", "$$") if isinstance(value, str) else value, ensure_ascii=False)
