"""The landing page: what it says, and that nothing on it is anything but text."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.metrics.states import START, declare, probe_of
from tests.web.running import Site, site_with

from watchbill.domain.fields import Service
from watchbill.domain.results import Failure, Reason
from watchbill.domain.stalls import STALLED
from watchbill.domain.units import SECOND
from watchbill.web.page import ROWS, ago, percent, text, took

pytestmark = pytest.mark.anyio
ATTRIBUTES = {
    "aria-current", "aria-label", "charset", "class", "content", "href", "http-equiv", "lang", "name", "rel", "title",
}  # fmt: skip


class Page(HTMLParser):
    """The elements, links and texts of a page, as a browser would see them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(f" {part} " for part in self.texts).split())


async def page_of(site: Site, path: str = "/") -> Page:
    async with site.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


async def test_the_page_shows_each_check_with_status_result_latency_and_availability() -> None:
    site = site_with(declare("web", service="shop"), declare("db", "tcp"), declare("job", "heartbeat"))
    web, database, job = (site.board.checks[name].check for name in ("web", "db", "job"))
    site.scene.found(*[probe_of(web, seconds=0.1234) for _ in range(3)])
    site.scene.found(probe_of(web, Failure(Reason.STATUS, "status must be 2xx, got 500"), seconds=1.5))
    site.scene.found(probe_of(database, seconds=0.0042), probe_of(job))
    site.clock.instant += 65 * SECOND
    page = await page_of(site)
    assert (
        "web http shop https://shop.example/ status status must be 2xx, got 500 1m 5s ago 1.50 s 75 % of 4"
        in page.text
    )
    assert "db tcp db.example:5432 success 1m 5s ago 4.2 ms 100 % of 1" in page.text
    assert "job heartbeat job success 1m 5s ago 100 % of 1" in page.text
    assert "2 up 1 down" in page.text


async def test_what_took_long_because_we_stood_still_shows_no_duration() -> None:
    site = site_with(declare("db", "tcp"))
    site.scene.found(probe_of(site.board.checks["db"].check, seconds=0.7, facts={STALLED: 0.6}))
    page = await page_of(site)
    assert "success 0s ago stalled 100 % of 1" in page.text


async def test_what_is_down_stands_first() -> None:
    site = site_with(*(declare(name) for name in ("a", "b", "c")))
    for name in ("a", "c"):
        site.scene.found(probe_of(site.board.checks[name].check))
    site.scene.found(probe_of(site.board.checks["b"].check, Failure(Reason.REFUSED, "connection refused")))
    page = await page_of(site)
    order = [link.rpartition("/")[2] for link in page.links if link.startswith("/api/v1/checks/")]
    assert order == ["b", "a", "c"]


async def test_a_check_without_a_result_and_a_parked_one_say_so() -> None:
    site = site_with(declare("idle", enabled=False), declare("new"))
    page = await page_of(site)
    assert "unknown new http https://shop.example/ none yet no slot yet" in page.text
    assert "parked idle http https://shop.example/ Watchbill" in page.text.replace("Metrics", "Watchbill")
    assert "0 up 0 down 1 unknown 1 parked" in page.text
    narrowed = await page_of(site, "/?status=parked")
    assert [link for link in narrowed.links if "/checks/" in link] == ["/api/v1/checks/idle"]


async def test_a_check_that_was_down_and_is_parked_is_not_down() -> None:
    site = site_with(declare("idle"))
    site.scene.found(probe_of(site.board.checks["idle"].check, Failure(Reason.REFUSED, "connection refused")))
    site.run(declare("idle", enabled=False))
    page = await page_of(site)
    assert "0 up 0 down 1 parked" in page.text
    assert "parked idle" in page.text


async def test_an_empty_configuration_has_a_page() -> None:
    site = Site()
    assert "No check to show." in (await page_of(site)).text


