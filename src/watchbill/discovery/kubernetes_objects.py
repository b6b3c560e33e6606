"""Objects of a cluster as targets, under the labels that Prometheus gives them. Pure; what is malformed has no targets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import ValidationError

from watchbill.domain.discovery import ADDRESS, TargetGroup
from watchbill.domain.relabelling import Relabel, relabelled
from watchbill.domain.units import format_duration, parse_duration

Object: TypeAlias = Mapping[str, Any]
"""An object as the API tells it: metadata and spec."""
Labels: TypeAlias = dict[str, str]

DEFAULT_INTERVAL = "30s"
"""Of a Probe that names none: the default of the operator's Prometheus."""
DEFAULT_TIMEOUT = "10s"
_UNSAFE = re.compile(r"[^a-zA-Z0-9_]")
_UNTOLD = "kubectl.kubernetes.io/last-applied-configuration"
"""An annotation that repeats the whole object, up to 256 KB of it."""
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?((?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?)")
_DAYS = (365, 7, 1)
_RELABEL_KEYS = {"sourceLabels": "source_labels", "targetLabel": "target_label"}


def key_of(found: Object) -> str:
    """Namespace and name, which no other object of its kind has."""
    meta = as_map(found.get("metadata"))
    return f"{_text(meta, 'namespace')}/{_text(meta, 'name')}"


# --- ingresses and services ---------------------------------------------------------------------------


def ingress_group(ingress: Object) -> TargetGroup:
    """One target for each path of each host; ``https`` where the ingress has a certificate for the host."""
    spec = as_map(ingress.get("spec"))
    labels = _meta("ingress", ingress)
    if name := _text(spec, "ingressClassName"):
        labels["__meta_kubernetes_ingress_class_name"] = name
    secured = [host for tls in _maps(spec.get("tls")) for host in _texts(tls.get("hosts"))]
    targets = tuple(
        {
            ADDRESS: host,
            "__meta_kubernetes_ingress_scheme": "https" if _covers(secured, host) else "http",
            "__meta_kubernetes_ingress_host": host,
            "__meta_kubernetes_ingress_path": path,
        }
        for rule in _maps(spec.get("rules"))
        for host in [_text(rule, "host")]
        for path in _paths(rule)
    )
    return TargetGroup(f"ingress/{key_of(ingress)}", targets, labels)


def _paths(rule: Object) -> list[str]:
    paths = [_text(path, "path") or "/" for path in _maps(as_map(rule.get("http")).get("paths"))]
    return paths or ["/"]


def _covers(patterns: Iterable[str], host: str) -> bool:
    """A ``*.`` stands for one label."""
    wild = f"*.{host.partition('.')[2]}"
    return any(pattern in (host, wild) for pattern in patterns)


def service_group(service: Object) -> TargetGroup:
    """One target for each port, by the name that the service has within the cluster."""
    meta, spec = as_map(service.get("metadata")), as_map(service.get("spec"))
    host = f"{_text(meta, 'name')}.{_text(meta, 'namespace')}.svc"
    kind = _text(spec, "type")
    of_all = {"__meta_kubernetes_service_type": kind}
    if kind == "ExternalName":
        of_all["__meta_kubernetes_service_external_name"] = _text(spec, "externalName")
    else:
        of_all["__meta_kubernetes_service_cluster_ip"] = _text(spec, "clusterIP")
    if kind == "LoadBalancer":
        of_all["__meta_kubernetes_service_loadbalancer_ip"] = _text(spec, "loadBalancerIP")
    targets = tuple(
        {
            ADDRESS: f"{host}:{port.get('port')}",
            "__meta_kubernetes_service_port_name": _text(port, "name"),
            "__meta_kubernetes_service_port_number": str(port.get("port")),
            "__meta_kubernetes_service_port_protocol": _text(port, "protocol"),
            **of_all,
        }
        for port in _maps(spec.get("ports"))
    )
    return TargetGroup(f"svc/{key_of(service)}", targets, _meta("service", service))


# --- probes of the operator ---------------------------------------------------------------------------


def wants_ingresses(probe: Object) -> bool:
    """Whether its targets are ingresses; static targets win, as with the operator."""
    targets = _targets_of(probe)
    return targets.get("ingress") is not None and targets.get("staticConfig") is None


def chosen_namespaces(probe: Object) -> Sequence[str] | None:
    """Where its ingresses are; ``None``: everywhere."""
    selector = as_map(as_map(_targets_of(probe).get("ingress")).get("namespaceSelector"))
    if selector.get("any") is True:
        return None
    return _texts(selector.get("matchNames")) or [_text(as_map(probe.get("metadata")), "namespace")]


def probe_group(probe: Object, ingresses: Iterable[Object] = ()) -> TargetGroup:
    """Its static targets, or those of the ingresses that it selects among these (of its namespaces), relabelled as it says.

    :raises ValueError: its relabelling makes no sense; says why.
    """
    spec, targets = as_map(probe.get("spec")), _targets_of(probe)
    chosen = as_map(targets.get("ingress" if wants_ingresses(probe) else "staticConfig"))
    found = _ingress_targets(chosen, ingresses) if wants_ingresses(probe) else _static_targets(chosen)
    rules = _relabelling(chosen.get("relabelingConfigs"))
    meta, labels = as_map(probe.get("metadata")), _meta("probe", probe)
    for parameter in _maps(spec.get("params")):
        if values := _texts(parameter.get("values")):
            labels[f"__param_{_UNSAFE.sub('_', _text(parameter, 'name'))}"] = values[0]
    labels |= {
        "__meta_kubernetes_probe_prober_url": _text(as_map(spec.get("prober")), "url"),
        "job": _text(spec, "jobName") or f"probe/{key_of(probe)}",
        "namespace": _text(meta, "namespace"),
        "__scrape_interval__": _duration(_text(spec, "interval") or DEFAULT_INTERVAL),
    }
    if module := _text(spec, "module"):  # else it may be one of the params
        labels["__param_module"] = module
    labels["__scrape_timeout__"] = _timeout(_text(spec, "scrapeTimeout"), labels["__scrape_interval__"])
    complete = (relabelled({**labels, **target}, rules) for target in found)
    kept = tuple({ADDRESS: "", **target} for target in complete if target is not None)
    return TargetGroup(f"probe/{key_of(probe)}", kept, {})


def _targets_of(probe: Object) -> Object:
    return as_map(as_map(probe.get("spec")).get("targets"))


def _static_targets(chosen: Object) -> Iterator[Labels]:
    labels = _strings(chosen.get("labels"))
    for target in _texts(chosen.get("static")):
        yield {**labels, ADDRESS: target, "__param_target": target, "instance": target}


def _ingress_targets(chosen: Object, ingresses: Iterable[Object]) -> Iterator[Labels]:
    selector = as_map(chosen.get("selector"))
    for ingress in ingresses:
        meta = as_map(ingress.get("metadata"))
        if not selects(selector, _strings(meta.get("labels"))):
            continue
        group = ingress_group(ingress)
        own = {"namespace": _text(meta, "namespace"), "ingress": _text(meta, "name")}
        for target in group.targets:
            scheme, path = (
                target["__meta_kubernetes_ingress_scheme"],
                target["__meta_kubernetes_ingress_path"],
            )
            url = f"{scheme}://{target[ADDRESS]}{path}"
            yield {**group.labels, **target, **own, "__param_target": url, "instance": url}


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """A LabelSelector: every requirement holds; none selects everything."""
    wanted = _strings(selector.get("matchLabels"))
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    return all(_holds(rule, labels) for rule in _maps(selector.get("matchExpressions")))


def _holds(rule: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(_text(rule, "key")), _texts(rule.get("values"))
    match rule.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def _relabelling(declared: Any) -> list[Relabel]:
    try:
        return [
            Relabel.model_validate({_RELABEL_KEYS.get(key, key): value for key, value in step.items()})
            for step in _maps(declared)
        ]
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"relabelingConfigs: {first['msg']}") from None


def _duration(text: str) -> str:
    """As Watchbill writes it: Prometheus has weeks and years. What is none is left to whoever reads it."""
    parts = _DURATION.fullmatch(text)
    if not parts:
        return text
    days = sum(int(parts[place + 1] or 0) * length for place, length in enumerate(_DAYS))
    return (f"{days}d" if days else "") + parts[4]


def _timeout(text: str, interval: str) -> str:
    if text:
        return _duration(text)
    try:
        return format_duration(min(parse_duration(DEFAULT_TIMEOUT), parse_duration(interval)))
    except ValueError:
        return DEFAULT_TIMEOUT


# --- what strangers wrote -----------------------------------------------------------------------------


def _meta(kind: str, found: Object) -> Labels:
    meta = as_map(found.get("metadata"))
    labels = {
        "__meta_kubernetes_namespace": _text(meta, "namespace"),
        f"__meta_kubernetes_{kind}_name": _text(meta, "name"),
    }
    for what in ("label", "annotation"):
        for name, value in sorted(_strings(meta.get(f"{what}s")).items()):
            if name != _UNTOLD:
                safe = _UNSAFE.sub("_", name)
                labels[f"__meta_kubernetes_{kind}_{what}_{safe}"] = value
                labels[f"__meta_kubernetes_{kind}_{what}present_{safe}"] = "true"
    return labels


def as_map(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _maps(value: Any) -> Sequence[Object]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> Sequence[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _strings(value: Any) -> Mapping[str, str]:
    return {name: text for name, text in as_map(value).items() if isinstance(text, str)}


def _text(found: Object, name: str) -> str:
    value = found.get(name)
    return value if isinstance(value, str) else ""
