"""The series of one check, made from its state: a text for each family, empty where the family is absent.

The ``probe_*`` families are those of blackbox_exporter, under its names and meanings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from watchbill.board import CheckState
from watchbill.domain.checks import Check, Dns, Heartbeat, Http, Icmp, Tcp, Tls
from watchbill.domain.config import MetricsOptions
from watchbill.domain.results import PHASES, Outcome, Reason, Result
from watchbill.domain.status import STATUS_VALUE
from watchbill.domain.units import SECOND, Instant, to_micros
from watchbill.metrics.exposition import Family, escape, histogram, labels, number, sample

COMMON_LABELS = ("check", "location", "service", "type")
DIGITS = 9
"""Of a second: what the clock's floats say beyond that is noise."""
_VERDICTS = (Outcome.SUCCESS, Outcome.FAILURE)
_TEXT_RULES = (Reason.HEADER, Reason.BODY)

CHECK_FAMILIES: tuple[Family, ...] = (
    Family("watchbill_check_info", "gauge", "What the check probes; always 1.", ("target",)),
    Family("watchbill_check_interval_seconds", "gauge", "How often the check is due."),
    Family("watchbill_check_status", "gauge", "1 up, 0.5 degraded, 0 down; absent while unknown."),
    Family("watchbill_check_failing", "gauge", "1 while the check fails, by its primary reason.", ("reason",)),
    Family("watchbill_check_last_result_timestamp_seconds", "gauge", "When the last probe started."),
    Family("watchbill_check_slots_total", "counter", "Scheduled slots, by how they ended.", ("outcome",)),
    Family("watchbill_check_latency_seconds", "histogram", "How long successful probes took."),
    Family("watchbill_check_phase_seconds", "histogram", "How long the phases of successful probes took.", ("phase",)),
    Family("watchbill_check_loss_ratio", "gauge", "Share of echo requests that got no reply in the last probe."),
    Family("watchbill_check_last_heartbeat_timestamp_seconds", "gauge", "When the job last called in."),
    Family("probe_success", "gauge", "Displays whether or not the probe was a success"),
    Family("probe_duration_seconds", "gauge", "Returns how long the probe took to complete in seconds"),
    Family("probe_failed_due_to_regex", "gauge", "Indicates if probe failed due to regex"),
    Family("probe_ip_protocol", "gauge", "Specifies whether probe ip protocol is IP4 or IP6"),
    Family("probe_ip_addr_hash", "gauge", "Specifies the hash of IP address. It's useful to detect if the IP address changes."),
    Family("probe_dns_lookup_time_seconds", "gauge", "Returns the time taken for probe dns lookup in seconds"),
    Family("probe_http_status_code", "gauge", "Response HTTP status code"),
    Family("probe_http_version", "gauge", "Returns the version of HTTP of the probe response"),
    Family("probe_http_redirects", "gauge", "The number of redirects"),
    Family("probe_http_ssl", "gauge", "Indicates if SSL was used for the final redirect"),
    Family("probe_http_content_length", "gauge", "Length of http content response"),
    Family("probe_http_uncompressed_body_length", "gauge", "Length of uncompressed response body"),
    Family("probe_http_last_modified_timestamp_seconds", "gauge", "Returns the Last-Modified HTTP response header in unixtime"),
    Family("probe_http_duration_seconds", "gauge", "Duration of http request by phase, summed over all redirects", ("phase",)),
    Family("probe_ssl_earliest_cert_expiry", "gauge", "Returns last SSL chain expiry in unixtime"),
    Family("probe_ssl_last_chain_info", "gauge", "Contains SSL leaf certificate information",
           ("fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber")),
    Family("probe_tls_version_info", "gauge", "Returns the TLS version used or NaN when unknown", ("version",)),
    Family("probe_tls_cipher_info", "gauge", "Returns the TLS cipher negotiated during handshake", ("cipher",)),
    Family("probe_dns_duration_seconds", "gauge", "Duration of DNS request by phase", ("phase",)),
    Family("probe_dns_query_succeeded", "gauge", "Displays whether or not the query was executed successfully"),
    Family("probe_dns_answer_rrs", "gauge", "Returns number of entries in the answer resource record list"),
    Family("probe_dns_authority_rrs", "gauge", "Returns number of entries in the authority resource record list"),
    Family("probe_dns_additional_rrs", "gauge", "Returns number of entries in the additional resource record list"),
    Family("probe_dns_serial", "gauge", "Returns the serial number of the zone"),
    Family("probe_icmp_duration_seconds", "gauge", "Duration of icmp request by phase", ("phase",)),
    Family("probe_icmp_reply_hop_limit", "gauge", "Replied packet hop limit (TTL for ipv4)"),
)  # fmt: skip
_NAMES = tuple(family.name for family in CHECK_FAMILIES)
_NOTHING = ("",) * len(CHECK_FAMILIES)

