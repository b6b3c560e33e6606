"""Rules that somebody has spoilt, each in one way: what tests of rules must notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import yaml


@dataclass(frozen=True)
class Mutation:
    """One way to spoil the rule of that name. ``spoil``: a rule as plain values -> the same, spoilt."""

    kind: str
    alert: str
    spoil: Callable[[dict[str, object]], dict[str, object]]

    def __str__(self) -> str:
        return f"{self.alert}: {self.kind}"


def spoilt(rules: str, mutation: Mutation) -> str:
    """The rules with the first of that name spoilt.

    :raises AssertionError: the mutation changes nothing.
    """
    document = yaml.safe_load(rules)
    for group in document["groups"]:
        for index, rule in enumerate(group["rules"]):
            if rule.get("alert", rule.get("record")) == mutation.alert:
                group["rules"][index] = mutation.spoil(dict(rule))
                assert group["rules"][index] != rule, f"{mutation} changes nothing"
                return str(yaml.safe_dump(document, sort_keys=False))
    raise AssertionError(f"there is no rule {mutation.alert}")


def expression(old: str, new: str) -> Callable[[dict[str, object]], dict[str, object]]:
    """Every ``old`` in the expression becomes ``new``."""
    return lambda rule: {**rule, "expr": str(rule["expr"]).replace(old, new)}


def hold(new: str) -> Callable[[dict[str, object]], dict[str, object]]:
    return lambda rule: {**rule, "for": new}


def no_hold(rule: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in rule.items() if name != "for"}


def label(name: str, value: str) -> Callable[[dict[str, object]], dict[str, object]]:
    return lambda rule: {**rule, "labels": {**_mapping(rule["labels"]), name: value}}


def no_label(name: str) -> Callable[[dict[str, object]], dict[str, object]]:
    return lambda rule: {
        **rule,
        "labels": {key: value for key, value in _mapping(rule["labels"]).items() if key != name},
    }


def annotation(name: str, old: str, new: str) -> Callable[[dict[str, object]], dict[str, object]]:
    def spoil(rule: dict[str, object]) -> dict[str, object]:
        texts = _mapping(rule["annotations"])
        return {**rule, "annotations": {**texts, name: texts[name].replace(old, new)}}

    return spoil


def _mapping(value: object) -> dict[str, str]:
    assert isinstance(value, dict)
    return value


DOWN, UNWATCHED, UNKNOWN = "WatchbillCheckDown", "WatchbillCheckUnwatched", "WatchbillChecksUnknown"
EXPIRING, EXPIRED = "WatchbillCertificateExpiring", "WatchbillCertificateExpired"
OF_CHECKS = (
    Mutation("a wait that is too short", DOWN, hold("1m")),
    Mutation("a wait that is too long", DOWN, hold("10m")),
    Mutation("no wait", DOWN, no_hold),
    Mutation("another comparison", DOWN, expression("== 0", "== 1")),
    Mutation("no bridge over a restart", DOWN, expression("last_over_time(", "(0 * ")),
    Mutation("a shorter bridge", DOWN, expression("[6m]", "[30s]")),
    Mutation("another severity", DOWN, label("severity", "info")),
    Mutation("no owner", DOWN, no_label("owner")),
    Mutation("one process' labels kept", DOWN, expression("without (instance, pod, container, endpoint, node)", "without ()")),
    Mutation("by instead of without", DOWN, expression("max without", "max by")),
    Mutation("a check that is missing", DOWN, expression("shop\\\\.home|", "")),
    Mutation("a dot that is any letter", DOWN, expression("shop\\\\.home", "shop-home")),
    Mutation("another job", DOWN, expression("watchbill.*", "blackbox.*")),
    Mutation("min instead of max of both sides", DOWN, expression("or\n", "and\n")),
    Mutation("another runbook", DOWN, annotation("runbook_url", "https", "http")),
    Mutation("no reason", DOWN, annotation("description", "watchbill_check_failing", "watchbill_check_status")),
    Mutation("no set difference", UNKNOWN, expression("unless on", "and on")),
    Mutation("a wait that is too short", UNKNOWN, hold("10s")),
    Mutation("another threshold", UNWATCHED, expression("< 0.5", "< 0.7")),
    Mutation("a threshold that is too low", UNWATCHED, expression("< 0.5", "< 0.3")),
    Mutation("excused slots asked for", UNWATCHED, expression('outcome!="excused"', 'outcome!=""')),
    Mutation("failures are no verdict", UNWATCHED, expression("success|failure", "success")),
    Mutation("a wait within the window", UNWATCHED, hold("10m")),
    Mutation("a threshold that is too early", EXPIRING, expression("37 *", "39 *")),
    Mutation("a threshold that is too late", EXPIRING, expression("37 *", "35 *")),
    Mutation("no bridge over an error", EXPIRING, expression("[10m]", "[1s]")),
    Mutation("rings on when it is over", EXPIRING, expression(" > 0", "")),
    Mutation("another comparison", EXPIRED, expression("<= 0", "<= 86400")),
    Mutation("never", EXPIRED, expression("<= 0", "<= -86400")),
)  # fmt: skip
OF_ITSELF = (
    Mutation("down is up", "WatchbillExporterDown", expression("== 0", "== 1")),
    Mutation("a wait that is too short", "WatchbillExporterDown", hold("1m")),
    Mutation("another job", "WatchbillExporterAbsent", expression("watchbill.*", ".*")),
    Mutation("a wait that is too short", "WatchbillExporterAbsent", hold("1m")),
    Mutation("any configuration will do", "WatchbillConfigMismatch", expression("digest!=", "digest=")),
    Mutation("a wait shorter than a rollout", "WatchbillConfigMismatch", hold("5m")),
    Mutation("success rings", "WatchbillConfigReloadFailed", expression("== 0", "== 1")),
    Mutation("a good web configuration rings", "WatchbillWebConfigReloadFailed", expression("== 0", "== 1")),
    Mutation("another label", "WatchbillLabelsRewritten", expression("exported_service", "exported_job")),
    Mutation("another threshold", "WatchbillCoverageLow", expression("< 0.95", "< 0.99")),
    Mutation("a threshold that is too low", "WatchbillCoverageLow", expression("< 0.95", "< 0.85")),
    Mutation("each check by itself", "WatchbillCoverageLow", expression("namespace, location", "namespace, location, check")),
    Mutation("a wait within the window", "WatchbillCoverageLow", hold("5m")),
    Mutation("failures of targets", "WatchbillOwnSideErrors", expression("permission|", "permission|loss|")),
    Mutation("a single error", "WatchbillOwnSideErrors", expression("> 3", "> 1")),
    Mutation("a reason that is missing", "WatchbillOwnSideErrors", expression("permission|", "")),
    Mutation("another counter", "WatchbillHistoryDropping", expression("dropped_rows", "rows")),
    Mutation("also where rows are written", "WatchbillHistoryNotWritten", expression("== 0", ">= 0")),
    Mutation("a wait that is too short", "WatchbillHistoryNotWritten", hold("1m")),
    Mutation("another threshold", "WatchbillHistoryLagging", expression("> 30", "> 31")),
    Mutation("also where none is written", "WatchbillHistoryLagging", expression("[5m]) > 0)", "[5m]))")),
    Mutation("another quantile", "WatchbillEventLoopLag", expression("0.99", "0.9")),
    Mutation("another bound", "WatchbillEventLoopLag", expression("> 0.05", "> 0.08")),
    Mutation("never", "WatchbillHandlerErrors", expression("> 0", "> 1e9")),
    Mutation("a wait that one failure fills", "WatchbillDiscoveryFailing", hold("10m")),
    Mutation("a wait that two failures fill", "WatchbillDiscoveryFailing", hold("15m")),
    Mutation("no failure in the window", "WatchbillDiscoveryFailing", expression("[15m]", "[3m]")),
    Mutation("one failure seen for ever", "WatchbillDiscoveryFailing", expression("[15m]", "[2h]")),
    Mutation("each process by itself", "WatchbillDiscoveryFailing", expression("(job,", "(job, instance,")),
    Mutation("another block", "WatchbillDiscoveryFailing", expression("pods", "services")),
    Mutation("no discovery", "WatchbillDiscoveryTargetsDropped", expression("discovery,", "")),
    Mutation("also where none is dropped", "WatchbillDiscoveryTargetsDropped", expression("> 0", ">= 0")),
    Mutation("no wait", "WatchbillDiscoveryTargetsDropped", no_hold),
    Mutation("another gauge", "WatchbillDiscoveryTargetsKept", expression("kept_targets", "targets")),
    Mutation("also where none is kept", "WatchbillDiscoveryTargetsKept", expression("> 0", ">= 0")),
    Mutation("never", "WatchbillWatchdog", expression("vector(1)", "vector(1) > 2")),
)  # fmt: skip
