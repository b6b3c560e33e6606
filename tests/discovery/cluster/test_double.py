"""The double of the API against the client that everybody has: kubectl lists it page by page, and watches it."""

from __future__ import annotations

import ipaddress
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteReceiveStream
from cryptography import x509

from tests.kubernetes_api import KubernetesApi, kubernetes_api
from tests.kubernetes_objects import ingress, probe, service
from tests.servers import LOOPBACK, Authority

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.elsewhere,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


class Kubectl:
    """As who has ``token-1``."""

    def __init__(self, api: KubernetesApi, authority: Authority, folder: Path) -> None:
        self._command = [
            "kubectl", f"--server=https://{LOOPBACK}:{api.port}", f"--certificate-authority={authority.ca_file}",
            "--token=token-1", f"--cache-dir={folder}", "--kubeconfig=/dev/null",
        ]  # fmt: skip

    def command(self, *arguments: str) -> list[str]:
        return [*self._command, *arguments]

    async def names(self, *arguments: str) -> list[str]:
        done = await anyio.run_process(self.command("get", *arguments, "-o", "json"), check=False)
        assert done.returncode == 0, done.stderr.decode()
        return [one["metadata"]["name"] for one in json.loads(done.stdout)["items"]]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[tuple[KubernetesApi, Kubectl]]:
    authority = Authority(tmp_path)
    issued = authority.issue(x509.IPAddress(ipaddress.ip_address(LOOPBACK)))
    async with kubernetes_api(issued.context()) as api:
        yield api, Kubectl(api, authority, tmp_path)


async def test_kubectl_lists_every_kind_and_every_page(api: tuple[KubernetesApi, Kubectl]) -> None:
    double, kubectl = api
    for number in range(5):
        double.put("ingresses", ingress(f"i{number}", f"h{number}.test", labels={"odd": str(number % 2)}))
    double.put("services", service("db", 5432, namespace="shop"))
    double.put("probes", probe("pages", {"staticConfig": {"static": ["a.test"]}}))
    assert await kubectl.names("ingresses", "--chunk-size=2") == [f"i{number}" for number in range(5)]
    assert sum("continue" in asked.query for asked in double.asked) == 2
    assert await kubectl.names("ingresses", "--selector=odd in (1,3)") == ["i1", "i3"]
    assert await kubectl.names("ingresses", "--selector=odd!=1") == ["i0", "i2", "i4"]
    assert await kubectl.names("ingresses", "--field-selector=metadata.name=i4") == ["i4"]
    assert await kubectl.names("services", "--all-namespaces") == ["db"]
    assert await kubectl.names("services", "--namespace=default") == []
    assert await kubectl.names("probes.monitoring.coreos.com") == ["pages"]


async def test_kubectl_is_refused_as_by_a_cluster(api: tuple[KubernetesApi, Kubectl]) -> None:
    double, kubectl = api
    double.forbidden = {("ingresses", "default")}
    done = await anyio.run_process(kubectl.command("get", "ingresses"), check=False)
    assert b"Error from server (Forbidden): ingresses is forbidden" in done.stderr
    double.tokens = set()
    done = await anyio.run_process(kubectl.command("get", "--raw", "/api/v1/services"), check=False)
    assert b"(Unauthorized)" in done.stderr


async def test_kubectl_watches_what_comes_changes_and_goes(api: tuple[KubernetesApi, Kubectl]) -> None:
    double, kubectl = api
    double.put("ingresses", ingress("old", "old.test", labels={"watch": "yes"}))
    double.torn = True
    command = kubectl.command(
        "get", "ingresses", "--watch", "--output-watch-events", "-o", "json", "--selector=watch=yes"
    )
    async with await anyio.open_process(command) as process:
        assert process.stdout is not None
        with anyio.fail_after(30):
            events = _events(process.stdout)
            assert await anext(events) == ("ADDED", "old")
            await double.watched()
            double.put("ingresses", ingress("new", "new.test", labels={"watch": "yes"}))
            assert await anext(events) == ("ADDED", "new")
            double.bookmark()
            double.put("ingresses", ingress("other", "other.test"))
            double.put("ingresses", ingress("new", "new.test", labels={"watch": "yes", "x": "1"}))
            assert await anext(events) == ("MODIFIED", "new")
            double.put("ingresses", ingress("new", "new.test", labels={"watch": "no"}))
            assert await anext(events) == ("DELETED", "new")
            double.remove("ingresses", "default/old")
            assert await anext(events) == ("DELETED", "old")
        process.terminate()


async def _events(stdout: ByteReceiveStream) -> AsyncIterator[tuple[str, str]]:
    text, decoder = "", json.JSONDecoder()
    async for chunk in stdout:
        text += chunk.decode()
        while text.strip():
            try:
                event: dict[str, Any]
                event, end = decoder.raw_decode(text.lstrip())
            except ValueError:
                break
            text = text.lstrip()[end:]
            yield event["type"], event["object"]["metadata"]["name"]
