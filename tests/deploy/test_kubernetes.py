"""The manifests: rendered by kustomize where kubectl is there, judged by what they name of each other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripts import alerts

from tests.deploy.test_containers import run_options, values
from watchbill.discovery.kubernetes_api import RESOURCES

FOLDER = Path(__file__).parents[2] / "deploy/kubernetes"


def read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / path).read_text())
    return found


STATEFUL_SET = read("base/statefulset.yaml")
POD: dict[str, Any] = STATEFUL_SET["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
SERVICE = read("base/service.yaml")
MONITOR = read("monitoring/servicemonitor.yaml")
KUSTOMIZATION = read("base/kustomization.yaml")


@pytest.fixture
def rendered() -> dict[str, dict[str, Any]]:
    """What ``kubectl apply -k`` would send, by kind."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; the files are judged one by one in the other tests")
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / "monitoring")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}


@pytest.mark.elsewhere
def test_kustomize_renders_all_that_is_needed(rendered: dict[str, dict[str, Any]]) -> None:
    assert set(rendered) == {"ConfigMap", "PrometheusRule", "Service", "ServiceMonitor", "StatefulSet"}
    pod_labels = rendered["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert rendered["StatefulSet"]["spec"]["selector"]["matchLabels"].items() <= pod_labels.items()
    assert rendered["Service"]["spec"]["selector"].items() <= pod_labels.items()
    service_labels = rendered["Service"]["metadata"]["labels"]
    assert rendered["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= service_labels.items()


@pytest.mark.elsewhere
def test_the_schemas_of_kubernetes_accept_it(rendered: dict[str, dict[str, Any]]) -> None:
    validator = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate (108 MB) is not installed"
    )
    for kind in ("ConfigMap", "Service", "StatefulSet"):
        validator.validate(rendered[kind], "1.32", strict=True)


def test_the_config_map_keeps_its_name_so_that_an_edit_replaces_no_pod() -> None:
    assert KUSTOMIZATION["generatorOptions"] == {"disableNameSuffixHash": True}
    [generated] = KUSTOMIZATION["configMapGenerator"]
    mounted = {volume["name"]: volume for volume in POD["volumes"]}
    assert mounted["checks"]["configMap"]["name"] == generated["name"]
    assert [name for name in generated["files"] if not (FOLDER / "base" / name).is_file()] == []


def test_the_checks_are_mounted_as_a_folder() -> None:
    [mount] = [one for one in CONTAINER["volumeMounts"] if one["name"] == "checks"]
    assert "subPath" not in mount
    assert mount["readOnly"] is True
    assert mount["mountPath"] in CONTAINER["args"]


def test_every_volume_that_is_mounted_is_declared_and_the_other_way_round() -> None:
    claims = [claim["metadata"]["name"] for claim in STATEFUL_SET["spec"]["volumeClaimTemplates"]]
    declared = {*claims, *(volume["name"] for volume in POD["volumes"])}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == declared


def test_one_process_holds_the_history() -> None:
    assert STATEFUL_SET["spec"]["replicas"] == 1
    assert STATEFUL_SET["kind"] == "StatefulSet"
    options = run_options(CONTAINER["args"])
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert options["storage"].startswith(mounts["data"] + "/")


def test_it_reloads_when_the_folder_is_swapped() -> None:
    assert "change" in str(run_options(CONTAINER["args"])["reload_on"])


def test_probes_ask_the_port_and_the_paths_that_exist() -> None:
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    paths = {}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        request = CONTAINER[name]["httpGet"]
        assert request["port"] in ports
        paths[name] = request["path"]
    assert paths == {
        "startupProbe": "/-/healthy",
        "livenessProbe": "/-/healthy",
        "readinessProbe": "/-/ready",
    }
    assert ports["http"] == 9876
    assert "--web.listen-address=0.0.0.0:9876" in CONTAINER["args"]


def test_the_service_and_its_monitor_lead_to_the_container() -> None:
    [port] = SERVICE["spec"]["ports"]
    assert port["targetPort"] in {one["name"] for one in CONTAINER["ports"]}
    [endpoint] = MONITOR["spec"]["endpoints"]
    assert endpoint["port"] == port["name"]
    assert STATEFUL_SET["spec"]["serviceName"] == SERVICE["metadata"]["name"]


def test_the_monitor_relabels_as_the_shipped_scrape_job_does() -> None:
    prometheus = yaml.safe_load((FOLDER.parent / "prometheus/prometheus.yml").read_text())
    [job] = [one for one in prometheus["scrape_configs"] if one["job_name"] == "watchbill"]
    [endpoint] = MONITOR["spec"]["endpoints"]
    [ours], [theirs] = job["metric_relabel_configs"], endpoint["metricRelabelings"]
    assert endpoint["honorLabels"] is job["honor_labels"] is True
    assert {"sourceLabels": ours["source_labels"], "targetLabel": ours["target_label"]} == {
        "sourceLabels": theirs["sourceLabels"],
        "targetLabel": theirs["targetLabel"],
    }
    assert (ours["regex"], ours["replacement"]) == (theirs["regex"], theirs["replacement"])


def test_the_operator_gets_the_alerts_that_promtool_tested() -> None:
    for path, text in alerts.render().items():
        assert (FOLDER.parents[1] / path).read_text() == text
    shipped = yaml.safe_load((FOLDER.parent / "prometheus/alerts.yml").read_text())
    assert yaml.safe_load((FOLDER / "monitoring/prometheusrule.yaml").read_text())["spec"] == shipped


@pytest.mark.elsewhere
def test_kustomize_leaves_the_alerts_as_they_are(rendered: dict[str, dict[str, Any]]) -> None:
    shipped = yaml.safe_load((FOLDER.parent / "prometheus/alerts.yml").read_text())
    assert rendered["PrometheusRule"]["spec"] == shipped


def test_the_pod_runs_without_rights_and_can_still_ping() -> None:
    security, container = POD["securityContext"], CONTAINER["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == values("USER")[0]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["sysctls"] == [{"name": "net.ipv4.ping_group_range", "value": "0 2147483647"}]
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False


# --- leave to discover --------------------------------------------------------------------------------


def documents(path: str) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all((FOLDER / path).read_text())}


def component(name: str) -> dict[str, Any]:
    found = read(f"discovery/{name}/kustomization.yaml")
    assert (found["apiVersion"], found["kind"]) == ("kustomize.config.k8s.io/v1alpha1", "Component")
    folder = FOLDER / "discovery" / name
    named = [
        *found.get("resources", ()),
        *found.get("components", ()),
        *(one["path"] for one in found.get("patches", ())),
    ]
    assert [one for one in named if not (folder / one).exists()] == []
    return found


@pytest.mark.parametrize(("name", "kind"), [("cluster", "ClusterRole"), ("namespace", "Role")])
def test_discovery_may_list_and_watch_what_it_reads_and_nothing_else(name: str, kind: str) -> None:
    found = documents(f"discovery/{name}/role.yaml")
    granted = {
        (group, plural): set(rule["verbs"])
        for rule in found[kind]["rules"]
        for group in rule["apiGroups"]
        for plural in rule["resources"]
    }
    # /api/v1 is the group without a name, /apis/GROUP/v1 that of all others.
    needed = {("/".join(one.group.split("/")[2:-1]), one.plural) for one in RESOURCES.values()}
    assert granted == {each: {"list", "watch"} for each in needed}


@pytest.mark.parametrize(("name", "kind"), [("cluster", "ClusterRole"), ("namespace", "Role")])
def test_the_role_is_bound_to_the_account_that_the_pod_has(name: str, kind: str) -> None:
    found = documents(f"discovery/{name}/role.yaml")
    assert component(name)["components"] == ["../account"]
    assert set(found) == {kind, f"{kind}Binding"}
    binding = found[f"{kind}Binding"]
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": found[kind]["metadata"]["name"],
    }  # fmt: skip
    account = read("discovery/account/serviceaccount.yaml")
    [subject] = binding["subjects"]
    assert (subject["kind"], subject["name"]) == (account["kind"], account["metadata"]["name"])
    assert subject["namespace"]


