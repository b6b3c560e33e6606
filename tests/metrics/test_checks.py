"""What each check shows: which families, under which labels, and when they are absent."""

from __future__ import annotations

from typing import Any

import pytest
from tests.metrics.states import (
    ADDRESS_FACTS,
    DECLARED,
    FACTS,
    START,
    TLS_FACTS,
    Scene,
    declare,
    probe_of,
    refused,
)

from watchbill.domain.checks import TYPE_NAMES
from watchbill.domain.config import MetricsOptions
from watchbill.domain.messages import CheckDeleted, SlotSkipped
from watchbill.domain.results import Failure, Outcome, Reason, SkipReason, Trigger
from watchbill.domain.series import BUDGET, SERIES
from watchbill.domain.stalls import STALLED
from watchbill.domain.units import SECOND
from watchbill.metrics import CHECK_FAMILIES
from watchbill.metrics.blackbox import address_hash


def probed(scene: Scene, name: str = "shop") -> set[str]:
    return {sample for sample in scene.names(name) if sample.startswith("probe_")}


def scene_with(kind: str = "http", *failures: Failure, **fields: Any) -> Scene:
    scene = Scene()
    check = declare(type=kind)
    scene.register(check)
    scene.found(probe_of(check, *failures, **fields))
    return scene


# --- how many -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPE_NAMES)
def test_a_failing_check_that_saw_everything_has_exactly_the_series_that_plan_counts(kind: str) -> None:
    scene = scene_with(kind, Failure(Reason.LATENCY, "too slow"))
    series = [name for name, labels in scene.series() if ("check", "shop") in labels]
    assert len(series) == SERIES[kind], sorted(series)


@pytest.mark.parametrize("kind", TYPE_NAMES)
def test_the_series_of_a_type_stay_within_the_budget(kind: str) -> None:
    assert SERIES[kind] <= BUDGET[kind] <= 48
    assert set(SERIES) == set(BUDGET) == set(TYPE_NAMES)


def test_every_family_that_is_declared_is_shown_by_some_check() -> None:
    scene = Scene()
    scene.configure(MetricsOptions(phases=True, certificates=True, details=True))
    for kind in DECLARED:
        check = declare(kind, kind)
        scene.register(check)
        scene.found(probe_of(check, Failure(Reason.LATENCY, "too slow")))
    pings = declare("pings", "icmp", count=2)
    scene.register(pings)
    scene.found(probe_of(pings, facts={**FACTS["icmp"], "packets_sent": 2, "rtt_stddev": 0.01}))
    headers = {line.split()[2] for line in scene.text().splitlines() if line.startswith("# TYPE")}
    assert {family.name for family in CHECK_FAMILIES} - headers == set()


# --- labels -------------------------------------------------------------------------------------------


def test_every_series_of_a_check_has_the_common_labels_and_the_declared_ones() -> None:
    scene = Scene()
    check = declare(labels={"env": "prod", "version": "declared"}, service="web")
    scene.configure(MetricsOptions(certificates=True, details=True))
    scene.register(check, location="eu")
    scene.found(probe_of(check, refused()))
    own = [dict(labels) for name, labels in scene.series() if ("check", "shop") in labels]
    common = {"check": "shop", "location": "eu", "service": "web", "type": "http", "env": "prod"}
    assert all(common.items() <= labels.items() for labels in own)
    assert scene.value("probe_success", version="declared") == 0
    assert scene.value("probe_tls_version_info", version="TLS 1.3") == 1


def test_declared_labels_may_differ_from_check_to_check() -> None:
    scene = Scene()
    scene.register(declare("a", labels={"env": "prod"}), declare("b", labels={"team": "x"}), declare("c"))
    assert scene.value("watchbill_check_info", check="a", env="prod") == 1
    assert scene.value("watchbill_check_info", check="b", team="x") == 1
    assert scene.value("watchbill_check_info", check="c") == 1


def test_the_target_is_without_credentials_and_query() -> None:
    scene = Scene()
    check = declare(url="https://user:hunter2-secret@shop.example/health?token=abc#top")
    scene.register(check)
    scene.found(probe_of(check))
    assert scene.value("probe_success", target="https://shop.example/health") == 1
    assert "hunter2" not in scene.text()
    assert "token" not in scene.text()


def test_only_probe_families_and_the_info_have_the_target() -> None:
    scene = scene_with()
    with_target = {name for name, labels in scene.series() if "target" in dict(labels)}
    assert with_target == probed(scene) | {"watchbill_check_info"}


