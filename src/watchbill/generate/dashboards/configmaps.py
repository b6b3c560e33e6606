"""Dashboards as ConfigMaps, for the sidecar that hands labelled ones to Grafana."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from watchbill.domain.errors import WatchbillError
from watchbill.generate.dashboards.looks import Json

MOST_BYTES = 1_048_576
"""What Kubernetes takes of the data of one object."""
LABEL = {"grafana_dashboard": "1"}
FOLDER = "Watchbill"


class _Dumper(yaml.SafeDumper):
    """Several lines as a block, as people write them."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)


def config_map(name: str, text: str, *, namespace: str | None = None) -> str:
    """One object for one dashboard, so that each stays far below what Kubernetes allows.

    :raises WatchbillError: it is too large all the same.
    """
    data = {f"watchbill-{name}.json": text}
    if _size(data) >= MOST_BYTES:
        raise WatchbillError(
            f"the dashboard {name} has {_size(data):,} bytes, and a ConfigMap holds {MOST_BYTES:,}: generate it without CONFIG"
        )
    metadata: Json = {"name": f"watchbill-dashboard-{name}"}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata["labels"] = {"app.kubernetes.io/name": "watchbill", **LABEL}
    metadata["annotations"] = {"grafana_folder": FOLDER}
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": data,
    }
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)


def _size(data: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
