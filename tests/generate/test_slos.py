"""Rules of objectives: what they are, and what promtool makes of them where probing is awkward."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.generate.burns import NEVER, Cell, Time, burning, by_arithmetic, by_promtool, down
from tests.generate.objectives import (
    ASKED,
    alerts,
    declared,
    named,
    needs_promtool,
    promtool,
    recordings,
    write_rules,
    write_tests,
)
from watchbill.domain.config import Config, LoadedConfig
from watchbill.domain.slo import Severity
from watchbill.generate.asked import Asked
from watchbill.generate.indicators import indicators
from watchbill.generate.rules import rule_file
from watchbill.generate.slos import ALL, BAD, FAILURES, GOOD, REMAINING, slo_groups
from watchbill.generate.trials import Query, Series, Trial
from watchbill.generate.whole import evaluation_pace, rule_trials

BOTH: dict[str, dict[str, Any]] = {
    "shop": {"availability": "99.9%", "latency": {"objective": 99, "within": "500ms"}}
}
QUICK: dict[str, dict[str, Any]] = {"home": {}, "shop.db": {}}


def test_checks_are_weighed_by_their_interval_and_their_ids_are_taken_literally() -> None:
    expr = recordings(declared(BOTH))[BAD, "shop", "availability", ""].expr
    quick = r'watchbill_check_slots_total{check=~"home|shop\\.db", outcome="failure"}[45s]'
    slow = 'watchbill_check_slots_total{check="slow", outcome="failure"}[45s]'
    assert expr == (
        "sum(\n"
        f"  60 * clamp_min(last_over_time({quick}) - last_over_time({quick} offset 15s), 0) / 15\n"
        "    or\n"
        f"  300 * clamp_min(last_over_time({slow}) - last_over_time({slow} offset 15s), 0) / 15\n"
        ")\n"
    )


def test_failures_are_counted_each_as_one_beside_that() -> None:
    assert "60 * " in recordings(declared(BOTH))[BAD, "shop", "availability", ""].expr
    assert " * " not in recordings(declared(BOTH))[FAILURES, "shop", "availability", ""].expr


def test_a_latency_is_judged_by_its_bucket_of_what_was_timed_and_what_failed() -> None:
    found = recordings(declared(BOTH, QUICK))
    assert 'le="0.5"' in found[BAD, "shop", "latency", ""].expr
    assert "slots_total" in found[BAD, "shop", "latency", ""].expr
    assert "seconds_count" in found[ALL, "shop", "latency", ""].expr
    assert 'outcome="success"' not in found[ALL, "shop", "latency", ""].expr


def test_a_bound_of_whole_seconds_is_written_as_prometheus_does() -> None:
    config = declared({"shop": {"latency": {"objective": 99, "within": "1s"}}})
    assert 'le="1.0"' in recordings(config)[BAD, "shop", "latency", ""].expr


def test_every_window_is_a_sum_over_a_sum_and_no_average_of_ratios() -> None:
    config = declared(BOTH)
    assert "avg" not in rule_file(slo_groups(config, ASKED)[0])
    ratios = [each.expr for each in recordings(config).values() if "_over_time(slo:" in each.expr]
    assert ratios
    for expr in ratios:
        assert (
            expr.count("sum_over_time(slo:watchbill_bad_slots")
            == expr.count("sum_over_time(slo:watchbill_slots")
            == 1
        )


def test_rates_are_recorded_of_what_stands_under_slos_alone() -> None:
    config = declared({"shop": {"service": None, "match": {"check": "home"}, "availability": 99}})
    assert "shop" not in recordings(config)[BAD, "shop", "availability", ""].expr


def test_heartbeats_and_parked_checks_are_no_part_of_a_latency() -> None:
    checks: dict[str, dict[str, Any]] = {
        "home": {},
        "parked": {"enabled": False},
        "beat": {"type": "heartbeat", "every": "1h"},
    }
    found = indicators(declared(BOTH, checks), ASKED)
    assert [[check.id for check in each.checks] for each in found] == [["beat", "home"], ["home"]]


def test_alerts_carry_who_has_to_know_and_where_to_look() -> None:
    found = alerts(declared(BOTH, QUICK))
    assert [alert.labels["severity"] for alert in found if alert.alert == "WatchbillErrorBudgetBurn"] == [
        "critical",
        "warning",
    ] * 2
    [page, *_] = found
    assert page.labels == {
        "slo": "shop",
        "sli": "availability",
        "service": "shop",
        "owner": "team-shop",
        "severity": "critical",
    }
    assert page.annotations["runbook_url"] == "https://runbooks.example/shop"
    assert page.annotations["dashboard_url"] == "/d/watchbill-slo?var-slo=shop"
    assert "1h/5m at 14.4, 6h/30m at 6" in page.annotations["description"]
    assert page.annotations["summary"].startswith("shop: availability burns its error budget {{ $value")


def test_without_a_service_the_page_of_the_alert_is_the_runbook() -> None:
    config = declared(
        {"all": {"service": None, "match": {"type": "icmp"}, "availability": 99}},
        {"a": {}, "b": {"service": None}},
    )
    [page, *_] = alerts(config)
    assert page.annotations["runbook_url"].endswith("/docs/alerts#watchbillerrorbudgetburn")
    assert page.labels.keys() == {"slo", "sli", "severity"}


def test_an_objective_may_be_recorded_and_alert_nobody() -> None:
    config = declared({"shop": {"availability": "99.9%", "alerts": False}})
    assert alerts(config) == []
    assert recordings(config).keys() == recordings(declared({"shop": {"availability": "99.9%"}})).keys()


def test_the_same_objectives_in_another_order_are_the_same_rules() -> None:
    slos: dict[str, dict[str, Any]] = {"b": {"availability": 99}, "a": {"availability": "99.9%"}}
    checks: dict[str, dict[str, Any]] = {"one": {"interval": "10s"}, "two": {}, "three": {"interval": "10s"}}
    there = slo_groups(declared(slos, checks), ASKED)
    back = slo_groups(declared(dict(reversed(slos.items())), dict(reversed(checks.items()))), ASKED)
    assert rule_file(there[0]) == rule_file(back[0])
    assert there[1] == back[1]
    assert [group.name for group in there[0]][::2] == ["watchbill-slo-a", "watchbill-slo-b"]


def test_an_objective_about_a_selected_check_is_there_as_a_whole() -> None:
    config = declared(
        {
            "shop": {"availability": 99},
            "other": {"service": None, "match": {"check": "x"}, "availability": 99},
        },
        {**QUICK, "x": {"service": None}},
    )
    found, _ = slo_groups(config, Asked(selectors={"check": frozenset({"home"})}))
    assert [group.name for group in found] == ["watchbill-slo-shop", "watchbill-budget-shop"]
    assert "shop\\\\.db" in rule_file(found)


def test_what_is_left_out_and_what_a_guard_costs_is_said() -> None:
    assert slo_groups(declared(BOTH, QUICK), ASKED)[1] == []
    assert slo_groups(declared({"shop": {"availability": "99.9%"}}, {"home": {}}), ASKED)[1] == [
        "slo shop: availability: one failure would ring the pair 1h/5m, so it takes 2, which are 0.046 of the whole budget"
    ]
    [left_out, *_] = slo_groups(declared({"shop": {"availability": "99%"}}), ASKED)[1]
    assert left_out == (
        "slo shop: availability: the pair 1h/5m is left out: with the interval of 5m its short window is at least 20m, "
        "and the long one 12 times that"
    )
    parked = declared({"shop": {"availability": 99}}, {"home": {"enabled": False}})
    said = "slo shop: all of its checks are parked, or discovered and not known to rules; nothing is recorded"
    assert slo_groups(parked, ASKED) == ([], [said])


def test_the_group_is_evaluated_at_each_scrape_and_the_budget_more_rarely() -> None:
    for seconds, step in ((15, 300), (600, 600)):
        found, _ = slo_groups(declared(BOTH), Asked(scrape_interval=timedelta(seconds=seconds)))
        assert [group.interval for group in found] == [timedelta(seconds=seconds), timedelta(seconds=step)]


# --- when they ring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "interval", "scraped_at"),
    [(99, 10, 10), (99.9, 60, 15), (99.9, 300, 0), (99.99, 60, 10)],
)
@needs_promtool
def test_an_outage_pages_when_the_arithmetic_says(
    objective: float, interval: int, scraped_at: int, tmp_path: Path
) -> None:
    """Within an interval, a scrape and an evaluation; for a window's length before, all was well."""
    healthy, scrape = (6 * 3600, 60) if interval == 300 else (3600, 30)
    cell = Cell(
        objective, interval, healthy + 3600, down(healthy + 7), phase=3, scraped_at=scraped_at, scrape=scrape
    )
    page = Time("critical", 0, cell.seconds)
    meant, [found] = by_arithmetic(cell, page), by_promtool(cell, tmp_path, page)
    assert meant.first > healthy
    assert abs(found.first - meant.first) <= cell.bound, (meant, found)


