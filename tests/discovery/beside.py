"""``python -m tests.discovery.beside FOLDER``, within a namespace: Prometheus and Watchbill ask one name server at a time
that changes its answers; printed is what each of them has after each change, as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from tests.discovery.reports import Told, running
from tests.dns_server import DnsServer, Script, dns_server, rcode, records
from tests.policy.namespace import furnish
from tests.prometheus import Prometheus, eventually, open_prometheus
from watchbill.discovery.dns import dns_source
from watchbill.domain.dns_sd import DnsSd
from watchbill.net import open_network

NAMESERVER = "127.0.0.1"
SRV = "_web._tcp.shop.test."
BLOCKS: Mapping[str, Mapping[str, Any]] = {
    "records": {"names": [SRV]},
    "addresses": {"names": ["a.shop.test", "b.shop.test."], "type": "A", "port": 80},
    "sixes": {"names": ["a.shop.test"], "type": "AAAA", "port": 80},
    "mail": {"names": ["shop.test"], "type": "MX", "port": 25},
    "searched": {"names": ["db"], "type": "A", "port": 5432},
}
Scripts = Mapping[tuple[str, str], Script]
AT_FIRST: Scripts = {
    ("_web._tcp.shop.test", "SRV"): records("SRV", "10 60 8080 one.shop.test.", "5 60 8081 two.shop.test."),
    ("a.shop.test", "A"): records("A", "192.0.2.1"),
    ("a.shop.test", "AAAA"): records("AAAA", "2001:db8::1"),
    ("b.shop.test", "A"): records("A", "192.0.2.2", cnames=[("b.shop.test", "c.shop.test")]),
    ("shop.test", "MX"): records("MX", "10 mx.shop.test."),
    ("db.one.test", "AAAA"): records("AAAA", "2001:db8::2"),
    ("db.two.test", "A"): records("A", "192.0.2.9"),
}
ALL = [
    "192.0.2.1:80",
    "192.0.2.2:80",
    "[2001:db8::1]:80",
    "mx.shop.test:25",
    "one.shop.test:8080",
    "two.shop.test:8081",
]
STEPS: Sequence[tuple[str, Scripts, Sequence[str]]] = (
    ("what is there", AT_FIRST, ALL),
    (
        "one name fails, another has changed",
        {("a.shop.test", "A"): rcode("SERVFAIL"), ("b.shop.test", "A"): records("A", "192.0.2.3")},
        ["192.0.2.3:80" if one == "192.0.2.2:80" else one for one in ALL],
    ),
    (
        "a name does not exist, another has no such record, and the first domain of the search list has one now",
        {
            ("a.shop.test", "A"): rcode("NXDOMAIN"),
            ("b.shop.test", "A"): records("A"),
            ("db.one.test", "A"): records("A", "192.0.2.8"),
        },
        ["192.0.2.8:5432", *ALL[2:]],
    ),
)  # fmt: skip


def theirs(prometheus: Prometheus) -> list[dict[str, str]]:
    dropped = prometheus.ask("targets", state="dropped")["droppedTargets"]
    own = ("__scheme__", "__metrics_path__", "__scrape_interval__", "__scrape_timeout__")
    return _sorted(
        {name: text for name, text in target["discoveredLabels"].items() if name not in own}
        for target in dropped
    )


def ours(told: Mapping[str, Told]) -> list[dict[str, str]]:
    return _sorted(
        {"job": block, **target}
        for block, report in told.items()
        for group in report.targets().values()
        for target in group
    )


def _sorted(targets: Any) -> list[dict[str, str]]:
    return sorted(targets, key=lambda target: sorted(target.items()))


async def main(folder: Path) -> list[dict[str, Any]]:
    furnish(folder, nameserver=NAMESERVER)
    (folder / "resolv.conf").write_text(
        f"nameserver {NAMESERVER}\nsearch one.test two.test\noptions ndots:3 timeout:1 attempts:1\n"
    )
    jobs = [
        {
            "job_name": name,
            "dns_sd_configs": [{**block, "refresh_interval": "200ms"}],
            # Nothing is scraped: what was discovered is what matters here.
            "relabel_configs": [{"source_labels": ["__address__"], "regex": ".*", "action": "drop"}],
        }
        for name, block in BLOCKS.items()
    ]
    async with dns_server(NAMESERVER, 53) as server, open_network() as network:
        server.scripts = dict(AT_FIRST)
        opened = open_prometheus(folder / "prometheus", config={"scrape_configs": jobs})
        prometheus = await anyio.to_thread.run_sync(opened.__enter__)
        told = {name: Told() for name in BLOCKS}
        try:
            async with anyio.create_task_group() as group:
                for name, block in BLOCKS.items():
                    options = DnsSd.model_validate({**block, "refresh": timedelta(milliseconds=200)})
                    group.start_soon(_follow, dns_source(options, look_up=network.look_up), told[name])
                seen = [await _step(server, prometheus, told, *step) for step in STEPS]
                group.cancel_scope.cancel()
        finally:
            await anyio.to_thread.run_sync(partial(opened.__exit__, None, None, None))
    return seen


async def _follow(source: Any, told: Told) -> None:
    async with running(source, told):
        await anyio.sleep_forever()


async def _step(
    server: DnsServer,
    prometheus: Prometheus,
    told: Mapping[str, Told],
    what: str,
    scripts: Scripts,
    wanted: Sequence[str],
) -> dict[str, Any]:
    server.scripts |= scripts

    def addresses(targets: list[dict[str, str]]) -> bool:
        return sorted(target["__address__"] for target in targets) == sorted(wanted)

    look = partial(
        eventually,
        lambda: addresses(theirs(prometheus)) and addresses(ours(told)),
        what=what,
        within_seconds=20,
    )
    try:
        await anyio.to_thread.run_sync(look)
    except AssertionError as error:
        what = f"never: {error}"
    return {"what": what, "theirs": await anyio.to_thread.run_sync(theirs, prometheus), "ours": ours(told)}


if __name__ == "__main__":
    json.dump(anyio.run(main, Path(sys.argv[1])), sys.stdout)
