"""The series of one check, made from its state: a text for each family, empty where the family is absent."""

from __future__ import annotations

from watchbill.board import CheckState
from watchbill.domain.checks import Check, Heartbeat, Icmp
from watchbill.domain.config import MetricsOptions
from watchbill.domain.results import Outcome, Result
from watchbill.domain.status import STATUS_VALUE
from watchbill.domain.units import SECOND, Instant, to_micros
from watchbill.metrics.blackbox import DIGITS, AsText, LastProbe, Lines, numeric
from watchbill.metrics.exposition import Family, escape, histogram, sample
from watchbill.metrics.labels import CheckLabels

VERDICTS = (Outcome.SUCCESS, Outcome.FAILURE)

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
    Family("probe_icmp_rtt_min_seconds", "gauge", "Shortest round trip of the probe's echo requests"),
    Family("probe_icmp_rtt_max_seconds", "gauge", "Longest round trip of the probe's echo requests"),
    Family("probe_icmp_rtt_stddev_seconds", "gauge", "Standard deviation of the round trips of the probe's echo requests"),
)  # fmt: skip
_NAMES = tuple(family.name for family in CHECK_FAMILIES)
_NOTHING = ("",) * len(CHECK_FAMILIES)

Row = tuple[bytes, ...]


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
        if verdict in VERDICTS:
            lines |= _judged_lines(state.check, result, labels)
            if options.probe:
                lines |= LastProbe(state.check, result, AsText(labels), options).found(
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
    if isinstance(check, Icmp) and (loss := numeric(result.facts.get("loss_percent"))) is not None:
        name = "watchbill_check_loss_ratio"
        lines[name] = sample(name, text.own, round(loss / 100, DIGITS))
    if isinstance(check, Heartbeat) and (seen := numeric(result.facts.get("last_seen_at"))) is not None:
        name = "watchbill_check_last_heartbeat_timestamp_seconds"
        lines[name] = sample(name, text.own, seen)
    return lines
