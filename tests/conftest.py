"""Shared by all tests: which event loop, and that no real part is silently left out."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def kernel_allows_icmp() -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP).close()
        except PermissionError:
            continue
        return
    pytest.skip("the kernel allows this process no ICMP socket")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, what waits longest begins first, so that they end together."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("e2e") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a test that skips fails, unless it is marked ``elsewhere``: what it needs no CI of ours has."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not item.get_closest_marker("elsewhere"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although CI=true: {call.excinfo.value if call.excinfo else ''}"
    return report
