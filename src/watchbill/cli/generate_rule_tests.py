"""``watchbill generate rule-tests``: unit tests of the rules, for promtool."""

from __future__ import annotations

import click

from watchbill.cli.asking import Question, arguments, asks
from watchbill.generate.trials import trial_file
from watchbill.generate.whole import evaluation_pace, rule_trials


@click.command()
@asks
@click.option(
    "--rules",
    default="watchbill.rules.yml",
    show_default=True,
    metavar="FILE",
    help="The rules to test, as seen from the file of the tests.",
)
@click.option("--slow", is_flag=True, help="Only tests of what waits for more than half an hour.")
def rule_tests(question: Question, rules: str, slow: bool) -> None:
    """Write tests for the rules that `generate rules` writes for CONFIG with the same options.

    Run them with "promtool test rules FILE".

    Exit code: 0 written, 1 not, 2 configuration not valid.
    """
    trials, warnings = rule_trials(question.loaded, question.asked, slow=slow)
    text = trial_file(
        trials,
        rules=rules,
        evaluation_interval=evaluation_pace(question.asked, slow=slow),
        head=_head(question, rules, slow),
    )
    question.answer(text, warnings)


def _head(question: Question, rules: str, slow: bool) -> str:
    more = [f"--rules {rules}"] + (["--slow"] if slow else [])
    options = arguments(question.asked, *more)
    return f"# Generated; do not edit. watchbill generate rule-tests CONFIG {options}\n"
