"""``dns_sd``: DNS names whose records are targets, and what the records make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from watchbill.domain.checks import DnsName, Port
from watchbill.domain.reach import ResolverAddress
from watchbill.domain.rules import Declared, declared_problem, listed
from watchbill.domain.units import Duration


class DnsSd(Declared):
    """Targets from DNS records, as Prometheus' `dns_sd` has them."""

    names: Annotated[tuple[DnsName, ...], BeforeValidator(listed), Field(min_length=1, max_length=100)]
    """The names to ask for, such as `_http._tcp.shop.example`; one without a dot at its end is also tried with the search list of `/etc/resolv.conf`."""
    type: Literal["SRV", "A", "AAAA", "MX", "NS"] = "SRV"
    """The type of the records."""
    port: Port | None = None
    """The targets' port, for every type but SRV, whose records have one."""
    refresh: Duration = timedelta(seconds=30)
    """How often the names are asked for."""
    resolver: ResolverAddress | None = None
    """The DNS server to ask instead of the system's: its IP address, with or without a port. It gets no search list."""

    @model_validator(mode="after")
    def _port_where_there_is_none(self) -> DnsSd:
        if self.type == "SRV" and self.port is not None:
            raise declared_problem("port", "SRV records have ports of their own; leave port out")
        if self.type != "SRV" and self.port is None:
            raise declared_problem("type", f"{self.type} records have no port; declare it as `port`")
        return self


def record_targets(name: str, options: DnsSd, records: Iterable[str]) -> tuple[Mapping[str, str], ...]:
    """Targets of records in the form of a zone file, sorted, so that their order in an answer changes nothing."""
    targets = (_target(name, options, text) for text in records)
    different = {tuple(sorted(one.items())): one for one in targets if one is not None}
    return tuple(different[labels] for labels in sorted(different))


def _target(name: str, options: DnsSd, text: str) -> Mapping[str, str] | None:
    labels = {"__meta_dns_name": name}
    words = text.split()
    host, port = words[-1], options.port
    match options.type:
        case "SRV":
            port = int(words[2])
            labels |= {"__meta_dns_srv_record_target": host, "__meta_dns_srv_record_port": str(port)}
        case "MX":
            labels["__meta_dns_mx_record_target"] = host
        case "NS":
            labels["__meta_dns_ns_record_target"] = host
        case "A" | "AAAA":
            pass
    if host == ".":
        return None  # there is decidedly no such service (RFC 2782, RFC 7505)
    bare = host.removesuffix(".")
    return {"__address__": f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}", **labels}
