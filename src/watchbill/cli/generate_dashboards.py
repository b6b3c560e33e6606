"""``watchbill generate dashboards``: files that Grafana imports."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from watchbill.cli.outside import Outside
from watchbill.cli.terminal import plain
from watchbill.client import DEFAULT_SERVER
from watchbill.generate.dashboards import NAMES, text
from watchbill.generate.dashboards import dashboards as generated
from watchbill.generate.dashboards.configmaps import config_map

_SUFFIX = {"json": "json", "configmap": "configmap.yaml"}


class _Names(click.ParamType[tuple[str, ...]]):
    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        chosen = set(str(value).split(","))
        if not chosen <= set(NAMES):
            self.fail(f"takes {', '.join(NAMES)}, separated by commas", param, ctx)
        return tuple(name for name in NAMES if name in chosen)


class _Address(click.ParamType[str]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        address = str(value).rstrip("/")
        try:
            parts = urlsplit(address)
        except ValueError:
            parts = urlsplit("")
        plain_text = address.isascii() and address.isprintable() and not set(address) & set(" $\"'<>\\`{}")
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain_text:
            self.fail("is the address of Watchbill's page, as https://watchbill.example", param, ctx)
        if parts.query or parts.fragment or "@" in parts.netloc:
            self.fail(
                "has no query, no fragment and no password: whoever sees a dashboard sees it", param, ctx
            )
        return address


@click.command()
@click.argument("config", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "configmap"]),
    default="json",
    show_default=True,
    help="Files that Grafana imports, or labelled objects for its sidecar.",
)
@click.option(
    "--only",
    "names",
    type=_Names(),
    default=",".join(NAMES),
    show_default=True,
    metavar="NAMES",
    help="Which dashboards.",
)
@click.option(
    "--watchbill-url",
    type=_Address(),
    default=DEFAULT_SERVER,
    show_default=True,
    metavar="URL",
    help="Where people reach Watchbill's pages, for links to them.",
)
@click.option("--namespace", metavar="NAME", help="The namespace of the ConfigMaps.")
@click.option(
    "--no-secrets", is_flag=True, help="Accept variables and secret files that are missing, as in a CI."
)
@click.option("-o", "--output", metavar="FOLDER", help="Where to write, a file a dashboard; default stdout.")
@click.pass_context
def dashboards(  # noqa: PLR0917 - click passes options by name
    ctx: click.Context,
    config: str | None,
    form: str,
    names: tuple[str, ...],
    watchbill_url: str,
    namespace: str | None,
    output: str | None,
    *,
    no_secrets: bool,
) -> None:
    """Write Grafana dashboards. With CONFIG they also say who looks after which service.

    Exit code: 0 written, 1 not, 2 configuration not valid.
    """
    if namespace is not None and form != "configmap":
        raise click.UsageError("--namespace belongs to --format configmap")
    if output is None and form == "json" and len(names) > 1:
        raise click.UsageError(
            "several dashboards are several files: name their folder with --output, or one of them with --only"
        )
    outside = ctx.find_object(Outside) or Outside()
    loaded = None if config is None else outside.load(config, resolve_secrets=not no_secrets)
    made = generated(None if loaded is None else loaded.config, watchbill_url=watchbill_url)
    texts = {name: text(made[name]) for name in names}
    if form == "configmap":
        texts = {name: config_map(name, one, namespace=namespace) for name, one in texts.items()}
    if output is None:
        click.echo("---\n".join(texts.values()), nl=False)
    else:
        _write(Path(output), {f"{name}.{_SUFFIX[form]}": one for name, one in texts.items()})


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in files.items():
        path = folder / name
        path.write_text(one, encoding="utf-8")
        click.echo(plain(path))
