"""Lists and watches against a double of the API with TLS and tokens: what is told, in which order, and when all begins anew."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.discovery.cluster.following import Mounted, following, lists
from tests.discovery.reports import Told
from tests.kubernetes_api import KubernetesApi, Refusal
from tests.kubernetes_objects import ingress
from tests.servers import Caller
from watchbill.discovery import kubernetes_api as api_module
from watchbill.discovery import mirror
from watchbill.domain.discovery import TargetGroup
from watchbill.workers.judging import open_judges

pytestmark = pytest.mark.anyio


# --- lists and watches ------------------------------------------------------------------------------


async def test_what_is_there_is_listed_and_what_changes_is_followed(
    api: KubernetesApi, account: Mounted
) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.put("ingresses", ingress("blog", "blog.test"))
        await told.until(lambda: told.addresses() == ["blog.test", "shop.test"])
        api.put("ingresses", ingress("shop", "shop.test", "www.shop.test"))
        await told.until(lambda: told.addresses() == ["blog.test", "shop.test", "www.shop.test"])
        api.remove("ingresses", "default/blog")
        await told.until(lambda: told.addresses() == ["shop.test", "www.shop.test"])
        assert (lists(api), told.failures) == (1, [])
        (_, asked) = api.asked
        assert asked.query["resourceVersion"] == "1001"
        assert 300 <= int(asked.query["timeoutSeconds"]) <= 600


async def test_a_cluster_without_any_is_an_empty_list(api: KubernetesApi, account: Mounted) -> None:
    before = Told(before=[TargetGroup("ingress/default/gone", ({"__address__": "gone.test"},), {})])
    async with following(api, account, before) as told:
        await told.found_again()
        assert told.addresses() == []


async def test_a_long_list_comes_in_pages_of_one_version(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "PAGE", 10)
    for number in range(25):
        api.put("ingresses", ingress(f"i{number:02}", f"h{number:02}.test"))

    def meanwhile() -> None:
        api.between_pages = None
        api.put("ingresses", ingress("late", "late.test"))
        api.remove("ingresses", "default/i24")

    api.between_pages = meanwhile
    wanted = [f"h{number:02}.test" for number in range(24)] + ["late.test"]
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == wanted)
        pages = [asked.query for asked in api.asked if not asked.watches]
        assert [query.get("limit") for query in pages] == ["10", "10", "10"]
        assert lists(api) == 1


async def test_a_list_whose_pages_expire_begins_anew(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "PAGE", 2)
    for number in range(5):
        api.put("ingresses", ingress(f"i{number}", f"h{number}.test"))

    def expire() -> None:
        api.between_pages = None
        api.remove("ingresses", "default/i0")
        api.compact()

    api.between_pages = expire
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["h1.test", "h2.test", "h3.test", "h4.test"])
        assert (lists(api), told.failures) == (2, [])


async def test_a_list_whose_pages_always_expire_is_a_failure_and_not_half_a_list(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "PAGE", 2)
    for number in range(5):
        api.put("ingresses", ingress(f"i{number}", f"h{number}.test"))
    api.between_pages = api.compact
    async with following(api, account) as told:
        await told.failed_again()
        assert told.all_found == []
        assert "expires before it is read to its end" in told.failures[0]


@pytest.mark.parametrize("within_the_stream", [False, True], ids=["as an answer", "within the stream"])
async def test_a_version_that_is_gone_lists_again_and_is_no_failure(
    api: KubernetesApi, account: Mounted, within_the_stream: bool
) -> None:
    api.gone_within_the_stream = within_the_stream
    api.put("ingresses", ingress("shop", "shop.test"))
    api.put("ingresses", ingress("blog", "blog.test"))
    async with following(api, account) as told:
        await api.watched()
        api.end_watches()  # what happens from here on is told to nobody
        api.remove("ingresses", "default/blog")
        api.compact()
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        assert [asked.watches for asked in api.asked] == [False, True, True, False, True]
        assert told.failures == []


async def test_a_watch_that_the_server_ends_goes_on_where_it_stood(
    api: KubernetesApi, account: Mounted
) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.put("ingresses", ingress("blog", "blog.test"))
        await told.until(lambda: "blog.test" in told.addresses())
        api.end_watches()
        await api.asked_for(lambda asked: asked.watches, 2)
        assert api.asked[-1].query["resourceVersion"] == "1002"
        await api.watched()
        api.put("ingresses", ingress("news", "news.test"))
        await told.until(lambda: "news.test" in told.addresses())
        assert (lists(api), told.failures) == (1, [])


async def test_a_bookmark_moves_the_version_on(api: KubernetesApi, account: Mounted) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        for _ in range(5):
            api.bookmark()
        await anyio.wait_all_tasks_blocked()
        api.compact()  # everything but the bookmark's version
        api.compacted -= 1
        api.end_watches()
        await api.asked_for(lambda asked: asked.watches, 2)
        assert api.asked[-1].query["resourceVersion"] == "1006"
        await api.watched()
        assert lists(api) == 1
        assert told.addresses() == ["shop.test"]


async def test_events_in_pieces_are_put_together(api: KubernetesApi, account: Mounted) -> None:
    api.torn = True
    async with following(api, account) as told:
        await api.watched()
        for number in range(5):
            api.put("ingresses", ingress(f"i{number}", f"h{number}.test", annotations={"x": "ä" * 500}))
        await told.until(lambda: len(told.addresses()) == 5)
        assert told.failures == []


async def test_half_an_event_at_the_end_of_a_watch_is_none(api: KubernetesApi, account: Mounted) -> None:
    async def half(caller: Caller) -> None:
        line = b'{"type":"DELETED","object":{"metadata":{"name":"shop","namespace":"default","resourceVersion":"2000"}}}'
        await caller.say(b"%x\r\n%s\r\n0\r\n\r\n" % (len(line), line))  # without the end of its line

    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.end_watches(half)
        await api.asked_for(lambda asked: asked.watches, 2)
        assert api.asked[-1].query["resourceVersion"] == "1001"
        assert told.addresses() == ["shop.test"]


async def test_a_watch_that_falls_silent_is_opened_anew(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "SILENCE_SECONDS", 0.2)
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await api.asked_for(lambda asked: asked.watches, 3)
        assert (lists(api), told.failures) == (1, [])


async def test_watches_that_tell_nothing_one_after_the_other_list_again(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(mirror, "BRIEF_SECONDS", 0.0)
    api.withheld = True
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await api.watched()
        api.put("ingresses", ingress("blog", "blog.test"))
        await told.until(lambda: told.addresses() == ["blog.test", "shop.test"])
        seen = [asked.watches for asked in api.asked[:5]]
        assert seen == [False, True, True, True, False]
        assert told.failures == []


async def test_watches_that_end_as_soon_as_they_begin_are_a_failure_that_is_waited_for(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    sleep = anyio.sleep

    async def noted(seconds: float) -> None:
        slept.append(seconds)
        await sleep(seconds)

    monkeypatch.setattr("watchbill.discovery.mirror.anyio.sleep", noted)
    api.brief = True
    async with following(api, account) as told:
        await told.failed_again(3)
        assert "watches of ingresses end as soon as they begin" in told.failures[0]
        api.put("ingresses", ingress("shop", "shop.test"))
        await told.until(lambda: told.addresses() == ["shop.test"])
        assert mirror.LONGEST_WAIT_SECONDS * 0.75 in slept
        api.brief = False
        await api.watched()


async def test_what_changes_of_an_object_and_means_nothing_here_is_not_told() -> None:
    told: list[str] = []
    one = mirror.Mirror(
        None, api_module.RESOURCES["ingress"], "", {}, lambda: told.append("changed"), told.append, lambda: 0.5, time.monotonic  # type: ignore[arg-type]
    )  # fmt: skip
    for version, hosts in ((1, ["a.test"]), (2, ["a.test"]), (3, ["a.test", "b.test"])):
        found = {**ingress("shop", *hosts), "status": {"version": version}}
        found["metadata"]["resourceVersion"] = str(version)
        line = json.dumps({"type": "MODIFIED", "object": found}).encode()
        one._take("MODIFIED", api_module.read_event(line).found)
    assert told == ["changed", "changed"]


# --- many -------------------------------------------------------------------------------------------


async def test_a_large_cluster_is_read_page_by_page_by_another_process(
    api: KubernetesApi, account: Mounted
) -> None:
    read = []
    for number in range(1500):
        api.put("ingresses", ingress(f"i{number:04}", f"h{number:04}.test", annotations={"x": "x" * 300}))
    async with open_judges() as judges:

        async def judge(function: Callable[..., Any], content: Any, *arguments: Any) -> Any:
            read.append(function)
            return await judges(function, content, *arguments)

        async with following(api, account, judge=judge) as told:
            await told.until(lambda: len(told.addresses()) == 1500)
            assert (
                told.targets()["ingress/default/i0000"][0]["__meta_kubernetes_ingress_annotation_x"]
                == "x" * 300
            )
    assert read == [api_module.read_page] * 6


async def test_a_server_that_forgets_all_the_time_is_in_trouble(api: KubernetesApi, account: Mounted) -> None:
    api.watch_refusal = Refusal(410, "Expired", "too old resource version")
    async with following(api, account) as told:
        await told.failed_again()
        assert lists(api) == mirror.GONE_IN_A_ROW + 1
        assert "too old resource version" in told.failures[0]
