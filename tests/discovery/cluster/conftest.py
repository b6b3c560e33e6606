"""A cluster, an account in it, and no waiting."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.discovery.cluster.following import Mounted
from tests.kubernetes_api import KubernetesApi, kubernetes_api
from tests.servers import LOOPBACK, Authority
from watchbill.discovery import kubernetes, mirror
from watchbill.discovery import kubernetes_api as api_module


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same order of events, without the waiting."""
    monkeypatch.setattr(mirror, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(mirror, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(kubernetes, "TOGETHER_SECONDS", 0.005)


@pytest.fixture
async def api(authority: Authority) -> AsyncIterator[KubernetesApi]:
    issued = authority.issue(x509.IPAddress(ipaddress.ip_address(LOOPBACK)))
    async with kubernetes_api(issued.context()) as api:
        yield api


@pytest.fixture
def account(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    monkeypatch.setattr(api_module, "ACCOUNT", str(tmp_path))
    return Mounted(tmp_path, authority)
