"""docs/api.md names every route, and what it says of limits is what holds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.web.running import site_with
from watchbill.web import server
from watchbill.web.api import MOST_RESULTS

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.anyio


def documented() -> set[tuple[str, str]]:
    table = PAGE.partition("| route | answers |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    return {(method, path) for cell in cells for method, path in re.findall(r"`(\w+) ([^`]+)`", cell)}


async def test_every_route_stands_there_and_answers() -> None:
    site = site_with()
    async with site.client() as client:
        described = (await client.get("/api/v1/openapi.json")).json()["paths"]
        for method, path in documented():
            answer = await client.request(method, path.replace("{check_id}", "shop"))
            assert answer.status_code not in {405, 500}, path
            assert answer.status_code != 404 or "heartbeats" in path
    api = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert api <= documented()
    assert len(documented()) == len(api) + 9


async def test_every_example_is_json() -> None:
    examples = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        assert isinstance(json.loads(example), dict)


async def test_the_fields_of_a_check_are_all_named() -> None:
    async with site_with().client() as client:
        check = (await client.get("/api/v1/checks/shop")).json()
        config = (await client.get("/api/v1/config")).json()
    assert {name for name in (*check, *config) if f"`{name}`" not in PAGE} == set()


async def test_the_limits_are_those_of_the_server() -> None:
    limits = " ".join(PAGE.partition("## Limits")[2].split())
    for said in (
        f"{server.LARGEST_HEAD_BYTES >> 10} KiB and has {server.HEAD_SECONDS:g} seconds",
        f"has {server.RESPONSE_SECONDS:g} seconds to be taken",
        f"at most {server.MOST_FIELDS} fields",
        f"up to {server.LARGEST_BODY_BYTES >> 20} MiB, and in at most {server.MOST_PIECES} pieces",
        f"most {server.MOST_PIPELINED} requests wait behind each other",
        f"closed after {server.KEEP_ALIVE_SECONDS} seconds",
        f"more than {server.MOST_CONNECTIONS} connections",
        f"have {server.GRACE_SECONDS} seconds to end",
    ):
        assert said in limits
    assert f"up to {MOST_RESULTS:,}" in PAGE
