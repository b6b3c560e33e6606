"""``kubernetes_sd`` against a double of the API with TLS and tokens: lists, watches, and everything that happens to them."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography import x509
from pydantic import ValidationError

from tests.discovery.reports import Told, running
from tests.kubernetes_api import KubernetesApi, Refusal, ingress, kubernetes_api, probe, service
from tests.servers import LOOPBACK, Authority, Caller
from watchbill.discovery import kubernetes, mirror
from watchbill.discovery import kubernetes_api as api_module
from watchbill.discovery.kubernetes import kubernetes_source
from watchbill.domain.discovery import TargetGroup
from watchbill.domain.kubernetes_sd import KubernetesSd
from watchbill.net import open_network
from watchbill.net.http import HttpRequests
from watchbill.ports import FilesError, Judge
from watchbill.testing import judge_inline
from watchbill.workers.judging import open_judges

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same order of events, without the waiting."""
    monkeypatch.setattr(mirror, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(mirror, "LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(kubernetes, "TOGETHER_SECONDS", 0.005)


@pytest.fixture
async def api(authority: Authority) -> AsyncIterator[KubernetesApi]:
    issued = authority.issue(x509.IPAddress(ipaddress.ip_address(LOOPBACK)))
    async with kubernetes_api(issued.context()) as api:
        yield api


class Mounted:
    """The files of a service account; the folder of a real one is of the pod's."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text("token-1\n")
        (folder / "namespace").write_text("monitoring")
        (folder / "ca.crt").write_bytes(Path(authority.ca_file).read_bytes())

    async def look(self, patterns: object) -> dict[str, str]:
        return {}

    async def read(self, path: str, most: int) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise FilesError(f"{path}: {error.strerror}") from None


@pytest.fixture
def account(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Mounted:
    monkeypatch.setattr(api_module, "ACCOUNT", str(tmp_path))
    return Mounted(tmp_path, authority)


@asynccontextmanager
async def following(
    api: KubernetesApi,
    account: Mounted,
    told: Told | None = None,
    *,
    judge: Judge = judge_inline,
    **declared: Any,
) -> AsyncIterator[Told]:
    """As in a pod of the cluster."""
    environment = {"KUBERNETES_SERVICE_HOST": LOOPBACK, "KUBERNETES_SERVICE_PORT": str(api.port)}
    async with open_network() as network:
        source = kubernetes_source(
            KubernetesSd.model_validate({"role": "ingress", **declared}),
            http=HttpRequests(network),
            files=account,
            judge=judge,
            environment=environment,
            random=lambda: 0.5,
        )
        async with running(source, told) as report:
            yield report


def lists(api: KubernetesApi) -> int:
    return sum(not asked.watches and "continue" not in asked.query for asked in api.asked)


# --- lists and watches --------------------------------------------------------------------------------


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


# --- what goes wrong ----------------------------------------------------------------------------------


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
            environment={}, random=lambda: 0.5,
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
            None, api_module.RESOURCES["ingress"], "", {}, lambda: None, lambda _: None, lambda random=random: random  # type: ignore[arg-type, misc]
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


# --- whose, and which ---------------------------------------------------------------------------------


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


# --- probes -------------------------------------------------------------------------------------------


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


# --- many ---------------------------------------------------------------------------------------------


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


# --- what may be declared -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({}, "Field required"),
        ({"role": "pod"}, "ingress"),
        ({"role": "ingress", "namespaces": ["Shop"]}, "letters in lower case"),
        ({"role": "ingress", "api_server": "kubernetes:6443"}, "an api_server is a url"),
        ({"role": "ingress", "api_server": "https://a:b@kubernetes"}, "no credentials"),
        ({"role": "ingress", "api_server": "http://kubernetes", "token_file": "/t"}, "over https only"),
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