Lines = dict[str, str]
Row = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CheckLabels:
    """The labels of one check's series as text, made once for each revision of the check."""

    own: str
    probe: str
    base: str
    declared: Mapping[str, str]

    def with_pairs(self, own: Mapping[str, str]) -> str:
        """The probe's labels and more; where a declared label has the name of one of them, it gives way."""
        if own.keys() & self.declared.keys():
            kept = {name: value for name, value in self.declared.items() if name not in own}
            return f"{self.base},{labels(kept | dict(own))}"
        return f"{self.probe},{labels(own)}"


def labels_of(state: CheckState) -> CheckLabels:
    check = state.check
    common = labels(
        dict(zip(COMMON_LABELS, (check.id, state.location, check.service or "", check.type), strict=True))
    )
    base = f'{common},target="{escape(state.target)}"'
    declared = f",{labels(check.labels)}" if check.labels else ""
    return CheckLabels(own=common + declared, probe=base + declared, base=base, declared=check.labels)


def fresh_until(state: CheckState) -> Instant:
    """Two intervals and a timeout after its start the last result no longer says how the target is."""
    if state.latest is None:
        return 0
    check = state.check
    return state.latest.started_at + 2 * check.interval_micros + to_micros(check.timeout)


def row_of(state: CheckState, labels: CheckLabels, *, stale: bool, options: MetricsOptions) -> Row:
    """The check's lines in the order of ``CHECK_FAMILIES``."""
    lines = _own_lines(state, labels)
    result = state.latest
    if state.check.enabled and result is not None and not stale:
        verdict = result.verdict or result.outcome
        if verdict in _VERDICTS:
            lines |= _judged_lines(state.check, result, labels)
            if options.probe:
                lines |= _Probe(state.check, result, labels, options).lines(
                    success=verdict is Outcome.SUCCESS
                )
    return tuple([text.encode() for text in map(lines.get, _NAMES, _NOTHING)])


def _own_lines(state: CheckState, text: CheckLabels) -> Lines:
    check, own = state.check, text.own
    slots = "watchbill_check_slots_total"
    lines = {
        "watchbill_check_info": f'watchbill_check_info{{{own},target="{escape(state.target)}"}} 1\n',
        "watchbill_check_interval_seconds": sample(
            "watchbill_check_interval_seconds", own, check.interval_micros / SECOND
        ),
        slots: "".join(
            [
                f'{slots}{{{own},outcome="{outcome.value}"}} {count}\n'
                for outcome, count in state.slots.items()
            ]
        ),
    }
    if not isinstance(check, Heartbeat):
        name = "watchbill_check_latency_seconds"
        lines[name] = histogram(name, own, state.latency)
        name = "watchbill_check_phase_seconds"
        lines[name] = "".join(
            [histogram(name, f'{own},phase="{phase}"', seen) for phase, seen in state.phases.items()]
        )
    if state.latest is not None:
        name = "watchbill_check_last_result_timestamp_seconds"
        lines[name] = sample(name, own, state.latest.started_at / SECOND)
    if check.enabled and (value := STATUS_VALUE.get(state.status)) is not None:
        lines["watchbill_check_status"] = sample("watchbill_check_status", own, value)
    if check.enabled and (reason := state.failing) is not None:
        lines["watchbill_check_failing"] = f'watchbill_check_failing{{{own},reason="{reason.value}"}} 1\n'
    return lines


def _judged_lines(check: Check, result: Result, text: CheckLabels) -> Lines:
    """What blackbox_exporter has no name for, of a result that is a verdict and not stale."""
    lines = {}
    if isinstance(check, Icmp) and (loss := _numeric(result.facts.get("loss_percent"))) is not None:
        name = "watchbill_check_loss_ratio"
        lines[name] = sample(name, text.own, round(loss / 100, DIGITS))
    if isinstance(check, Heartbeat) and (seen := _numeric(result.facts.get("last_seen_at"))) is not None:
        name = "watchbill_check_last_heartbeat_timestamp_seconds"
        lines[name] = sample(name, text.own, seen)
    return lines


