"""Which source a block of ``discover`` has."""

from __future__ import annotations

from typing import assert_never

from watchbill.discovery.dns import dns_source
from watchbill.discovery.file_sd import file_sd
from watchbill.discovery.http_sd import http_sd
from watchbill.discovery.kubernetes import kubernetes_source
from watchbill.discovery.sources import Source
from watchbill.domain.discovery import Discovery, FileSd, HttpSd
from watchbill.domain.dns_sd import DnsSd
from watchbill.domain.kubernetes_sd import KubernetesSd
from watchbill.ports import Ports


def source_of(block: Discovery, folder: str, ports: Ports) -> Source:
    """``folder``: what the block's paths are relative to."""
    declared = block.source
    match declared:
        case FileSd():
            return file_sd(declared, folder=folder, files=ports.files, judge=ports.judge)
        case HttpSd():
            return http_sd(declared, http=ports.http, judge=ports.judge)
        case DnsSd():
            return dns_source(declared, look_up=ports.look_up)
        case KubernetesSd():
            return kubernetes_source(
                declared,
                http=ports.http,
                files=ports.files,
                judge=ports.judge,
                environment=ports.environment,
                random=lambda: int.from_bytes(ports.random_bytes(6)) / (1 << 48),
                monotonic=ports.clock.monotonic,
            )
        case _:
            assert_never(declared)
