"""What is installed is pinned, declared, used and free; and the proof sees where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy.dependencies import permissive, pins, prove


def test_dependencies_keep_to_the_rules(tmp_path: Path) -> None:
    assert [claim for claim in prove(tmp_path, full=False) if not claim.holds] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("anyio>=4.12", "is not name==version"),
        ("anyio==4.*", "is not name==version"),
        ("anyio==4.16.0 --index-url https://packages.example", "is not name==version"),
        ("anyio @ https://packages.example/anyio.whl", "is not name==version"),
        ("-i https://packages.example", "is not name==version"),
        ("anyio==4.1", "which is not >=4.12"),
        ("anyio==4.12", "and 4.16.0 is installed"),
        ("", "is installed and not pinned"),
    ],
)
def test_a_bad_pin_is_seen(line: str, said: str) -> None:
    assert any(said in problem for problem in pins([line], {"anyio": "4.16.0"}).problems)


@pytest.mark.parametrize(
    ("expression", "free"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("MIT OR GPL-3.0-only", True),
        ("Apache-2.0 AND CNRI-Python", True),
        ("MIT AND GPL-3.0-only", False),
        ("LGPL-3.0-or-later", False),
        ("", False),
        ("UNKNOWN", False),
    ],
)
def test_what_may_be_passed_on(expression: str, free: bool) -> None:
    assert permissive(expression) is free