class _Probe:
    """The ``probe_*`` lines of one result."""

    def __init__(self, check: Check, result: Result, text: CheckLabels, options: MetricsOptions) -> None:
        self._check = check
        self._result = result
        self._facts = result.facts
        self._text = text
        self._options = options
        self._lines: Lines = {}

    def lines(self, *, success: bool) -> Lines:
        self._put("probe_success", success)
        self._seconds("probe_duration_seconds", self._result.duration_seconds)
        match self._check:
            case Http():
                self._address()
                self._http()
                self._text_rules()
                self._session()
            case Tcp():
                self._address()
                self._text_rules()
            case Tls():
                self._address()
                self._session()
            case Dns():
                self._dns()
            case Icmp():
                self._address()
                self._icmp()
            case Heartbeat():
                pass
        return self._lines

    # --- one group of families each -------------------------------------------------------------------

    def _address(self) -> None:
        self._fact("probe_ip_protocol", "ip_protocol")
        self._lookup()
        if self._options.details and (hashed := address_hash(self._facts.get("address"))) is not None:
            self._put("probe_ip_addr_hash", hashed)

    def _lookup(self) -> None:
        seconds = self._facts.get("dns_lookup_seconds", self._result.phases.get("resolve"))
        self._seconds("probe_dns_lookup_time_seconds", seconds)

    def _http(self) -> None:
        self._put("probe_http_status_code", self._result.status_code or 0)
        self._number("probe_http_version", _float(self._facts.get("http_version")))
        self._fact("probe_http_redirects", "redirects", 0)
        self._fact("probe_http_ssl", "ssl", 0)
        self._fact("probe_http_content_length", "content_length", 0)
        self._fact("probe_http_uncompressed_body_length", "body_bytes", 0)
        self._phases("probe_http_duration_seconds", dict(zip(PHASES, PHASES, strict=True)))
        if self._options.details:
            self._fact("probe_http_last_modified_timestamp_seconds", "last_modified")

    def _text_rules(self) -> None:
        failed = any(failure.reason in _TEXT_RULES for failure in self._result.failures)
        self._put("probe_failed_due_to_regex", failed)

    def _session(self) -> None:
        self._fact("probe_ssl_earliest_cert_expiry", "certificate_expires_at")
        if version := self._facts.get("tls_version"):
            self._info("probe_tls_version_info", {"version": str(version).replace("TLSv", "TLS ")})
        if self._options.details and (cipher := self._facts.get("tls_cipher")):
            self._info("probe_tls_cipher_info", {"cipher": str(cipher)})
        if self._options.certificates and self._facts.get("certificate_sha256"):
            self._certificate()

    def _certificate(self) -> None:
        facts = self._facts
        names = facts.get("certificate_names") or ()
        self._info(
            "probe_ssl_last_chain_info",
            {
                "fingerprint_sha256": str(facts.get("certificate_sha256", "")),
                "subject": str(facts.get("certificate_subject", "")),
                "issuer": str(facts.get("certificate_issuer", "")),
                "subjectalternative": ",".join(map(str, names)),
                "serialnumber": str(facts.get("certificate_serial", "")),
            },
        )

    def _dns(self) -> None:
        self._lookup()
        self._phases(
            "probe_dns_duration_seconds",
            {"resolve": "resolve", "connect": "connect", "request": "processing"},
        )
        self._fact("probe_dns_answer_rrs", "answer_count")
        self._fact("probe_dns_serial", "serial")
        if self._options.details:
            self._fact("probe_ip_protocol", "ip_protocol")
            self._put("probe_dns_query_succeeded", "rcode" in self._facts)
            self._fact("probe_dns_authority_rrs", "authority_count")
            self._fact("probe_dns_additional_rrs", "additional_count")

    def _icmp(self) -> None:
        name = "probe_icmp_duration_seconds"
        seconds = {"resolve": self._result.phases.get("resolve"), "rtt": self._facts.get("rtt_avg")}
        self._lines[name] = "".join(
            [
                f'{name}{{{self._text.probe},phase="{phase}"}} {number(round(value, DIGITS))}\n'
                for phase, value in seconds.items()
                if isinstance(value, int | float)
            ]
        )
        self._fact("probe_icmp_reply_hop_limit", "hop_limit")

    # --- one sample each ------------------------------------------------------------------------------

    def _put(self, name: str, value: float) -> None:
        self._lines[name] = f"{name}{{{self._text.probe}}} {number(value)}\n"

    def _seconds(self, name: str, value: object) -> None:
        if (seen := _numeric(value)) is not None:
            self._put(name, round(seen, DIGITS))

    def _number(self, name: str, value: object) -> None:
        if (seen := _numeric(value)) is not None:
            self._put(name, seen)

    def _fact(self, name: str, fact: str, default: object = None) -> None:
        self._number(name, self._facts.get(fact, default))

    def _info(self, name: str, own: Mapping[str, str]) -> None:
        self._lines[name] = f"{name}{{{self._text.with_pairs(own)}}} 1\n"

    def _phases(self, name: str, shown: Mapping[str, str]) -> None:
        """As blackbox_exporter has it: an unresolved name has one phase, else those not reached are 0."""
        phases, probe = self._result.phases, self._text.probe
        if self._result.reason is Reason.DNS:
            shown = {"resolve": "resolve"}
        self._lines[name] = "".join(
            [
                f'{name}{{{probe},phase="{label}"}} {number(round(phases.get(phase, 0.0), DIGITS))}\n'
                for label, phase in shown.items()
            ]
        )


def _numeric(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def address_hash(address: Any) -> int | None:
    """FNV-1a over the bytes of an address, in 32 bits, as blackbox_exporter does."""
    try:
        packed = ip_address(address).packed
    except ValueError:
        return None
    found = 0x811C9DC5
    for byte in packed:
        found = (found ^ byte) * 0x01000193 & 0xFFFFFFFF
    return found
