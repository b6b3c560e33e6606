"""A source at work in a pod of a cluster that is a double."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.discovery.reports import Told, running
from tests.kubernetes_api import KubernetesApi
from tests.servers import LOOPBACK, Authority
from watchbill.discovery.kubernetes import kubernetes_source
from watchbill.domain.kubernetes_sd import KubernetesSd
from watchbill.net import open_network
from watchbill.net.http import HttpRequests
from watchbill.ports import FilesError, Judge
from watchbill.testing import judge_inline


class Mounted:
    """The files of a service account; the folder of a real one is of the pod's."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text("token-1\n")
        (folder / "namespace").write_text("monitoring")
        (folder / "ca.crt").write_bytes(Path(authority.ca_file).read_bytes())

    async def look(self, patterns: object) -> dict[str, str]:
        return {}

    async def read(self, path: str, most: int) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise FilesError(f"{path}: {error.strerror}") from None


@asynccontextmanager
async def following(
    api: KubernetesApi,
    account: Mounted,
    told: Told | None = None,
    *,
    judge: Judge = judge_inline,
    **declared: Any,
) -> AsyncIterator[Told]:
    """As in a pod of the cluster."""
    environment = {"KUBERNETES_SERVICE_HOST": LOOPBACK, "KUBERNETES_SERVICE_PORT": str(api.port)}
    async with open_network() as network:
        source = kubernetes_source(
            KubernetesSd.model_validate({"role": "ingress", **declared}),
            http=HttpRequests(network),
            files=account,
            judge=judge,
            environment=environment,
            random=lambda: 0.5,
            monotonic=time.monotonic,
        )
        async with running(source, told) as report:
            yield report


def lists(api: KubernetesApi) -> int:
    return sum(not asked.watches and "continue" not in asked.query for asked in api.asked)
