"""What objects of a cluster become: Prometheus' labels, and what the Prometheus operator makes of Probes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kubernetes_objects import ingress, probe, service
from watchbill.discovery.kubernetes_objects import (
    chosen_namespaces,
    ingress_group,
    probe_group,
    selects,
    service_group,
    wants_ingresses,
)

META = {"labels": {"app.kubernetes.io/name": "shop"}, "annotations": {"probe/path-1": "/ä"}}


def test_an_ingress_is_a_target_for_each_path_of_each_host() -> None:
    group = ingress_group(
        ingress("shop", "a.test", "b.test", secured=["b.test"], paths=["/", "/x"], namespace="ns", **META)
    )
    assert group.source == "ingress/ns/shop"
    assert group.labels == {
        "__meta_kubernetes_namespace": "ns",
        "__meta_kubernetes_ingress_name": "shop",
        "__meta_kubernetes_ingress_class_name": "nginx",
        "__meta_kubernetes_ingress_label_app_kubernetes_io_name": "shop",
        "__meta_kubernetes_ingress_labelpresent_app_kubernetes_io_name": "true",
        "__meta_kubernetes_ingress_annotation_probe_path_1": "/ä",
        "__meta_kubernetes_ingress_annotationpresent_probe_path_1": "true",
    }
    assert group.targets == tuple(
        {
            "__address__": host,
            "__meta_kubernetes_ingress_scheme": scheme,
            "__meta_kubernetes_ingress_host": host,
            "__meta_kubernetes_ingress_path": path,
        }
        for host, scheme in (("a.test", "http"), ("b.test", "https"))
        for path in ("/", "/x")
    )


@pytest.mark.parametrize(
    ("secured", "host", "scheme"),
    [
        (["*.shop.test"], "a.shop.test", "https"),
        (["*.shop.test"], "a.b.shop.test", "http"),
        (["*.shop.test"], "shop.test", "http"),
        (["*.shop.test"], "*.shop.test", "https"),
        (["other.test", "a.test"], "a.test", "https"),
        ([], "a.test", "http"),
        (["a.test"], "", "http"),
    ],
)
def test_a_host_is_https_where_a_certificate_is_declared_for_it(
    secured: list[str], host: str, scheme: str
) -> None:
    (target,) = ingress_group(ingress("shop", host, secured=secured)).targets
    assert target["__meta_kubernetes_ingress_scheme"] == scheme
    assert target["__meta_kubernetes_ingress_path"] == "/"


def test_what_kubectl_repeats_of_an_object_is_no_label() -> None:
    meta: dict[str, Any] = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}" * 1000}}
    assert len(ingress_group(ingress("shop", "a.test", **meta)).labels) == 3


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ({}, {"type": "ClusterIP", "cluster_ip": "10.0.0.1"}),
        (
            {"type": "ExternalName", "externalName": "db.test"},
            {"type": "ExternalName", "external_name": "db.test"},
        ),
        (
            {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1"},
            {"type": "LoadBalancer", "cluster_ip": "10.0.0.1", "loadbalancer_ip": "192.0.2.1"},
        ),
    ],
)
def test_a_service_is_a_target_for_each_port(spec: dict[str, Any], labels: dict[str, str]) -> None:
    group = service_group(service("db", 5432, 9187, namespace="shop", **spec))
    assert group.source == "svc/shop/db"
    assert group.labels == {"__meta_kubernetes_namespace": "shop", "__meta_kubernetes_service_name": "db"}
    assert group.targets == tuple(
        {
            "__address__": f"db.shop.svc:{port}",
            "__meta_kubernetes_service_port_name": f"p{port}",
            "__meta_kubernetes_service_port_number": str(port),
            "__meta_kubernetes_service_port_protocol": "TCP",
            **{f"__meta_kubernetes_service_{name}": value for name, value in labels.items()},
        }
        for port in (5432, 9187)
    )


# --- probes -------------------------------------------------------------------------------------------


def test_a_probe_s_static_targets_have_what_the_operator_gives_them() -> None:
    declared = probe(
        "pages", {"staticConfig": {"static": ["https://a.test/x", "b.test:22"], "labels": {"env": "prod"}}},
        namespace="shop", jobName="web", module="http_2xx", interval="1w1d2h", scrapeTimeout="7s",
        params=[{"name": "hostname", "values": ["shop.test", "x"]}, {"name": "none"}],
    )  # fmt: skip
    group = probe_group(declared)
    assert (group.source, group.labels) == ("probe/shop/pages", {})
    assert group.targets[0] == {
        "__address__": "https://a.test/x",
        "__param_target": "https://a.test/x",
        "instance": "https://a.test/x",
        "__param_module": "http_2xx",
        "__param_hostname": "shop.test",
        "__meta_kubernetes_probe_prober_url": "blackbox:9115",
        "__scrape_interval__": "8d2h",
        "__scrape_timeout__": "7s",
        "__meta_kubernetes_namespace": "shop",
        "__meta_kubernetes_probe_name": "pages",
        "namespace": "shop",
        "job": "web",
        "env": "prod",
    }
    assert group.targets[1]["__address__"] == "b.test:22"


@pytest.mark.parametrize(
    ("declared", "interval", "timeout"),
    [
        ({}, "30s", "10s"),
        ({"interval": "5s"}, "5s", "5s"),
        ({"interval": "2m"}, "2m", "10s"),
        ({"interval": "1y"}, "365d", "10s"),
        ({"interval": "often"}, "often", "10s"),
        ({"interval": "1m30s", "scrapeTimeout": "500ms"}, "1m30s", "500ms"),
    ],
)
def test_a_probe_s_times_are_told_as_watchbill_writes_them(
    declared: dict[str, str], interval: str, timeout: str
) -> None:
    (target,) = probe_group(probe("p", {"staticConfig": {"static": ["a.test"]}}, **declared)).targets
    assert (target["__scrape_interval__"], target["__scrape_timeout__"]) == (interval, timeout)
    assert target["job"] == "probe/default/p"
    assert "__param_module" not in target


@pytest.mark.parametrize(("declared", "module"), [({}, "of_params"), ({"module": "of_spec"}, "of_spec")])
def test_a_module_may_be_a_parameter_and_that_of_the_spec_wins(declared: dict[str, str], module: str) -> None:
    params = [{"name": "module", "values": ["of_params"]}]
    (target,) = probe_group(
        probe("p", {"staticConfig": {"static": ["a.test"]}}, params=params, **declared)
    ).targets
    assert target["__param_module"] == module


def test_a_probe_of_ingresses_has_a_target_for_each_path() -> None:
    declared = probe("p", {"ingress": {"selector": {"matchLabels": {"probe": "yes"}}}}, namespace="shop")
    found = [
        ingress("yes", "a.test", secured=["a.test"], paths=["/x"], namespace="shop", labels={"probe": "yes"}),
        ingress("no", "b.test", namespace="shop", labels={"probe": "no"}),
    ]
    assert wants_ingresses(declared)
    (target,) = probe_group(declared, found).targets
    assert target["__param_target"] == target["instance"] == "https://a.test/x"
    assert target["__address__"] == "a.test"
    assert (target["namespace"], target["ingress"]) == ("shop", "yes")
    assert target["__meta_kubernetes_ingress_name"] == "yes"
    assert target["__meta_kubernetes_probe_name"] == "p"


def test_static_targets_win_over_ingresses() -> None:
    declared = probe("p", {"ingress": {"selector": {}}, "staticConfig": {"static": ["a.test"]}})
    assert not wants_ingresses(declared)
    assert not wants_ingresses(probe("p", {"ingress": {"selector": {}}, "staticConfig": {}}))
    assert not wants_ingresses(probe("p", {"ingress": None}))
    assert [target["__address__"] for target in probe_group(declared, [ingress("i", "b.test")]).targets] == [
        "a.test"
    ]


@pytest.mark.parametrize(
    ("selector", "namespaces"),
    [({}, ["shop"]), ({"matchNames": ["a", "b"]}, ["a", "b"]), ({"any": True, "matchNames": ["a"]}, None)],
)
def test_a_probe_looks_for_ingresses_where_it_says(
    selector: dict[str, Any], namespaces: list[str] | None
) -> None:
    declared = probe("p", {"ingress": {"selector": {}, "namespaceSelector": selector}}, namespace="shop")
    assert chosen_namespaces(declared) == namespaces


def test_a_probe_relabels_and_may_drop() -> None:
    steps = [
        {"sourceLabels": ["__param_target"], "regex": ".*secret.*", "action": "drop"},
        {
            "sourceLabels": ["__address__"],
            "targetLabel": "host",
            "regex": "https://([^/]+).*",
            "replacement": "$1",
        },
        {"action": "LabelDrop", "regex": "env"},
    ]
    static = {
        "static": ["https://a.test/x", "https://secret.test/"],
        "labels": {"env": "prod"},
        "relabelingConfigs": steps,
    }
    (target,) = probe_group(probe("p", {"staticConfig": static})).targets
    assert target["host"] == "a.test"
    assert "env" not in target


def test_relabelling_that_makes_no_sense_is_said() -> None:
    static = {"static": ["a.test"], "relabelingConfigs": [{"action": "replace"}]}
    with pytest.raises(ValueError, match="relabelingConfigs"):
        probe_group(probe("p", {"staticConfig": static}))


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "1", "b": "1"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        (
            {
                "matchExpressions": [
                    {"key": "a", "operator": "Exists"},
                    {"key": "b", "operator": "DoesNotExist"},
                ]
            },
            True,
        ),
        ({"matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["1"]}]}, False),
    ],
)
def test_selectors_select_as_kubernetes_does(selector: dict[str, Any], fits: bool) -> None:
    assert selects(selector, {"a": "1"}) is fits


# --- what strangers wrote -----------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.sampled_from([None, True, 1, -1.5, "", "a", "a/b", "*.ä", "1w"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "metadata name namespace labels spec rules host http paths path tls hosts ports port targets staticConfig static "
                "ingress selector matchLabels matchExpressions namespaceSelector matchNames any interval".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec"]), ANYTHING))
def test_no_object_is_too_strange_to_be_read(found: dict[str, Any]) -> None:
    for group in (ingress_group(found), service_group(found), probe_group(found, [found])):
        for labels in (group.labels, *group.targets):
            assert all(isinstance(text, str) for pair in labels.items() for text in pair)
        assert all("__address__" in target for target in group.targets)
