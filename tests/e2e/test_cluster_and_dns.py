"""The exporter itself follows DNS and a cluster: what they add, change, refuse and lose, and a restart without them."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from cryptography import x509

from tests.dns_server import dns_server, rcode, records
from tests.exporter import Exporter, exporter
from tests.kubernetes_api import kubernetes_api
from tests.kubernetes_objects import ingress
from tests.servers import LOOPBACK, Authority, http_server, path_of, response

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]
INGRESSES = 'discovery="ingresses"'


def declared(folder: Path, *, api: int, dns: int, target: int, authority: Authority) -> Path:
    url = f"http://{LOOPBACK}:{target}"
    blocks = {
        "ingresses": {
            "kubernetes_sd": {
                "role": "ingress", "api_server": f"https://{LOOPBACK}:{api}", "token_file": str(folder / "token"),
                "tls": {"ca_file": authority.ca_file},
            },
            "relabel": [{"source_labels": "__meta_kubernetes_ingress_label_team", "target_label": "team"}],
            "id": "ingress-${each.__meta_kubernetes_ingress_name}",
            "check": {"type": "http", "url": f"{url}${{each.__meta_kubernetes_ingress_path}}", "interval": "1s"},
        },
        "records": {
            "dns_sd": {"names": ["_web._tcp.shop.test"], "resolver": f"{LOOPBACK}:{dns}", "refresh": "100ms"},
            "check": {"type": "http", "url": f"{url}/${{each.__meta_dns_srv_record_port}}", "interval": "1s"},
        },
    }  # fmt: skip
    config = folder / "checks.yaml"
    config.write_text(json.dumps({"version": 1, "discover": blocks}))
    return config


class Seen:
    """An exporter from within the loop that its surroundings run in."""

    def __init__(self, running: Exporter) -> None:
        self.running = running

    def checks(self) -> dict[str, Any]:
        return {check["id"]: check for check in self.running.request("/api/v1/checks").json()["checks"]}

    async def until(self, what: str, holds: Callable[[], Any]) -> None:
        await anyio.to_thread.run_sync(partial(self.running.until, what, holds))

    async def has(self, *ids: str) -> None:
        await self.until(f"its checks are {ids}", lambda: set(self.checks()) == set(ids))

    def failures(self, block: str) -> float:
        return self.running.total("watchbill_discovery_failures_total", block)


async def test_an_exporter_follows_a_cluster_and_dns_and_forgets_neither_over_a_restart(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "token").write_text("token-1")
    issued = authority.issue(x509.IPAddress(ipaddress.ip_address(LOOPBACK)))
    probed: set[str] = set()

    def answer(request: bytes) -> bytes:
        probed.add(path_of(request))
        return response()

    async with http_server(answer) as target, dns_server() as dns, kubernetes_api(issued.context()) as api:
        dns.scripts["_web._tcp.shop.test", "SRV"] = records("SRV", "0 0 8080 a.shop.test.")
        api.put("ingresses", ingress("shop", "shop.test", paths=["/shop"], labels={"team": "shop"}))
        config = declared(tmp_path, api=api.port, dns=dns.port, target=target.port, authority=authority)
        record, other = "records-a.shop.test-8080", "records-b.shop.test-8081"
        start = partial(exporter, config, tmp_path / "run")
        running = start()
        seen = Seen(await anyio.to_thread.run_sync(running.__enter__))
        try:
            await seen.has("ingress-shop", record)
            checks = await anyio.to_thread.run_sync(seen.checks)
            assert {check_id: check["discovery"] for check_id, check in checks.items()} == {
                "ingress-shop": "ingresses", record: "records",
            }  # fmt: skip
            await seen.until("both are probed", lambda: {"/shop", "/8080"} <= probed)
            await seen.until(
                "the label is there",
                lambda: seen.running.total("watchbill_check_info", 'check="ingress-shop"', 'team="shop"'),
            )

            api.put("ingresses", ingress("blog", "blog.test", paths=["/blog"]))
            dns.scripts["_web._tcp.shop.test", "SRV"] = records(
                "SRV", "0 0 8080 a.shop.test.", "0 0 8081 b.shop.test."
            )
            await seen.has("ingress-shop", "ingress-blog", record, other)
            api.remove("ingresses", "default/blog")
            dns.scripts["_web._tcp.shop.test", "SRV"] = records("SRV", "0 0 8081 b.shop.test.")
            await seen.has("ingress-shop", other)

            api.forbidden = {("ingresses", "")}
            dns.scripts["_web._tcp.shop.test", "SRV"] = rcode("SERVFAIL")
            api.end_watches()
            await seen.until(
                "both failures count", lambda: seen.failures(INGRESSES) and seen.failures("records")
            )
            assert set(await anyio.to_thread.run_sync(seen.checks)) == {"ingress-shop", other}
            await anyio.to_thread.run_sync(seen.running.stop)
            assert "token-1" not in seen.running.log.read_text()
        finally:
            await anyio.to_thread.run_sync(partial(running.__exit__, None, None, None))

        again = start()
        seen = Seen(await anyio.to_thread.run_sync(again.__enter__))
        try:
            await seen.until("it has tried", lambda: seen.failures(INGRESSES))
            await seen.has("ingress-shop", other)
            api.forbidden = set()
            api.remove("ingresses", "default/shop")
            await seen.has(other)
        finally:
            await anyio.to_thread.run_sync(partial(again.__exit__, None, None, None))
