"""Our checks as targets for Prometheus."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.web.running import Site, site_with

from watchbill.domain.checks import parse_check
from watchbill.domain.specs import MASK

pytestmark = pytest.mark.anyio
PATH = "/api/v1/targets/http_sd"
DECLARED: dict[str, dict[str, Any]] = {
    "home": {"type": "http", "url": "https://shop.example/a?b=c", "service": "shop", "labels": {"env": "prod"}},
    "port": {"type": "tcp", "host": "db.example", "port": 5432},
    "six": {"type": "tls", "host": "[2001:db8::1]", "port": 443},
    "ping": {"type": "icmp", "host": "192.0.2.1"},
    "name": {"type": "dns", "name": "shop.example", "server": "9.9.9.9"},
    "system": {"type": "dns", "name": "shop.example"},
    "parked": {"type": "tcp", "host": "a.example", "port": 1, "enabled": False},
    "socket": {"type": "http", "url": "http://a.example/", "unix_socket": "/run/a.sock"},
    "socket-too": {"type": "tcp", "unix_socket": "/run/a.sock"},
    "job": {"type": "heartbeat", "every": "1h"},
    "secret": {"type": "http", "url": "https://a.example/s3cr3t", "references": {"url": "https://a.example/${KEY}"}},
    "credentials": {"type": "http", "url": "https://me:s3cr3t@b.example/"},
}  # fmt: skip


def site() -> Site:
    made = site_with(*(parse_check({"id": name, **fields}) for name, fields in DECLARED.items()))
    made.loaded = replace(made.loaded, discovered={"port": "vms"})
    return made


async def asked(**parameters: str) -> list[dict[str, Any]]:
    async with site().client() as client:
        answer = await client.get(PATH, params=parameters)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert "s3cr3t" not in answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_every_check_with_an_address_is_a_target() -> None:
    assert {group["labels"]["__meta_watchbill_check"]: group["targets"] for group in await asked()} == {
        "home": ["https://shop.example/a?b=c"],
        "port": ["db.example:5432"],
        "six": ["[2001:db8::1]:443"],
        "ping": ["192.0.2.1"],
        "name": ["9.9.9.9"],
        "credentials": ["https://b.example/"],
    }
    assert MASK not in str(await asked())


async def test_a_target_tells_of_its_check() -> None:
    [home] = await asked(service="shop")
    assert {name.removeprefix("__meta_watchbill_"): text for name, text in home["labels"].items()} == {
        "check": "home", "type": "http", "service": "shop", "location": "", "interval": "30s", "timeout": "5s",
        "host": "shop.example", "port": "443", "discovery": "", "label_env": "prod",
    }  # fmt: skip
    [port] = await asked(type="tcp")
    assert port["labels"]["__meta_watchbill_discovery"] == "vms"
    assert (port["labels"]["__meta_watchbill_host"], port["labels"]["__meta_watchbill_port"]) == (
        "db.example",
        "5432",
    )


async def test_types_and_services_are_chosen() -> None:
    assert [group["targets"] for group in await asked(type="icmp, dns")] == [["192.0.2.1"], ["9.9.9.9"]]
    assert await asked(type="icmp", service="shop") == []
    assert await asked(service="nobody") == []


async def test_checks_tell_which_block_made_them_and_the_configuration_has_only_those_that_are_declared() -> (
    None
):
    async with site().client() as client:
        checks = (await client.get("/api/v1/checks")).json()["checks"]
        one = (await client.get("/api/v1/checks/port")).json()
        declared = (await client.get("/api/v1/config")).json()["checks"]
    assert {check["id"]: check["discovery"] for check in checks if check["discovery"]} == {"port": "vms"}
    assert one["discovery"] == "vms"
    assert declared.keys() == DECLARED.keys() - {"port"}
