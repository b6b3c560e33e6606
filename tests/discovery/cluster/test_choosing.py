"""Which objects of which cluster are meant, and what may be declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from pydantic import ValidationError

from tests.discovery.cluster.following import Mounted, following
from tests.discovery.reports import Told
from tests.kubernetes_api import KubernetesApi
from tests.kubernetes_objects import ingress, probe, service
from tests.servers import LOOPBACK, Authority
from watchbill.discovery import kubernetes, kubernetes_objects
from watchbill.domain.discovery import TargetGroup
from watchbill.domain.kubernetes_sd import KubernetesSd

pytestmark = pytest.mark.anyio


# --- whose, and which -------------------------------------------------------------------------------


async def test_selectors_choose_and_who_no_longer_fits_is_gone(api: KubernetesApi, account: Mounted) -> None:
    api.put("ingresses", ingress("shop", "shop.test", labels={"team": "shop", "env": "prod"}))
    api.put("ingresses", ingress("blog", "blog.test", labels={"team": "blog", "env": "prod"}))
    selector = "team=shop,env in (prod, staging)"
    async with following(api, account, label_selector=selector) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        assert {asked.query["labelSelector"] for asked in api.asked} == {selector}
        api.put("ingresses", ingress("shop", "shop.test", labels={"team": "other", "env": "prod"}))
        await told.until(lambda: told.addresses() == [])


async def test_fields_choose(api: KubernetesApi, account: Mounted) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    api.put("ingresses", ingress("blog", "blog.test"))
    async with following(api, account, field_selector="metadata.name=blog") as told:
        await told.until(lambda: told.addresses() == ["blog.test"])


async def test_the_pod_s_own_namespace_can_be_meant(api: KubernetesApi, account: Mounted) -> None:
    api.put("ingresses", ingress("ours", "ours.test", namespace="monitoring"))
    api.put("ingresses", ingress("theirs", "theirs.test", namespace="shop"))
    api.put("ingresses", ingress("nobodys", "nobodys.test", namespace="other"))
    async with following(api, account, own_namespace=True) as told:
        await told.until(lambda: told.addresses() == ["ours.test"])
    async with following(api, account, own_namespace=True, namespaces=["shop"]) as told:
        await told.until(lambda: told.addresses() == ["ours.test", "theirs.test"])


async def test_another_cluster_is_asked_with_a_token_of_its_own(
    api: KubernetesApi, account: Mounted, authority: Authority, tmp_path: Path
) -> None:
    api.put("services", service("shop", 80))
    other = tmp_path / "other-token"
    other.write_text("token-other")
    api.tokens = {"token-other"}
    declared: dict[str, Any] = {
        "role": "service", "api_server": f"https://{LOOPBACK}:{api.port}/", "token_file": str(other),
        "tls": {"ca_file": authority.ca_file},
    }  # fmt: skip
    async with following(KubernetesApi(port=1), account, **declared) as told:
        await told.until(lambda: told.addresses() == ["shop.default.svc:80"])
    assert {asked.token for asked in api.asked} == {"token-other"}


async def test_the_pod_s_token_is_not_shown_to_another_cluster(
    api: KubernetesApi, account: Mounted, authority: Authority
) -> None:
    declared: dict[str, Any] = {
        "api_server": f"https://{LOOPBACK}:{api.port}",
        "tls": {"ca_file": authority.ca_file},
    }
    async with following(KubernetesApi(port=1), account, **declared) as told:
        await told.failed_again()
    assert {asked.token for asked in api.asked} == {""}


# --- probes -----------------------------------------------------------------------------------------


async def test_a_probe_follows_the_ingresses_that_it_selects(api: KubernetesApi, account: Mounted) -> None:
    selects = {"ingress": {"selector": {"matchLabels": {"probe": "yes"}}}}
    api.put("probes", probe("shop", selects))
    api.put(
        "ingresses", ingress("one", "one.test", labels={"probe": "yes"}, secured=["one.test"], paths=["/a"])
    )
    api.put("ingresses", ingress("two", "two.test", labels={"probe": "no"}))
    api.put("ingresses", ingress("far", "far.test", labels={"probe": "yes"}, namespace="far"))
    async with following(api, account, role="probe") as told:
        await told.until(lambda: told.addresses() == ["one.test"])
        assert told.targets()["probe/default/shop"][0]["__param_target"] == "https://one.test/a"
        await api.watched(2)
        api.put("ingresses", ingress("two", "two.test", labels={"probe": "yes"}))
        await told.until(lambda: told.addresses() == ["one.test", "two.test"])
        everywhere = {"ingress": {"selector": {}, "namespaceSelector": {"any": True}}}
        api.put("probes", probe("shop", everywhere))
        await told.until(lambda: told.addresses() == ["one.test", "two.test", "far.test"])
        api.remove("probes", "default/shop")
        await told.until(lambda: told.addresses() == [])


async def test_a_selector_chooses_probes_and_not_their_ingresses(
    api: KubernetesApi, account: Mounted
) -> None:
    ours = probe("shop", {"ingress": {"selector": {}}})
    ours["metadata"]["labels"] = {"release": "ours"}
    api.put("probes", ours)
    api.put("probes", probe("other", {"staticConfig": {"static": ["other.test"]}}))
    api.put("ingresses", ingress("one", "one.test"))
    async with following(api, account, role="probe", label_selector="release=ours") as told:
        await told.until(lambda: told.addresses() == ["one.test"])


async def test_a_probe_keeps_its_targets_while_ingresses_cannot_be_listed(
    api: KubernetesApi, account: Mounted
) -> None:
    api.forbidden = {("ingresses", "")}
    api.put("probes", probe("shop", {"ingress": {"selector": {}}}))
    api.put("probes", probe("pages", {"staticConfig": {"static": ["https://page.test/"]}}))
    api.put("ingresses", ingress("one", "one.test"))
    before = [
        TargetGroup("probe/default/shop", ({"__address__": "before.test"},), {}),
        TargetGroup("probe/default/gone", ({"__address__": "gone.test"},), {}),
    ]
    async with following(api, account, Told(before=before), role="probe") as told:
        await told.until(lambda: told.addresses() == ["https://page.test/", "before.test"])
        api.forbidden = set()
        await told.until(lambda: told.addresses() == ["https://page.test/", "one.test"])


async def test_a_probe_that_makes_no_sense_is_a_target_to_be_dropped_and_the_others_stay(
    api: KubernetesApi, account: Mounted
) -> None:
    broken = {"staticConfig": {"static": ["a.test"], "relabelingConfigs": [{"action": "explode"}]}}
    api.put("probes", probe("broken", broken))
    api.put("probes", probe("good", {"staticConfig": {"static": ["b.test"]}}))
    async with following(api, account, role="probe") as told:
        await told.until(lambda: bool(told.all_found))
        assert told.addresses() == ["", "b.test"]


async def test_a_probe_that_makes_no_sense_is_told_of_once_however_often_its_ingresses_change(
    api: KubernetesApi, account: Mounted
) -> None:
    api.put("probes", probe("broken", {"ingress": {"relabelingConfigs": [{"action": "explode"}]}}))
    with structlog.testing.capture_logs() as logs:
        async with following(api, account, role="probe") as told:
            await told.until(lambda: told.addresses() == [""])
            await api.watched(2)
            for number in range(3):
                api.put("ingresses", ingress(f"i{number}", f"h{number}.test"))
                await told.found_again()
    assert [line["probe"] for line in logs if line["event"] == "discovery.probe_invalid"] == [
        "default/broken"
    ]


async def test_others_run_while_a_probe_of_many_ingresses_is_read(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "INGRESSES_AT_ONCE", 10)
    turns, at = 0, list[int]()
    made = kubernetes_objects.probe_group

    def noted(found: Any, ingresses: Any) -> TargetGroup:
        at.append(turns)
        return made(found, ingresses)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0)

    monkeypatch.setattr(kubernetes, "probe_group", noted)
    api.put("probes", probe("all", {"ingress": {"selector": {}}}))
    for number in range(95):
        api.put("ingresses", ingress(f"i{number:02}", f"h{number:02}.test"))
    async with following(api, account, role="probe") as told, anyio.create_task_group() as group:
        group.start_soon(count)
        await told.until(lambda: told.addresses() == [f"h{number:02}.test" for number in range(95)])
        group.cancel_scope.cancel()
    assert len(at) >= 10
    assert len(set(at)) == len(at)


# --- what may be declared ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({}, "Field required"),
        ({"role": "pod"}, "ingress"),
        ({"role": "ingress", "namespaces": ["Shop"]}, "letters in lower case"),
        ({"role": "ingress", "api_server": "kubernetes:6443"}, "an api_server is a url"),
        ({"role": "ingress", "api_server": "https://a:b@kubernetes"}, "no credentials"),
        ({"role": "ingress", "api_server": "http://kubernetes", "token_file": "/t"}, "over https only"),
        ({"role": "ingress", "api_server": "HTTP://kubernetes", "token_file": "/t"}, "over https only"),
        ({"role": "ingress", "api_server": "https://kubernetes", "token_file": "t"}, "an absolute path"),
        (
            {"role": "ingress", "api_server": "https://kubernetes", "own_namespace": True},
            "list it under namespaces",
        ),
        ({"role": "ingress", "token_file": "/t"}, "for another api_server"),
        ({"role": "ingress", "tls": {}}, "for another api_server"),
    ],
)
def test_what_cannot_work_is_refused(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        KubernetesSd.model_validate(declared)