async def test_the_table_narrows_by_status_and_service() -> None:
    site = site_with(declare("a", service="shop"), declare("b", service="shop"), declare("c"))
    site.scene.found(probe_of(site.board.checks["a"].check))

    async def shown(query: str) -> list[str]:
        links = (await page_of(site, f"/?{query}")).links
        return [link.rpartition("/")[2] for link in links if link.startswith("/api/v1/checks/")]

    assert await shown("status=up") == ["a"]
    assert await shown("status=unknown&service=shop") == ["b"]
    assert await shown("service=shop") == ["b", "a"]
    assert await shown("status=junk&page=-1&service=") == ["b", "c", "a"]
    assert await shown("page=99999999999999") == ["b", "c", "a"]
    assert await shown("page=9999") == []


async def test_many_checks_are_turned_over() -> None:
    site = site_with(*(declare(f"check-{number:04}") for number in range(2 * ROWS + 1)))
    page = await page_of(site, "/?page=2&status=unknown")
    assert f"{ROWS + 1} to {2 * ROWS} of {2 * ROWS + 1}" in page.text
    assert "/?status=unknown&page=1" in page.links
    assert "/?status=unknown&page=3" in page.links
    assert f"/api/v1/checks/check-{ROWS:04}" in page.links


async def test_services_stand_with_owner_and_a_runbook_that_is_a_web_address() -> None:
    site = Site()
    services = {
        "shop": Service(
            description="The web shop", owner="team-shop", runbook="https://runbooks.example/shop"
        ),
        "core": Service(runbook="javascript:alert(1)"),
    }
    site.run(declare("a", service="shop"), declare("b", service="core"), services=services)
    page = await page_of(site)
    assert "shop The web shop team-shop https://runbooks.example/shop" in page.text
    assert "https://runbooks.example/shop" in page.links
    assert "javascript:alert(1)" in page.text
    assert all(link.startswith(("/", "https://runbooks.example/")) for link in page.links)


async def test_the_policy_names_the_style_and_allows_nothing_else() -> None:
    async with site_with().client() as client:
        answer = await client.get("/")
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    named = b64encode(sha256(style.encode()).digest()).decode()
    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{named}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    assert "prefers-color-scheme:dark" in style
    assert "url(" not in style


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "</title></style></td></table><iframe src=//evil.example>",
    "&lt;script&gt;",
    "javascript:alert(1)",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "\x00\x1b[31m\ud800",
)  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_nothing_that_a_target_or_an_author_writes_becomes_markup(hostile: str) -> None:
    calm, site = Site(location="x"), Site(location=hostile)
    for scene, word in ((calm, "x"), (site, hostile)):
        check = declare(service="shop", description=word).model_copy(update={"labels": {"env": word}})
        services = {"shop": Service(description=word, owner=word, runbook=f"https://r.example/{word}")}
        scene.run(check, services=services)
        scene.scene.found(probe_of(check, Failure(Reason.BODY, f"body must contain {word}")))
    before, after = await page_of(calm), await page_of(site)
    assert after.tags == before.tags
    assert after.attributes == before.attributes <= ATTRIBUTES
    assert "script" not in after.tags
    assert not any(ord(character) in range(0x202A, 0x202F) for character in after.text)


@given(st.text(max_size=300))
async def test_any_text_reads_back_without_markup(value: str) -> None:
    page = Page(f"<p title='{text(value)}'>{text(value)}</p>")
    assert page.tags == ["p"]
    assert page.attributes == {"title"}
    assert text(value).encode(errors="strict").decode() == text(value)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m 1s"), (3_600, "1h"), (90_061, "1d 1h"), (-5, "0s")],
)
async def test_a_stretch_of_time_is_its_two_largest_units(seconds: int, shown: str) -> None:
    assert ago(seconds * SECOND) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1.0, "100 %"), (0.9999999, "99.999 %"), (0.5, "50 %"), (0.0, "0 %"), (2 / 3, "66.667 %")],
)
async def test_availability_is_never_rounded_up_to_all(share: float, shown: str) -> None:
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.00042, "0.4 ms"), (0.0123, "12 ms"), (0.999, "999 ms"), (1.5, "1.50 s")]
)
async def test_a_duration_is_shown_in_the_unit_it_has(seconds: float, shown: str) -> None:
    assert took(seconds) == shown


async def test_the_page_names_the_instant_of_a_change() -> None:
    site = site_with()
    site.scene.found(probe_of(declare(), at=START))
    async with site.client() as client:
        assert 'title="since 2026-09-21T14:13:20.000Z"' in (await client.get("/")).text