# --- when they are there ------------------------------------------------------------------------------


def test_before_the_first_result_only_what_is_declared_and_counted_is_there() -> None:
    scene = Scene()
    scene.register(declare())
    assert scene.names() == {
        "watchbill_check_info",
        "watchbill_check_interval_seconds",
        "watchbill_check_slots_total",
        "watchbill_check_latency_seconds_bucket",
        "watchbill_check_latency_seconds_count",
        "watchbill_check_latency_seconds_sum",
    }
    slots = {
        dict(labels)["outcome"]: value
        for (name, labels), value in scene.series().items()
        if name == "watchbill_check_slots_total"
    }
    assert slots == dict.fromkeys(Outcome, 0)


def test_an_error_takes_the_probe_families_away_and_leaves_the_status() -> None:
    scene = scene_with()
    before = scene.value("watchbill_check_status")
    scene.found(probe_of(declare(), Failure(Reason.DESCRIPTORS, "no descriptors left")))
    assert (before, scene.value("watchbill_check_status")) == (1, 1)
    assert probed(scene) == set()
    assert scene.value("watchbill_check_slots_total", outcome="error") == 1
    assert scene.value("watchbill_check_failing") is None


@pytest.mark.parametrize("kind", ["http", "tcp", "tls", "dns", "icmp"])
def test_a_result_over_a_stall_of_our_own_shows_all_but_durations(kind: str) -> None:
    usual = scene_with(kind)
    stalled = scene_with(kind, facts={**FACTS[kind], STALLED: 0.08})
    hidden = probed(usual) - probed(stalled)
    assert "probe_duration_seconds" in hidden
    assert all("duration" in name or "lookup_time" in name for name in hidden)
    assert not any("duration" in name or "lookup_time" in name for name in probed(stalled))
    assert stalled.value("watchbill_check_latency_seconds_count") == 0
    assert stalled.value("watchbill_results_stalled_total") == 1


def test_round_trips_over_a_stall_of_our_own_are_not_shown() -> None:
    pings, scene = declare("pings", "icmp", count=2), Scene()
    scene.register(pings)
    scene.found(
        probe_of(pings, facts={**FACTS["icmp"], "packets_sent": 2, "rtt_stddev": 0.01, STALLED: 0.08})
    )
    shown = {sample for sample in scene.names("pings") if sample.startswith("probe_")}
    assert "probe_success" in shown
    assert not any("rtt" in name for name in shown)


def test_an_excused_probe_keeps_its_verdict() -> None:
    scene = scene_with("http", outcome=Outcome.EXCUSED, verdict=Outcome.FAILURE)
    assert scene.value("probe_success") == 0
    assert scene.value("watchbill_check_slots_total", outcome="excused") == 1


def test_a_disabled_check_shows_what_it_is_and_no_verdict() -> None:
    scene = scene_with("http", refused())
    scene.register(declare(enabled=False))
    assert probed(scene) == set()
    assert scene.value("watchbill_check_status") is None
    assert scene.value("watchbill_check_failing") is None
    assert scene.value("watchbill_check_info") == 1
    assert scene.value("watchbill_check_interval_seconds") == 30
    assert scene.value("watchbill_check_slots_total", outcome="failure") == 1


def test_a_result_is_stale_after_two_intervals_and_a_timeout() -> None:
    scene = scene_with()
    limit = (2 * 30 + 5) * SECOND
    scene.clock.instant = START + limit
    assert scene.value("probe_success") == 1
    scene.clock.instant += 1
    assert probed(scene) == set()
    assert scene.value("watchbill_check_status") == 1
    assert scene.value("watchbill_check_last_result_timestamp_seconds") == START / SECOND
    scene.found(probe_of(declare(), at=scene.clock.instant))
    assert scene.value("probe_success") == 1


def test_probe_families_can_be_switched_off() -> None:
    scene = scene_with()
    scene.configure(MetricsOptions(probe=False))
    assert probed(scene) == set()
    assert scene.value("watchbill_check_status") == 1


def test_a_deleted_check_is_gone_at_the_next_scrape_and_starts_anew_under_its_id() -> None:
    scene = scene_with()
    check = scene.board.checks["shop"].check
    assert scene.names()
    scene.board.deleted(CheckDeleted(check, START, ""))
    assert scene.names() == set()
    scene.register(check)
    assert scene.value("watchbill_check_slots_total", outcome="success") == 0
    assert probed(scene) == set()


