"""The last probe under blackbox_exporter's names and meanings."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Generic, Protocol, TypeVar

from watchbill.domain.checks import Check, Dns, Heartbeat, Http, Icmp, Tcp, Tls
from watchbill.domain.config import MetricsOptions
from watchbill.domain.results import PHASES, Reason, Result
from watchbill.domain.stalls import STALLED
from watchbill.metrics.exposition import number
from watchbill.metrics.labels import CheckLabels

DIGITS = 9
"""Of a second: what the clock's floats say beyond that is noise."""
_TEXT_RULES = (Reason.HEADER, Reason.BODY)
_DURATIONS = (
    "probe_duration_seconds",
    "probe_dns_lookup_time_seconds",
    "probe_http_duration_seconds",
    "probe_dns_duration_seconds",
    "probe_icmp_duration_seconds",
    "probe_icmp_rtt_min_seconds",
    "probe_icmp_rtt_max_seconds",
    "probe_icmp_rtt_stddev_seconds",
)
_HTTP_PHASES = dict(zip(PHASES, PHASES, strict=True))

Lines = dict[str, str]
T = TypeVar("T")
Family_co = TypeVar("Family_co", covariant=True)


class Form(Protocol[Family_co]):
    """What a family's samples become."""

    def one(self, name: str, value: float) -> Family_co: ...

    def info(self, name: str, own: Mapping[str, str]) -> Family_co:
        """Labels of its own, and 1."""
        ...

    def each(self, name: str, label: str, values: list[tuple[str, float]]) -> Family_co:
        """One sample for each value of the label."""
        ...


class AsText:
    """Lines of the exposition."""

    def __init__(self, labels: CheckLabels) -> None:
        self._labels = labels
        self._probe = labels.probe

    def one(self, name: str, value: float) -> str:
        return f"{name}{{{self._probe}}} {number(value)}\n"

    def info(self, name: str, own: Mapping[str, str]) -> str:
        return f"{name}{{{self._labels.with_pairs(own)}}} 1\n"

    def each(self, name: str, label: str, values: list[tuple[str, float]]) -> str:
        probe = self._probe
        return "".join([f'{name}{{{probe},{label}="{of}"}} {number(value)}\n' for of, value in values])


class LastProbe(Generic[T]):
    """The ``probe_*`` samples of one result, by family."""

    def __init__(self, check: Check, result: Result, form: Form[T], options: MetricsOptions) -> None:
        self._check = check
        self._result = result
        self._facts = result.facts
        self._form = form
        self._one = form.one
        self._options = options
        self._found: dict[str, T] = {}

    def found(self, *, success: bool) -> dict[str, T]:
        self._put("probe_success", success)
        self._seconds("probe_duration_seconds", self._result.duration_seconds)
        self._of_type()
        if STALLED in self._facts:  # how long it took is our own doing
            for name in _DURATIONS:
                self._found.pop(name, None)
        return self._found

    def _of_type(self) -> None:
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
        self._phases("probe_http_duration_seconds", _HTTP_PHASES)
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
        self._session()
        if self._options.details:
            self._fact("probe_ip_protocol", "ip_protocol")
            self._put("probe_dns_query_succeeded", "rcode" in self._facts)
            self._fact("probe_dns_authority_rrs", "authority_count")
            self._fact("probe_dns_additional_rrs", "additional_count")

    def _icmp(self) -> None:
        name = "probe_icmp_duration_seconds"
        seconds = {"resolve": self._result.phases.get("resolve"), "rtt": self._facts.get("rtt_avg")}
        values = [
            (phase, round(value, DIGITS))
            for phase, value in seconds.items()
            if isinstance(value, int | float)
        ]
        self._found[name] = self._form.each(name, "phase", values)
        self._fact("probe_icmp_reply_hop_limit", "hop_limit")
        if self._facts.get("packets_sent", 1) > 1:
            for figure in ("min", "max", "stddev"):
                self._seconds(f"probe_icmp_rtt_{figure}_seconds", self._facts.get(f"rtt_{figure}"))

    # --- one sample each ------------------------------------------------------------------------------

    def _put(self, name: str, value: float) -> None:
        self._found[name] = self._one(name, value)

    def _seconds(self, name: str, value: object) -> None:
        if (seen := numeric(value)) is not None:
            self._put(name, round(seen, DIGITS))

    def _number(self, name: str, value: object) -> None:
        if (seen := numeric(value)) is not None:
            self._put(name, seen)

    def _fact(self, name: str, fact: str, default: object = None) -> None:
        self._number(name, self._facts.get(fact, default))

    def _info(self, name: str, own: Mapping[str, str]) -> None:
        self._found[name] = self._form.info(name, own)

    def _phases(self, name: str, shown: Mapping[str, str]) -> None:
        """As blackbox_exporter has it: an unresolved name has one phase, else those not reached are 0."""
        phases = self._result.phases
        if self._result.reason is Reason.DNS:
            shown = {"resolve": "resolve"}
        values = [(label, round(phases.get(phase, 0.0), DIGITS)) for label, phase in shown.items()]
        self._found[name] = self._form.each(name, "phase", values)


def numeric(value: Any) -> float | None:
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
