"""Where a check goes, as it was declared."""

from __future__ import annotations

from urllib.parse import SplitResult

import pytest

from watchbill.domain import reach
from watchbill.domain.reach import split_server


@pytest.mark.parametrize(
    ("server", "place"),
    [
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("dns.example", ("dns.example", 53)),
    ],
)
def test_a_server_is_a_host_and_a_port(server: str, place: tuple[str, int]) -> None:
    assert split_server(server) == place


def test_a_server_is_parsed_once_however_often_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = reach.split_url
    parsed: list[str] = []

    def counting(url: str) -> SplitResult:
        parsed.append(url)
        return parse(url)

    monkeypatch.setattr(reach, "split_url", counting)
    assert {split_server("192.0.2.253:5399") for _ in range(3)} == {("192.0.2.253", 5399)}
    assert parsed == ["//192.0.2.253:5399"]
