"""Objects as people apply them to a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]


def ingress(
    name: str,
    *hosts: str,
    namespace: str = "default",
    secured: Sequence[str] = (),
    paths: Sequence[str] = (),
    **meta: Any,
) -> Object:
    rules = [{"host": host, "http": {"paths": [{"path": path} for path in paths]}} for host in hosts]
    tls = [{"hosts": list(secured), "secretName": "x"}] if secured else []
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": {"ingressClassName": "nginx", "rules": rules, "tls": tls},
    }  # fmt: skip


def service(name: str, *ports: int, namespace: str = "default", **spec: Any) -> Object:
    declared = [{"name": f"p{port}", "port": port, "protocol": "TCP", "targetPort": port} for port in ports]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": declared, **spec},
    }  # fmt: skip


def probe(name: str, targets: Object, *, namespace: str = "default", **spec: Any) -> Object:
    return {
        "apiVersion": "monitoring.coreos.com/v1", "kind": "Probe", "metadata": {"name": name, "namespace": namespace},
        "spec": {"prober": {"url": "blackbox:9115"}, "targets": targets, **spec},
    }  # fmt: skip