def test_a_changed_check_shows_its_new_declaration_and_goes_on_counting() -> None:
    scene = scene_with()
    assert scene.value("watchbill_check_interval_seconds") == 30
    scene.register(declare(interval="10s", labels={"env": "new"}, url="https://other.example/"))
    assert scene.value("watchbill_check_interval_seconds", env="new") == 10
    assert scene.value("watchbill_check_info", target="https://other.example/") == 1
    assert scene.value("watchbill_check_slots_total", outcome="success") == 1


# --- what they say ------------------------------------------------------------------------------------


def test_a_failing_check_has_one_reason_and_a_mended_one_none() -> None:
    scene = scene_with("http", Failure(Reason.LATENCY, "slow"), Failure(Reason.STATUS, "500"))
    assert scene.value("watchbill_check_failing", reason="status") == 1
    assert scene.value("watchbill_check_status") == 0
    scene.found(probe_of(declare()))
    assert scene.value("watchbill_check_failing") is None
    assert scene.value("watchbill_check_status") == 1


def test_only_successes_in_slots_count_as_latency() -> None:
    scene = scene_with("http", seconds=0.2)
    scene.found(probe_of(declare(), refused(), seconds=0.001))
    scene.found(probe_of(declare(), trigger=Trigger.MANUAL, seconds=3.0))
    assert scene.value("watchbill_check_latency_seconds_count") == 1
    assert scene.value("watchbill_check_latency_seconds_sum") == 0.2
    assert scene.value("watchbill_check_latency_seconds_bucket", le="0.25") == 1
    assert scene.value("watchbill_check_latency_seconds_bucket", le="0.1") == 0
    assert scene.value("probe_duration_seconds") == 3


def test_a_skipped_slot_is_counted_with_its_reason() -> None:
    scene = scene_with()
    scene.board.skipped_slot(SlotSkipped("shop", "", START, SkipReason.OVERLAP))
    assert scene.value("watchbill_check_slots_total", outcome="skipped") == 1
    assert scene.value("watchbill_slots_skipped_total", reason="overlap") == 1
    assert scene.value("watchbill_slots_skipped_total", reason="overload") == 0


def test_an_https_probe_has_blackbox_s_values() -> None:
    scene = scene_with("http", seconds=0.5)
    expected = {
        "probe_success": 1,
        "probe_duration_seconds": 0.5,
        "probe_failed_due_to_regex": 0,
        "probe_ip_protocol": 4,
        "probe_dns_lookup_time_seconds": 0.002,
        "probe_http_status_code": 200,
        "probe_http_version": 1.1,
        "probe_http_redirects": 1,
        "probe_http_ssl": 1,
        "probe_http_content_length": 512,
        "probe_http_uncompressed_body_length": 512,
        "probe_ssl_earliest_cert_expiry": 1_800_000_000,
        "probe_tls_version_info": 1,
    }
    assert {name: scene.value(name) for name in expected} == expected
    phases = {
        phase: scene.value("probe_http_duration_seconds", phase=phase)
        for phase in ("resolve", "connect", "tls", "processing", "transfer")
    }
    assert phases == dict.fromkeys(phases, 0.1)


def test_phases_that_were_not_reached_are_0_and_an_unresolved_name_has_one() -> None:
    scene = scene_with(
        "http", refused(), phases={"resolve": 0.1, "connect": 0.2}, facts=ADDRESS_FACTS, status_code=None
    )
    assert scene.value("probe_http_duration_seconds", phase="connect") == 0.2
    assert scene.value("probe_http_duration_seconds", phase="tls") == 0
    assert scene.value("probe_http_status_code") == 0
    assert scene.value("probe_http_ssl") == 0
    scene.found(probe_of(declare(), Failure(Reason.DNS, "no such name"), phases={"resolve": 0.1}, facts={}))
    phases = [
        dict(labels)["phase"] for name, labels in scene.series() if name == "probe_http_duration_seconds"
    ]
    assert phases == ["resolve"]
    assert scene.value("probe_dns_lookup_time_seconds") == 0.1
    assert scene.value("probe_ip_protocol") is None


@pytest.mark.parametrize(("reason", "value"), [(Reason.BODY, 1), (Reason.HEADER, 1), (Reason.STATUS, 0)])
def test_a_text_that_does_not_match_is_told_as_blackbox_does(reason: Reason, value: int) -> None:
    assert scene_with("http", Failure(reason, "…")).value("probe_failed_due_to_regex") == value


def test_a_certificate_that_does_not_verify_is_still_told_of() -> None:
    facts = {**FACTS["tls"], "certificate_problem": "expired"}
    scene = scene_with("tls", Failure(Reason.CERTIFICATE, "expired"), facts=facts)
    assert scene.value("probe_ssl_earliest_cert_expiry") == TLS_FACTS["certificate_expires_at"]


