"""What the simulation's scraper sees."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from tests.sim.mirror import Mirror
from tests.sim.scrape import Scraper
from watchbill.app import App

WELL = "watchbill_config_last_reload_successful 1\n"


def app_showing(page: str) -> App:
    metrics = SimpleNamespace(render=lambda: ("text/plain", (page + WELL).encode()))
    return cast("App", SimpleNamespace(metrics=metrics))


def seen(*pages: str) -> list[str | None]:
    scraper = Scraper()
    return [scraper.differences(app_showing(page), Mirror()) for page in pages]


def test_a_counter_that_goes_back_or_is_gone_is_seen() -> None:
    counted = 'x_total{a="b"} 3\n'
    assert seen(counted, counted, 'x_total{a="b"} 4\n') == [None, None, None]
    assert seen(counted, 'x_total{a="b"} 2\n')[1] == 'x_total{a="b"} went back from 3.0 to 2.0'
    assert seen(counted, "")[1] == 'x_total{a="b"} went back from 3.0 to nothing'
    assert seen('x{a="b"} 3\n', "") == [None, None]