@pytest.mark.parametrize(
    ("rate", "severities"), [(0.9, set()), (2, {"warning"}), (8, {"warning", "critical"})]
)
@needs_promtool
def test_a_slow_burn_is_a_ticket_and_a_faster_one_a_page(
    rate: float, severities: set[Severity], tmp_path: Path
) -> None:
    cell = Cell(99, 10, 3600, burning(rate, 99, since=0), scrape=30)
    times = [Time("critical", 0, cell.seconds), Time("warning", 0, cell.seconds)]
    found = zip(times, by_promtool(cell, tmp_path, *times), strict=True)
    assert {time.severity for time, ringing in found if ringing.first != NEVER} == severities


@needs_promtool
def test_a_page_ends_with_its_short_windows(tmp_path: Path) -> None:
    cell = Cell(99.9, 60, 3 * 3600, down(3607, 4207), phase=3, scrape=60)
    page = Time("critical", 0, cell.seconds)
    meant, [found] = by_arithmetic(cell, page), by_promtool(cell, tmp_path, page)
    assert meant.last < cell.seconds
    assert abs(found.last - meant.last) <= cell.bound, (meant, found)


# --- what must not spoil them ---------------------------------------------------------------------------


def slots(check: str, outcome: str, values: str, **labels: str) -> Series:
    return Series(
        "watchbill_check_slots_total",
        {"check": check, "outcome": outcome, "instance": "a:1", **labels},
        values,
    )


