"""The two formats: what stands in them can be read back, whatever the labels hold."""

from __future__ import annotations

import math
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.metrics.states import OPENMETRICS, Scene, busy_scene, declare, observed, probe_of, series_of

from watchbill.domain.config import MetricsOptions
from watchbill.metrics.exposition import (
    escape,
    histogram,
    number,
    prefers_openmetrics,
    safe,
    sample,
)

FULL = MetricsOptions(phases=True, certificates=True, details=True)


def full_scene() -> Scene:
    scene = busy_scene()
    scene.configure(FULL)
    for state in list(scene.board.checks.values()):
        scene.found(probe_of(state.check))
    return scene


def test_both_formats_have_the_same_sample_lines() -> None:
    scene = full_scene()
    text, openmetrics = (
        [line for line in scene.text(accept).splitlines() if not line.startswith("#")]
        for accept in ("", OPENMETRICS)
    )
    untimed = [line for line in text if not line.startswith("process_")]
    assert untimed == [line for line in openmetrics if not line.startswith("process_")]
    assert len(untimed) > 150


def test_both_formats_read_back_as_the_same_series() -> None:
    scene = full_scene()
    text = series_of(scene.text())
    openmetrics = series_of(scene.text(OPENMETRICS), openmetrics=True)
    assert text.keys() == openmetrics.keys()
    differing = {name for (name, labels), value in text.items() if openmetrics[name, labels] != value}
    assert all(name.startswith("process_") for name in differing)


def test_openmetrics_names_counters_without_total_in_headers_and_ends_with_eof() -> None:
    lines = full_scene().text(OPENMETRICS).splitlines()
    assert "# TYPE watchbill_check_slots counter" in lines
    assert not any(line.startswith("# TYPE") and line.split()[2].endswith("_total") for line in lines)
    assert lines.count("# EOF") == 1
    assert lines[-1] == "# EOF"


def test_text_names_counters_with_total_and_has_no_eof() -> None:
    lines = full_scene().text().splitlines()
    assert "# TYPE watchbill_check_slots_total counter" in lines
    assert "# EOF" not in lines


def test_there_are_no_created_series_and_every_bound_is_a_float() -> None:
    found = full_scene().series()
    assert not any(name.endswith("_created") for name, _ in found)
    bounds = {value for _, labels in found for name, value in labels if name == "le"}
    assert {"0.005", "1.0", "5.0", "+Inf"} <= bounds
    assert all(bound == "+Inf" or "." in bound for bound in bounds)


def test_each_family_stands_together_under_one_header() -> None:
    names = [line.split()[2] for line in full_scene().text().splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_the_content_type_names_the_format(accept: str) -> None:
    content_type, _ = Scene().metrics.render(accept)
    assert content_type == (
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
        if accept
        else "text/plain; version=0.0.4; charset=utf-8"
    )


@pytest.mark.e2e
def test_promtool_has_nothing_to_say() -> None:
    run = subprocess.run(
        ["promtool", "check", "metrics"],
        input=full_scene().text(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["env", "team", "zone", "version"]), st.text(max_size=60)))
def test_any_declared_label_reads_back(declared: dict[str, str]) -> None:
    scene = Scene()
    check = declare().model_copy(update={"labels": declared})
    scene.register(check)
    scene.found(probe_of(check))
    text = series_of(scene.text())
    assert text.keys() == series_of(scene.text(OPENMETRICS), openmetrics=True).keys()
    labels = dict(next(labels for name, labels in text if name == "probe_success"))
    expected = {name: safe(value) for name, value in declared.items()}
    assert labels == {
        "check": "shop",
        "location": "",
        "service": "",
        "type": "http",
        "target": "https://shop.example/",
        **expected,
    }


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ('say "hi"', r"say \"hi\""),
        ("back\\slash", r"back\\slash"),
        ("two\nlines", r"two\nlines"),
        ("nul\0 bell\a escape\x1b", "nul\ufffd bell\ufffd escape\ufffd"),
        ("return\r", "return\ufffd"),
        ("half a pair \ud800", "half a pair \ufffd"),
        ("separator \u2028", "separator \ufffd"),
        ("Grüße 🎉", "Grüße 🎉"),
        ("x" * 1001, "x" * 1000),
    ],
)
def test_a_label_value_stays_on_its_line(hostile: str, shown: str) -> None:
    assert escape(hostile) == shown
    assert escape(hostile).encode()


def test_what_a_target_says_of_itself_cannot_break_the_exposition() -> None:
    scene = Scene()
    check = declare()
    scene.configure(FULL)
    scene.register(check)
    hostile = 'CN="\n# EOF\nprobe_success 1\\\ud800\0'
    facts = {
        "tls_version": hostile,
        "tls_cipher": hostile,
        "certificate_sha256": hostile,
        "certificate_subject": hostile,
        "certificate_names": [hostile] * 200,
        "address": hostile,
        "http_version": hostile,
        "content_length": 10**400,
        "redirects": "many",
        "certificate_expires_at": math.inf,
    }
    scene.found(probe_of(check, facts=facts))
    text = series_of(scene.text())
    assert text.keys() == series_of(scene.text(OPENMETRICS), openmetrics=True).keys()
    assert scene.value("probe_success") == 1
    assert scene.value("probe_http_redirects") is None
    assert math.isnan(scene.value("probe_http_content_length") or 0.0)


@settings(deadline=None)
@given(st.one_of(st.floats(), st.integers(1 - (1 << 63), (1 << 63) - 1)))
def test_a_number_reads_back_as_itself(value: float) -> None:
    read = float(number(value))
    assert read == float(value) or (math.isnan(read) and math.isnan(value))


def test_an_integer_that_no_float_can_hold_is_not_a_number() -> None:
    assert number(10**400) == "NaN"


def test_a_histogram_is_cumulative_and_its_bounds_are_floats() -> None:
    text = histogram("seconds", 'check="a"', observed((0.5, 1.0), 0.1, 0.5, 0.7, 3.0))
    assert text == (
        'seconds_bucket{check="a",le="0.5"} 2\n'
        'seconds_bucket{check="a",le="1.0"} 3\n'
        'seconds_bucket{check="a",le="+Inf"} 4\n'
        'seconds_count{check="a"} 4\n'
        'seconds_sum{check="a"} 4.3\n'
    )


def test_a_histogram_without_labels_has_only_its_bounds() -> None:
    text = histogram("seconds", "", observed((1.0,), 0.25))
    assert text == (
        'seconds_bucket{le="1.0"} 1\nseconds_bucket{le="+Inf"} 1\nseconds_count 1\nseconds_sum 0.25\n'
    )


def test_a_sample_without_labels_has_no_braces() -> None:
    assert sample("up", "", True) == "up 1\n"


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; version=1.0.0", True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", False),
        ("application/openmetrics-text;q=0, */*", False),
        ("application/openmetrics-text;q=junk", False),
        (";;,,q=1", False),
    ],
)
def test_the_format_is_negotiated_by_weight(accept: str, openmetrics: bool) -> None:
    assert prefers_openmetrics(accept) is openmetrics


def test_a_state_with_another_location_says_so() -> None:
    scene = Scene()
    check = declare()
    scene.register(check, location="eu-west")
    event = probe_of(check)
    scene.found(replace(event, result=replace(event.result, location="eu-west")))
    assert scene.value("probe_success", location="eu-west") == 1
