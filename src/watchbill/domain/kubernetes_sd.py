"""``kubernetes_sd``: objects of a Kubernetes cluster that are targets."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator

from watchbill.domain.credentials import TlsOptions
from watchbill.domain.reach import check_host, split_url
from watchbill.domain.rules import Declared, declared_problem, listed

Role = Literal["ingress", "service", "probe"]
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def _namespace(name: str) -> str:
    if not _NAMESPACE.fullmatch(name):
        raise ValueError("a namespace is at most 63 letters in lower case, digits and hyphens, such as shop")
    return name


def _api_server(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("an api_server is a url such as https://kubernetes.example:6443")
    check_host(parts.hostname)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("an api_server holds no credentials and no query; a token is read from token_file")
    return url.rstrip("/")


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("a token_file is an absolute path, such as /run/secrets/token")
    return path


Namespace = Annotated[str, AfterValidator(_namespace)]
Selector = Annotated[str, Field(max_length=2000)]


class KubernetesSd(Declared):
    """Targets from the API of a Kubernetes cluster, by default of the one that this exporter runs in, with its pod's service account."""

    role: Role
    """What to find: `ingress` (each host and path), `service` (each port), or `probe` (the Probe objects of the Prometheus operator)."""
    namespaces: Annotated[
        tuple[Namespace, ...], BeforeValidator(listed), Field(min_length=1, max_length=100)
    ] = ()
    """Only these namespaces; all by default, which takes a ClusterRole."""
    own_namespace: StrictBool = False
    """Also, or only, the namespace of this exporter's pod."""
    label_selector: Selector = ""
    """Only objects whose labels fit, such as `team=shop,env in (prod, staging)`."""
    field_selector: Selector = ""
    """Only objects whose fields fit, such as `metadata.name=shop`."""
    api_server: Annotated[str, Field(max_length=2000), AfterValidator(_api_server)] | None = None
    """Another cluster's API, such as `https://kubernetes.example:6443`. The pod's own account is not shown there."""
    token_file: Annotated[str, Field(max_length=4096), AfterValidator(_absolute)] | None = None
    """The file with the bearer token for `api_server`, read anew for each request, since tokens change."""
    tls: TlsOptions = TlsOptions()
    """How the TLS handshake with `api_server` is made."""

    @model_validator(mode="after")
    def _account_of_its_own(self) -> KubernetesSd:
        if self.api_server is None:
            for key in ("token_file", "tls"):
                if key in self.model_fields_set:
                    raise declared_problem(
                        key,
                        f"{key} is for another api_server; name it, or leave {key} out for the pod's own account",
                    )
        elif self.token_file is not None and split_url(self.api_server).scheme == "http":
            raise declared_problem(
                "token_file", "a token is sent over https only; use an api_server with https"
            )
        elif self.own_namespace:
            raise declared_problem(
                "own_namespace",
                "own_namespace is the pod's, which another api_server knows nothing of; list it under namespaces",
            )
        return self
