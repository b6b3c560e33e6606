"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from watchbill.client import DEFAULT_SERVER


def server_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Which running exporter is meant."""
    return click.option(
        "--server",
        default=DEFAULT_SERVER,
        show_default=True,
        metavar="URL",
        envvar="WATCHBILL_SERVER",
        show_envvar=True,
        help=help_text,
    )
