"""Every spelling by some ways, and every way by some spellings; `make prove` tries them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy import namespace, reach
from tests.policy.spellings import LITERALS
from watchbill.domain.guarded import is_guarded
from watchbill.domain.reach import is_literal
from watchbill.fence import Fenced, GuardedAddressError
from watchbill.testing import FakeNetwork


@pytest.mark.e2e
@pytest.mark.slow
def test_no_check_reaches_what_it_must_not(tmp_path: Path) -> None:
    if reason := namespace.why_not():
        pytest.skip(reason)
    assert [claim for claim in reach.prove(tmp_path, full=False) if not claim.holds] == []


@pytest.mark.anyio
@pytest.mark.parametrize("address", LITERALS)
async def test_the_fence_has_no_gate(address: str) -> None:
    fence = Fenced(FakeNetwork())
    with pytest.raises(GuardedAddressError):
        await fence.connect(address, 80)
    with pytest.raises(GuardedAddressError):
        await fence.open_datagrams(address, 53)
    with pytest.raises(GuardedAddressError):
        await fence.echo(address, timeout_seconds=1)
    with pytest.raises(GuardedAddressError):
        await fence.via(source="192.0.2.1").connect(address, 80)
    if "%" not in address:
        with pytest.raises(GuardedAddressError):
            fence.via(resolver=f"[{address}]:53" if ":" in address else address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "::", "0.0.0.0", "10.0.0.1", "192.168.1.1", "100.100.100.1", "192.0.2.1", "8.8.8.8", "2001:db8::1",
     "fd00::1", "fd00:ec3::254", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::1", "fec0::1", "2600::5eff:a9fe:a9fe"],
)  # fmt: skip
def test_what_people_monitor_is_not_guarded(address: str) -> None:
    assert is_literal(address)
    assert not is_guarded(address)
