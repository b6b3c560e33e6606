"""Files that let commands in by an exporter: what is refused, and at which place."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchbill.config.httpfile import load_http
from watchbill.domain.errors import ConfigError

BAD = {
    "a password without a user": ("basic_auth: {password: x}\n", "1:13: basic_auth needs a username"),
    "credentials no header can hold": (
        "authorization: {credentials: sésame}\n",
        "1:16: authorization holds a character that no header can hold",
    ),
    "credentials of two lines": (
        'authorization: {credentials: "a\\nb"}\n',
        "1:16: authorization holds a character that no header can hold",
    ),
    "authorities that are no PEM": ("tls_config: {ca: é}\n", "1:18: ca holds no certificate in PEM"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_what_would_not_let_in_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "http.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_http(str(file))
    (problem,) = caught.value.problems
    assert f"{problem.line}:{problem.column}: {problem.message}".startswith(said)
    assert "sésame" not in str(problem)


def test_a_user_without_a_password_is_one(tmp_path: Path) -> None:
    file = tmp_path / "http.yml"
    file.write_text("basic_auth: {username: bob}\n")
    assert (load_http(str(file)).user, load_http(str(file)).password) == ("bob", "")
