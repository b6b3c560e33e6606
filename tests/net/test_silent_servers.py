"""Name servers that are silent or fail, on a virtual clock."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.dns_server import (
    DnsServer,
    Script,
    rcode,
    records,
    silence,
)
from tests.net.resolving import (
    GLOBAL_V6,
    ONE,
    ONLY_V4,
    TWO,
    over_wires,
    refusal,
    virtual_time,
)
from watchbill.domain.results import Reason
from watchbill.ports import NetworkError

pytestmark = pytest.mark.anyio


@virtual_time()
async def test_the_next_server_is_asked_after_two_seconds(tmp_path: Path) -> None:
    one, two = DnsServer(ONE, default=silence), DnsServer(TWO, scripts=dict(ONLY_V4))
    begun = anyio.current_time()
    assert await over_wires(tmp_path, one, two).resolve("shop.test") == "192.0.2.3"
    assert anyio.current_time() - begun == pytest.approx(2)
    assert len(one.asked) == len(two.asked) == 1


@virtual_time()
async def test_every_server_is_tried_twice_and_once_more_and_then_our_own_side_fails(tmp_path: Path) -> None:
    one, two = DnsServer(ONE, default=silence), DnsServer(TWO, default=silence)
    begun = anyio.current_time()
    assert await refusal(over_wires(tmp_path, one, two), "shop.test") == (
        Reason.RESOLVER,
        f"no name server answers ({ONE} is silent; {TWO} is silent)",
    )
    assert anyio.current_time() - begun == pytest.approx(9)
    asked = [("udp", "shop.test", "A")] * 3
    assert sorted(one.asked) == sorted(two.asked) == [("udp", ".", "NS"), *asked]


@virtual_time()
async def test_one_failing_and_one_silent_server_speak_of_the_target(tmp_path: Path) -> None:
    one, two = (
        DnsServer(ONE, default=silence),
        DnsServer(TWO, scripts={("shop.test", "A"): rcode("SERVFAIL")}),
    )
    assert await refusal(over_wires(tmp_path, one, two), "shop.test") == (
        Reason.DNS,
        f"shop.test cannot be resolved (SERVFAIL from {TWO})",
    )
    asked = [("udp", "shop.test", "A"), ("udp", ".", "NS")]
    assert two.asked == asked, "who has failed is asked for something else"


@virtual_time()
@pytest.mark.parametrize(
    ("deadline", "said_after", "reason", "said"),
    [
        (5.0, 4.9, Reason.RESOLVER, "no name server answers"),
        (1.5, 1.4, Reason.RESOLVER, "no name server answers"),
        (0.1, 0.09, Reason.TIMEOUT, "shop.test could not be looked up in the time left"),
    ],
)
async def test_a_silent_server_is_named_before_the_callers_deadline(
    tmp_path: Path, deadline: float, said_after: float, reason: Reason, said: str
) -> None:
    begun = anyio.current_time()
    resolver = over_wires(tmp_path, DnsServer(ONE, default=silence))
    with anyio.fail_after(deadline):
        assert await refusal(resolver, "shop.test") == (reason, f"{said} ({ONE} is silent)")
    assert anyio.current_time() - begun == pytest.approx(said_after)


@virtual_time()
@pytest.mark.parametrize("known", [True, False], ids=["another name was known", "no name was known"])
async def test_silence_about_one_name_only_is_no_fault_of_our_own(known: bool, tmp_path: Path) -> None:
    server = DnsServer(ONE, scripts={("slow.test", "A"): silence, **ONLY_V4})
    resolver = over_wires(tmp_path, server)
    if known:
        await resolver.resolve("shop.test")
    assert await refusal(resolver, "slow.test") == (
        Reason.DNS,
        f"slow.test cannot be resolved (no answer, while others get theirs: {ONE} is silent)",
    )


def silent_until(instant: float, then: Script) -> Script:
    return lambda query, transport: then(query, transport) if anyio.current_time() >= instant else []


@virtual_time()
async def test_an_outage_that_ends_while_a_lookup_waits_is_no_fault_of_its_name(tmp_path: Path) -> None:
    """Others, who ask later, get their answers; what was asked before is lost."""
    begun = anyio.current_time()
    server = DnsServer(
        ONE, scripts={("late.test", "A"): silent_until(begun + 0.3, records("A", "192.0.2.9"))}
    )
    with anyio.fail_after(0.8):
        assert await over_wires(tmp_path, server).resolve("late.test") == "192.0.2.9"


@virtual_time()
async def test_an_outage_that_begins_while_a_lookup_waits_is_our_own_sides(tmp_path: Path) -> None:
    server = DnsServer(ONE, scripts={("late.test", "A"): silence, **ONLY_V4})
    resolver = over_wires(tmp_path, server)

    async def ask_and_break() -> None:
        await resolver.resolve("shop.test")
        server.scripts, server.default = {}, silence

    with anyio.fail_after(0.8):
        async with anyio.create_task_group() as group:
            group.start_soon(ask_and_break)
            with pytest.raises(NetworkError, match="no name server answers") as caught:
                await resolver.resolve("late.test")
    assert caught.value.reason is Reason.RESOLVER


@virtual_time()
async def test_a_server_that_fails_for_what_it_knew_before_is_our_own_side(tmp_path: Path) -> None:
    server = DnsServer(ONE, scripts=dict(ONLY_V4), default=rcode("SERVFAIL"))
    resolver = over_wires(tmp_path, server)
    await resolver.resolve("shop.test")
    assert await refusal(resolver, "bogus.test") == (
        Reason.DNS,
        f"bogus.test cannot be resolved (SERVFAIL from {ONE})",
    )
    server.scripts = {}
    assert await refusal(resolver, "bogus.test") == (
        Reason.RESOLVER,
        f"no name server knows any name (SERVFAIL from {ONE})",
    )


@virtual_time()
async def test_a_silent_server_for_ipv6_does_not_hide_the_ipv4_address(tmp_path: Path) -> None:
    server = DnsServer(ONE, scripts={**ONLY_V4, ("shop.test", "AAAA"): silence})
    resolver = over_wires(tmp_path, server)
    (tmp_path / "if_inet6").write_text(GLOBAL_V6)
    assert await resolver.resolve("shop.test") == "192.0.2.3"
