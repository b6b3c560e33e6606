"""``watchbill generate rules``: recording and alerting rules."""

from __future__ import annotations

import click

from watchbill.cli.asking import Question, arguments, asks
from watchbill.generate.rules import prometheus_rule, rule_file
from watchbill.generate.whole import rule_groups


@click.command()
@asks
@click.option(
    "--format",
    "form",
    type=click.Choice(["prometheus", "prometheusrule"]),
    default="prometheus",
    show_default=True,
    help="A file for rule_files, or an object for the Prometheus operator.",
)
def rules(question: Question, form: str) -> None:
    """Write rules for CONFIG: alerts on its objectives, its checks and Watchbill itself.

    Exit code: 0 written, 1 not, 2 configuration not valid.
    """
    groups, warnings = rule_groups(question.loaded, question.asked)
    head = _head(question, form)
    if form == "prometheusrule":
        text = prometheus_rule(
            groups, name="watchbill", labels={"app.kubernetes.io/name": "watchbill"}, head=head
        )
    else:
        text = rule_file(groups, head=head)
    question.answer(text, warnings)


def _head(question: Question, form: str) -> str:
    more = [f"--format {form}"] if form != "prometheus" else []
    options = arguments(question.asked, *more)
    return f"# Generated; do not edit. watchbill generate rules CONFIG{' ' + options if options else ''}\n"
