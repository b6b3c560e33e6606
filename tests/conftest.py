"""Shared by all tests: which event loop, and that nothing is left behind."""

import os

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def real_parts_are_required() -> bool:
    """With CI=true a real part that is missing fails the test that needs it."""
    return os.environ.get("CI") == "true"
