"""The front door: the table from a check's type to its prober."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from watchbill.domain.units import Instant
from watchbill.fence import fenced
from watchbill.ports import Judge, Network
from watchbill.probes import dns, heartbeat, http, icmp, tcp, tls
from watchbill.probes.attempt import Prober
from watchbill.probes.execute import make_execute
from watchbill.probes.kept import Kept
from watchbill.probes.prepared import PerCheck

__all__ = ["Kept", "make_execute", "probers"]


def probers(
    network: Network,
    clock_now: Callable[[], Instant],
    judge: Judge,
    last_heartbeat: Callable[[str], Instant],
    kept: Kept | None = None,
) -> Mapping[str, Prober]:
    """One prober per type. ``last_heartbeat``: the later of the last ping and the first registration, by check id.

    ``kept`` is where connections stay between probes; without it each is closed with its probe.
    """
    network = fenced(network)
    http.user_agent()  # reads a file, which a process short of descriptors cannot
    return {
        "http": partial(
            http.probe,
            network=network,
            now=clock_now,
            judge=judge,
            prepared=PerCheck(http.prepare).of,
            kept=kept,
        ),
        "tcp": partial(tcp.probe, network=network, judge=judge),
        "tls": partial(tls.probe, network=network, now=clock_now),
        "dns": partial(dns.probe, network=network, now=clock_now, judge=judge),
        "icmp": partial(icmp.probe, network=network),
        "heartbeat": partial(heartbeat.probe, now=clock_now, last_seen=last_heartbeat),
    }