def test_the_pod_has_a_token_only_with_that_account() -> None:
    [patch] = component("account")["patches"]
    patched = read(f"discovery/account/{patch['path']}")
    assert (patched["kind"], patched["metadata"]) == (STATEFUL_SET["kind"], STATEFUL_SET["metadata"])
    assert patched["spec"]["template"]["spec"] == {
        "serviceAccountName": read("discovery/account/serviceaccount.yaml")["metadata"]["name"],
        "automountServiceAccountToken": True,
    }
    assert read("discovery/account/serviceaccount.yaml")["automountServiceAccountToken"] is False


@pytest.mark.elsewhere
@pytest.mark.parametrize(("name", "kind"), [("cluster", "ClusterRole"), ("namespace", "Role")])
def test_an_overlay_with_the_component_binds_the_account_of_its_namespace(
    name: str, kind: str, tmp_path: Path
) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed; the files are judged one by one in the other tests")
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: monitoring\n"
        f"resources: [kubernetes/base]\ncomponents: [kubernetes/discovery/{name}]\n"
    )
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    rendered = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    assert set(rendered) == {"ConfigMap", "Service", "StatefulSet", "ServiceAccount", kind, f"{kind}Binding"}
    [subject] = rendered[f"{kind}Binding"]["subjects"]
    assert subject == {"kind": "ServiceAccount", "name": "watchbill", "namespace": "monitoring"}
    pod = rendered["StatefulSet"]["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("watchbill", True)


def test_service_links_do_not_set_options() -> None:
    """A Service called watchbill would set WATCHBILL_PORT and more in each pod beside it."""
    assert POD["enableServiceLinks"] is False


def test_a_drain_fits_into_the_grace_period() -> None:
    assert POD["terminationGracePeriodSeconds"] >= 20
