"""``watchbill schema``: the JSON Schema that editors check the file with."""

from __future__ import annotations

import click

from watchbill.config.schema import render


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration (draft-07).

    Editors with the YAML language server complete and check a file whose first line is
    "# yaml-language-server: $schema=checks.schema.json".
    """
    click.echo(render(), nl=False)