def holds(config: Config, folder: Path, series: list[Series], *queries: Query) -> None:
    write_rules(config, folder)
    write_tests([Trial("one", timedelta(seconds=15), series, queries=queries)], folder)
    good, said = promtool("test", "rules", "tests.yml", folder=folder)
    assert good, said


def asks(expr: str, value: float | None = 1.0, *, at: str = "20m") -> Query:
    minutes = timedelta(minutes=int(at.removesuffix("m")))
    return Query(minutes, expr, {} if value is None else {"": value})


ONE = {"shop": {"availability": "99%"}}
RINGS = asks('count(ALERTS{alertname="WatchbillErrorBudgetBurn", alertstate="firing"})', None)


def about(name: str, value: float, *, at: str = "20m") -> Query:
    return asks(f"sum(abs({name} - {value}) < bool 0.002)", at=at)


@needs_promtool
def test_two_processes_during_a_rolling_update_are_counted_each_for_itself(tmp_path: Path) -> None:
    series = [
        slots("home", "success", "100+1x30 _x50"),
        slots("home", "failure", "7+0x30 _x50"),
        slots("home", "success", "_x28 0+1x52", instance="b:1", pod="new"),
        slots("home", "failure", "_x28 0+0x52", instance="b:1", pod="new"),
    ]
    holds(declared(ONE, {"home": {}}), tmp_path, series, about(GOOD, 1), about(REMAINING, 1), RINGS)


@needs_promtool
@pytest.mark.parametrize(
    "failures", ["0+0x40 3+0x40", "7+0x20 _x2 8+0x17 10+0x40"], ids=["the first", "over two lost scrapes"]
)
def test_each_failure_counts_whole(failures: str, tmp_path: Path) -> None:
    series = [slots("home", "success", "0+4x80"), slots("home", "failure", failures)]
    counted = asks(f"sum(abs(sum_over_time({FAILURES}[20m]) * 15 - 3) < bool 0.001)")
    holds(declared(ONE, {"home": {}}), tmp_path, series, counted)


@needs_promtool
def test_a_check_without_series_takes_no_other_along(tmp_path: Path) -> None:
    """`slow` appears later, and has no failure yet; `home` fails for a tenth of the time."""
    series = [
        slots("home", "success", "0+9x80"),
        slots("home", "failure", "0+1x80"),
        slots("slow", "success", "_x40 0+0x40"),
    ]
    holds(declared(ONE), tmp_path, series, about(GOOD, 0.9))


@needs_promtool
def test_hours_without_a_slot_leave_what_was_before(tmp_path: Path) -> None:
    series = [
        slots("home", "success", "0+9x20 180x60 180+9x20"),
        slots("home", "failure", "0+1x20 20x60 20+1x20"),
    ]
    queries = [about(GOOD, 0.9, at=at) for at in ("5m", "15m", "25m")]
    holds(declared(ONE, {"home": {}}), tmp_path, series, *queries, asks(f"count({GOOD} != {GOOD})", None))


@needs_promtool
def test_a_check_whose_histogram_lacks_the_bound_is_not_slow(tmp_path: Path) -> None:
    """As during a rollout: the rules are newer than the exporter. That nothing is known of it is told."""
    latency = "watchbill_check_latency_seconds"
    own = {"check": "home", "instance": "a:1"}
    series = [
        slots("home", "success", "0+9x100"),
        slots("home", "failure", "0+0x100"),
        Series(f"{latency}_bucket", {**own, "le": "+Inf"}, "0+9x100"),
        Series(f"{latency}_count", own, "0+9x100"),
    ]
    unmeasured = 'count(ALERTS{alertname="WatchbillObjectiveUnmeasured", alertstate="firing"})'
    config = declared({"shop": {"latency": {"objective": 99, "within": "500ms"}}}, {"home": {}})
    holds(config, tmp_path, series, RINGS, asks(unmeasured), about(GOOD, 1))


