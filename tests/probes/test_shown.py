"""Facts are searched for secrets as one text, and not at all once that text is known; nothing is shown for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.probes.test_execute import a_check
from watchbill.probes import shown
from watchbill.probes.shown import MOST_CHARACTERS, Screen, presentable

SECRET = "s3cret token"
TEXTS = st.text(st.sampled_from("ab \n\x1b…") | st.characters(), max_size=6) | st.sampled_from(
    [SECRET, SECRET.upper(), "s3cret", "token", "s3cret tok…", "x" * (MOST_CHARACTERS + 1)]
)
FACTS = st.dictionaries(
    st.text(max_size=3), st.recursive(TEXTS | st.integers() | st.none(), st.lists, max_leaves=4), max_size=4
)


def one_by_one(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [one_by_one(item, secrets) for item in value]
    return presentable(value, secrets) if isinstance(value, str) else value


@given(seen=st.lists(FACTS, max_size=3))
def test_what_is_shown_is_what_each_text_would_be_by_itself(seen: list[dict[str, Any]]) -> None:
    screen = Screen(a_check(send=SECRET))
    for facts in seen + seen:
        wanted = one_by_one(list(facts.values()), screen.secrets)
        shown_facts = dict(facts)
        screen.show(shown_facts)
        assert list(shown_facts.values()) == wanted


def test_a_secret_is_hidden_though_the_facts_before_were_clean() -> None:
    screen = Screen(a_check(send=SECRET))
    said = []
    for name in ("shop.test", "shop.test", SECRET, "shop.test"):
        facts = {"certificate_subject": name}
        screen.show(facts)
        said.append(facts["certificate_subject"])
    assert said == ["shop.test", "shop.test", "***", "shop.test"]


def test_facts_that_are_the_same_again_are_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def counting(text: str, secrets: tuple[str, ...]) -> bool:
        searched.append(text)
        return True

    monkeypatch.setattr(shown, "is_clean", counting)
    screen = Screen(a_check(send=SECRET))
    for seconds in (0.1, 0.2, 0.3):
        screen.show({"address": "192.0.2.1", "certificate_names": ["a.test", "b.test"], "lookup": seconds})
    assert searched == ["192.0.2.1 a.test b.test"]
