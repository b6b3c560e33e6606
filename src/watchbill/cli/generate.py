"""``watchbill generate``: what Prometheus and Grafana are given, made of the configuration."""

from __future__ import annotations

import click

from watchbill.cli.lazy import LazyGroup

GENERATED = {
    "rules": "Write recording and alerting rules for Prometheus.",
    "rule-tests": "Write promtool's unit tests of these rules.",
    "dashboards": "Write dashboards for Grafana.",
}


@click.group(cls=LazyGroup, table=GENERATED, prefix="generate_")
def generate() -> None:
    """Write what a team would otherwise keep by hand beside its checks.

    The same configuration gives the same text: commit it, and have the CI generate it again and compare.
    """