@needs_promtool
def test_what_stalls_of_our_own_kept_out_of_the_histogram_does_not_count(tmp_path: Path) -> None:
    latency, own = "watchbill_check_latency_seconds", {"check": "home", "instance": "a:1"}
    series = [
        slots("home", "success", "0+10x80"),
        slots("home", "failure", "0+0x80"),
        *(Series(f"{latency}_bucket", {**own, "le": le}, "0+5x80") for le in ("0.5", "+Inf")),
        Series(f"{latency}_count", own, "0+5x80"),
    ]
    holds(
        declared({"shop": {"latency": {"objective": 99, "within": "500ms"}}}, {"home": {}}),
        tmp_path,
        series,
        about(GOOD, 1),
        RINGS,
    )


# --- the tests that are made beside them ------------------------------------------------------------------


def test_their_tests_are_written_where_everything_is_evaluated_at_each_scrape() -> None:
    loaded = LoadedConfig(declared(BOTH), "0" * 16)
    slow = Asked(evaluation_interval=timedelta(minutes=1))
    trials, [said] = rule_trials(loaded, slow)
    assert not any(trial.name.startswith("objectives") for trial in trials)
    assert "--only slo" in said
    alone = Asked(evaluation_interval=timedelta(minutes=1), only=frozenset({"slo"}))
    assert any(trial.name.startswith("objectives") for trial in rule_trials(loaded, alone)[0])
    assert evaluation_pace(alone, slow=False) == alone.scrape_interval


ALL_KINDS = {
    **BOTH,
    "coarse": {"availability": "93%", "window": "7d"},
    "tickets": {"service": None, "match": {"check": "slow"}, "availability": 95},
    "silent": {"availability": 99, "alerts": False},
}


@needs_promtool
@pytest.mark.parametrize(("scrape", "slos"), [(30, BOTH), (60, ALL_KINDS)])
def test_promtool_takes_the_rules_and_the_tests_made_beside_them_hold(
    scrape: int, slos: dict[str, Any], tmp_path: Path
) -> None:
    asked = Asked(scrape_interval=timedelta(seconds=scrape))
    config = declared(slos, {**QUICK, "slow": {"interval": "70s"}})
    write_rules(config, tmp_path, asked)
    assert promtool("check", "rules", "--lint-fatal", "rules.yml", folder=tmp_path)[0]
    write_tests(named(config, "objectives", asked=asked), tmp_path, asked)
    good, said = promtool("test", "rules", "tests.yml", folder=tmp_path)
    assert good, said


MUTATIONS = {
    "a factor far too high": ("> 6\n", "> 6000\n", "hard down"),
    "a factor far too low": ("> 1\n", "> 0.2\n", "burn rate of 0.5"),
    "a comparison turned round": ('window="6h"} > 6', 'window="6h"} < 6', "hard down"),
    "no guard": ("* 15 > 1.5", "* 15 > 0.5", "a single probe"),
    "a guard too strict": ("* 15 > 1.5", "* 15 > 2.5", "a single probe"),
    "errors of our own as failures": ('outcome="failure"', 'outcome!="success"', "all is well"),
    "what has no verdict as good": ('outcome=~"success|failure"', 'outcome=~".+"', "a burn rate of 2"),
    "failures left out of all": ('outcome=~"success|failure"', 'outcome="success"', "hard down"),
    "another bucket": ('le="0.5"', 'le="+Inf"', "come late"),
    "the weight of another interval": ("300 * ", "60 * ", "slowest"),
    "another budget": ("/ 0.001", "/ 0.01", "a burn rate of 2"),
    "a short window as long as the long one": ('service="shop"}[30m]', 'service="shop"}[6h]', "hard down"),
    "a long window as short as the short one": ('window="6h"} > 6', 'window="30m"} > 6', "before it matters"),
    "a check of another name": ("home|shop", "hom|shop", "slowest"),
    "another severity": ("severity: critical", "severity: warning", "hard down"),
    "either window instead of both": ("and ignoring (window) slo", "or ignoring (window) slo", "before it matters"),
    "an alert that is always there": ("unless on ()", "and on ()", "too rarely"),
}  # fmt: skip


@needs_promtool
@pytest.mark.parametrize("what", MUTATIONS)
def test_a_mutated_rule_fails_the_tests_made_beside_it(what: str, tmp_path: Path) -> None:
    before, after, name = MUTATIONS[what]
    config = declared(BOTH)
    rules = write_rules(config, tmp_path)
    assert before in rules
    write_tests(named(config, name), tmp_path)
    (tmp_path / "rules.yml").write_text(rules.replace(before, after), encoding="utf-8")
    good, said = promtool("test", "rules", "tests.yml", folder=tmp_path)
    assert not good
    assert "FAILED" in said, said
