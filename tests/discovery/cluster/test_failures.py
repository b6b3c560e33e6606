"""What a cluster refuses, breaks or says wrong: everything stays as it was, and the failure is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.discovery.cluster.following import Mounted, following, lists
from tests.discovery.reports import Told, running
from tests.kubernetes_api import KubernetesApi, Refusal
from tests.kubernetes_objects import ingress
from tests.servers import Authority, Caller
from watchbill.discovery import kubernetes_api as api_module
from watchbill.discovery import mirror
from watchbill.discovery.kubernetes import kubernetes_source
from watchbill.domain.discovery import TargetGroup
from watchbill.domain.kubernetes_sd import KubernetesSd
from watchbill.net import open_network
from watchbill.net.http import HttpRequests
from watchbill.testing import judge_inline

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("how", ["reset", "hang up"])
async def test_a_watch_that_breaks_goes_on_where_it_stood(
    api: KubernetesApi, account: Mounted, how: str
) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.end_watches(Caller.reset if how == "reset" else (lambda caller: caller.writer.close()))
        api.put("ingresses", ingress("blog", "blog.test"))
        await told.until(lambda: told.addresses() == ["blog.test", "shop.test"])
        assert (lists(api), told.failures) == (1, [])


async def test_a_watch_that_cannot_be_opened_again_is_a_failure(api: KubernetesApi, account: Mounted) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.watch_refusal = Refusal(500, "InternalError", "no watches today")
        api.end_watches()
        await told.failed_again(2)
        assert "no watches today" in told.failures[0]
        assert told.addresses() == ["shop.test"]
        api.watch_refusal = None
        await api.watched()


async def test_a_server_that_is_too_busy_for_a_watch_is_not_asked_for_everything(
    api: KubernetesApi, account: Mounted
) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.watch_refusal = Refusal(429, "TooManyRequests", "please wait")
        api.end_watches()
        await told.failed_again(2)
        api.put("ingresses", ingress("blog", "blog.test"))
        api.watch_refusal = None
        await told.until(lambda: told.addresses() == ["blog.test", "shop.test"])
        assert lists(api) == 1


async def test_a_token_is_read_anew_when_it_was_rotated(api: KubernetesApi, account: Mounted) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.tokens = {"token-2"}
        api.end_watches()
        await told.failed_again(2)
        assert "401" in told.failures[-1]
        assert told.addresses() == ["shop.test"]
        api.put("ingresses", ingress("blog", "blog.test"))
        account.token.write_text("token-2")
        await told.until(lambda: told.addresses() == ["blog.test", "shop.test"])
        assert {asked.token for asked in api.asked} == {"token-1", "token-2"}
        assert not any("token-" in failure for failure in told.failures)


async def test_what_the_role_does_not_allow_is_told_in_the_server_s_words(
    api: KubernetesApi, account: Mounted
) -> None:
    api.forbidden = {("ingresses", "")}
    async with following(api, account) as told:
        await told.failed_again()
        (failure, *_) = told.failures
        assert 'cannot list resource "ingresses"' in failure
        assert "a role must allow list and watch on ingresses" in failure
        assert told.all_found == []
        api.forbidden = set()
        await told.found_again()


async def test_a_namespace_that_refuses_keeps_what_it_had_and_the_others_are_followed(
    api: KubernetesApi, account: Mounted
) -> None:
    api.forbidden = {("ingresses", "b")}
    api.put("ingresses", ingress("one", "one.a.test", namespace="a"))
    api.put("ingresses", ingress("two", "two.b.test", namespace="b"))
    api.put("ingresses", ingress("other", "other.test", namespace="c"))
    group = TargetGroup("ingress/b/two", ({"__address__": "two.b.test"},), {})
    gone = TargetGroup("ingress/a/gone", ({"__address__": "gone.a.test"},), {})
    async with following(api, account, Told(before=[group, gone]), namespaces=["a", "b"]) as told:
        await told.until(lambda: bool(told.all_found))
        await told.failed_again()
        assert told.addresses() == ["one.a.test", "two.b.test"]
        api.forbidden = set()
        api.remove("ingresses", "b/two")
        await told.until(lambda: told.addresses() == ["one.a.test"])


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (
            Refusal(500, "InternalError", "etcdserver: leader changed"),
            "the API answered 500: etcdserver: leader changed",
        ),
        (Refusal(503, "ServiceUnavailable", ""), "the API answered 503"),
    ],
)
async def test_a_server_in_trouble_keeps_everything(
    api: KubernetesApi, account: Mounted, refusal: Refusal, says: str
) -> None:
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.down = refusal
        api.end_watches()
        await told.failed_again(2)
        assert says in told.failures[-1]
        assert told.addresses() == ["shop.test"]
        api.down = None
        await told.found_again()


async def test_a_token_that_a_server_repeats_is_not_told(api: KubernetesApi, account: Mounted) -> None:
    api.down = Refusal(400, "BadRequest", "what is Authorization: Bearer TOKEN-1?")
    async with following(api, account) as told:
        await told.failed_again()
        assert "what is Authorization: Bearer ***?" in told.failures[0]
        api.down = None

        async def repeat(caller: Caller) -> None:
            await api._event(caller, "ERROR", Refusal(500, "InternalError", "token-1 is odd").status)

        await api.watched()
        api.end_watches(repeat)
        await told.failed_again()
        assert told.failures[-1].endswith("*** is odd")
        long = "s3cr3t" * 200
        account.token.write_text(long)
        api.down = Refusal(400, "BadRequest", f"what is Bearer {long}, please?")
        await told.failed_again()
        await told.until(lambda: told.failures[-1].endswith("what is Bearer ***…"))


async def test_an_operator_that_is_not_installed_is_told_so(api: KubernetesApi, account: Mounted) -> None:
    api.absent = {"probes"}
    async with following(api, account, role="probe") as told:
        await told.failed_again()
        assert "it has no probes at /apis/monitoring.coreos.com/v1" in told.failures[0]
        await api.watched()  # the ingresses
        await told.failed_again(2)
        assert told.all_found == []


async def test_an_error_within_the_stream_is_a_failure_and_lists_again(
    api: KubernetesApi, account: Mounted
) -> None:
    async def fail(caller: Caller) -> None:
        await api._event(caller, "ERROR", Refusal(500, "InternalError", "the cache is broken").status)

    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.end_watches(fail)
        await told.failed_again()
        assert "the cache is broken" in told.failures[0]
        await api.asked_for(lambda asked: asked.watches, 2)
        assert lists(api) == 2


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'{"type":"ADDED"}', b'{"type":"ADDED","object":{"metadata":{}}}', b"\xff", b"1"]
)
async def test_what_is_no_event_is_a_failure_and_lists_again(
    api: KubernetesApi, account: Mounted, line: bytes
) -> None:
    async def nonsense(caller: Caller) -> None:
        await caller.say(b"%x\r\n%s\n\r\n" % (len(line) + 1, line))
        await caller.reader.read()

    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.end_watches(nonsense)
        await told.failed_again()
        assert "makes no sense" in told.failures[0]
        await api.asked_for(lambda asked: asked.watches, 2)
        assert lists(api) == 2
        await told.until(lambda: told.addresses() == ["shop.test"])


async def test_a_line_or_a_page_without_an_end_is_a_failure(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(caller: Caller) -> None:
        while True:
            await caller.say(b"400\r\n" + b"x" * 0x400 + b"\r\n")

    monkeypatch.setattr(api_module, "MOST_BYTES", 10_000)
    api.put("ingresses", ingress("shop", "shop.test"))
    async with following(api, account) as told:
        await told.until(lambda: told.addresses() == ["shop.test"])
        await api.watched()
        api.end_watches(endless)
        await told.failed_again()
        assert told.failures == ["an event has more than 10000 bytes"]
        api.put("ingresses", ingress("large", "large.test", annotations={"x": "x" * 10_000}))
        await told.until(lambda: "the answer must have at most 10000 bytes" in told.failures[-1])
        assert told.addresses() == ["shop.test"]


async def test_an_empty_line_is_passed_over(api: KubernetesApi, account: Mounted) -> None:
    async def blank(caller: Caller) -> None:
        await caller.say(b"5000\r\n" + b"\n" * 0x5000 + b"\r\n0\r\n\r\n")

    async with following(api, account) as told:
        await api.watched()
        api.end_watches(blank)
        await api.asked_for(lambda asked: asked.watches, 2)
        assert told.failures == []


async def test_no_token_is_shown_to_who_cannot_prove_that_it_is_the_api(
    api: KubernetesApi, account: Mounted, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("others"), "Another Root")
    (account.folder / "ca.crt").write_bytes(Path(other.ca_file).read_bytes())
    async with following(api, account) as told:
        await told.failed_again(2)
        assert api.asked == []


async def test_nobody_there_is_a_failure_that_is_tried_again(account: Mounted) -> None:
    async with following(KubernetesApi(port=1), account) as told:
        await told.failed_again(3)
        assert "refused" in told.failures[0]
        assert told.all_found == []


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda account: account.token.unlink(), "No such file"),
        (lambda account: account.token.write_text(""), "is empty"),
        (lambda account: account.token.write_text("a\nb"), "holds line breaks"),
        (lambda account: account.token.write_bytes(b"\xff"), "more than letters and digits"),
    ],
)
async def test_a_token_that_cannot_be_read_is_a_failure(
    api: KubernetesApi, account: Mounted, break_it: Callable[[Mounted], Any], says: str
) -> None:
    break_it(account)
    async with following(api, account) as told:
        await told.failed_again()
        assert says in told.failures[0]
        account.token.write_text("token-1")
        await told.found_again()


async def test_outside_a_cluster_it_says_what_to_declare(account: Mounted) -> None:
    async with open_network() as network:
        source = kubernetes_source(
            KubernetesSd(role="ingress"), http=HttpRequests(network), files=account, judge=judge_inline,
            environment={}, random=lambda: 0.5, monotonic=time.monotonic,
        )  # fmt: skip
        async with running(source) as told:
            await told.failed_again()
            assert "name the api_server" in told.failures[0]


async def test_failures_are_waited_for_longer_and_longer_and_never_in_step(
    account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    waits = []
    for random in (0.0, 1.0):
        one = mirror.Mirror(
            None, api_module.RESOURCES["ingress"], "", {}, lambda: None, lambda _: None, lambda random=random: random, time.monotonic  # type: ignore[arg-type, misc]
        )  # fmt: skip
        waits.append([one._wait() for _ in range(8)])
    assert waits[0] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert waits[1] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


async def test_a_server_that_is_too_busy_says_how_long_to_wait(
    api: KubernetesApi, account: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await anyio.sleep_forever() if seconds >= 7 else await anyio.lowlevel.checkpoint()

    api.down = Refusal(429, "TooManyRequests", "please wait", ["Retry-After: 7"])
    monkeypatch.setattr("watchbill.discovery.mirror.anyio.sleep", sleep)
    async with following(api, account) as told:
        await told.failed_again()
        await anyio.wait_all_tasks_blocked()
    assert slept == [7.0]