def test_dns_icmp_and_heartbeat_have_families_of_their_own() -> None:
    dns, icmp, job = scene_with("dns", seconds=0.2), scene_with("icmp"), scene_with("heartbeat")
    assert dns.value("probe_dns_duration_seconds", phase="request") == 0.1
    assert dns.value("probe_dns_duration_seconds", phase="connect") == 0
    assert (dns.value("probe_dns_answer_rrs"), dns.value("probe_dns_serial")) == (1, 2026112201)
    assert icmp.value("probe_icmp_duration_seconds", phase="rtt") == 0.02
    assert icmp.value("probe_icmp_reply_hop_limit") == 57
    assert icmp.value("watchbill_check_loss_ratio") == 0.25
    assert job.value("watchbill_check_last_heartbeat_timestamp_seconds") == 1_789_999_000.5
    assert job.value("watchbill_check_latency_seconds_count") is None


def test_several_echoes_have_a_shortest_a_longest_and_a_deviation() -> None:
    facts = {**FACTS["icmp"], "packets_sent": 4, "packets_received": 3, "rtt_stddev": 0.008}
    scene = scene_with("icmp", facts=facts)
    assert [scene.value(f"probe_icmp_rtt_{figure}_seconds") for figure in ("min", "max", "stddev")] == [
        0.01,
        0.03,
        0.008,
    ]
    lost = scene_with(
        "icmp", Failure(Reason.LOSS, "all lost"), facts={"loss_percent": 100.0, "packets_sent": 4}
    )
    assert lost.value("probe_icmp_rtt_min_seconds") is None


def test_dns_over_tls_tells_of_the_certificate() -> None:
    scene = scene_with("dns", facts={**FACTS["dns"], **TLS_FACTS})
    assert scene.value("probe_ssl_earliest_cert_expiry") == TLS_FACTS["certificate_expires_at"]
    assert scene.value("probe_tls_version_info", version="TLS 1.3") == 1


def test_an_echo_that_never_came_back_has_loss_and_no_round_trip() -> None:
    facts = {"ip_protocol": 4, "loss_percent": 100.0, "rtt_avg": None, "hop_limit": None}
    scene = scene_with("icmp", Failure(Reason.LOSS, "all lost"), facts=facts)
    assert scene.value("watchbill_check_loss_ratio") == 1
    phases = [
        dict(labels)["phase"] for name, labels in scene.series() if name == "probe_icmp_duration_seconds"
    ]
    assert phases == ["resolve"]
    assert scene.value("probe_icmp_reply_hop_limit") is None


OPT_IN = {
    "certificates": {"probe_ssl_last_chain_info"},
    "details": {
        "probe_tls_cipher_info",
        "probe_ip_addr_hash",
        "probe_http_last_modified_timestamp_seconds",
    },
    "phases": {f"watchbill_check_phase_seconds_{part}" for part in ("bucket", "count", "sum")},
}


@pytest.mark.parametrize(("switch", "families"), OPT_IN.items())
def test_a_switch_adds_exactly_its_families(switch: str, families: set[str]) -> None:
    scene = scene_with()
    before = scene.names()
    scene.configure(MetricsOptions.model_validate({switch: True}))
    scene.found(probe_of(declare()))
    assert scene.names() - before == families


def test_the_details_of_dns_are_opt_in() -> None:
    scene = scene_with("dns")
    before = scene.names()
    scene.configure(MetricsOptions(details=True))
    assert scene.names() - before == {
        "probe_ip_protocol",
        "probe_dns_query_succeeded",
        "probe_dns_authority_rrs",
        "probe_dns_additional_rrs",
    }


def test_the_buckets_are_the_declared_ones() -> None:
    scene = scene_with()
    scene.configure(MetricsOptions(buckets=(0.5, 2)))
    bounds = [
        dict(labels)["le"]
        for name, labels in scene.series()
        if name == "watchbill_check_latency_seconds_bucket"
    ]
    assert bounds == ["0.5", "2.0", "+Inf"]


@pytest.mark.parametrize(
    ("address", "hashed"),
    [
        ("97.98.99.100", 0xCE3479BD),  # FNV-1a of "abcd"
        ("shop.example", None),
        ("", None),
        (None, None),
    ],
)
def test_an_address_is_hashed_over_its_bytes(address: Any, hashed: int | None) -> None:
    assert address_hash(address) == hashed
