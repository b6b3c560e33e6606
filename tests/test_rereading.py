"""The web configuration is read again: what holds afterwards, and what is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from tests.config.test_webfile import GOOD, HASH
from tests.web.certificates import authority, server_party
from watchbill.config.webfile import WebFile
from watchbill.domain.errors import ConfigError
from watchbill.domain.web import WebSettings
from watchbill.rereading import Rereading, first
from watchbill.testing import inline

pytestmark = pytest.mark.anyio
TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "server.crt").write_bytes(server_party().cert)
    (tmp_path / "server.key").write_bytes(server_party().key)
    return tmp_path


def opened(folder: Path, text: str, now: list[int]) -> tuple[Rereading, Path]:
    file = folder / "web.yml"
    file.write_text(text)
    return first(str(file), now=lambda: now[0], offload=inline), file


async def test_what_changed_holds_and_when_is_known(folder: Path) -> None:
    now = [5]
    rereading, file = opened(folder, TLS, now)
    before, now[0] = rereading.live.context, 9
    file.write_text(TLS + "http_server_config: {headers: {X-Frame-Options: deny}}\n")
    with capture_logs() as logs:
        await rereading.read()
    assert rereading.live.settings.headers == {"X-Frame-Options": "deny"}
    assert rereading.live.context is before  # TLS is as it was: nobody has to connect anew
    assert (rereading.live.statistics().successful, rereading.live.statistics().succeeded_at) == (True, 9)
    assert [line["event"] for line in logs] == ["web.config_reloaded"]


@pytest.mark.parametrize(
    "broken", ["tls_server_config: [", "a: b\n", "", TLS.replace("server.key", "none.key")]
)
async def test_what_is_broken_changes_nothing_and_is_told_and_counted(folder: Path, broken: str) -> None:
    rereading, file = opened(folder, TLS, [5])
    held = rereading.live.settings
    file.write_text(broken)
    with capture_logs() as logs:
        await rereading.read()
        await rereading.read()
    assert rereading.live.settings is held
    numbers = rereading.live.statistics()
    assert (numbers.successful, numbers.succeeded_at, numbers.failures) == (False, 5, 2)
    assert [line["event"] for line in logs] == ["web.config_rejected"] * 2
    assert all(str(file) in line["problems"][0] for line in logs)
    file.write_text(TLS)
    await rereading.read()
    assert rereading.live.statistics().successful


@pytest.mark.parametrize("cut_short", ["", "http_server_config: {headers: {X-Frame-Options: deny}}\n"])
async def test_a_file_without_its_users_lets_nobody_in_who_was_not_before(
    folder: Path, cut_short: str
) -> None:
    rereading, file = opened(folder, f"{cut_short}basic_auth_users: {{bob: {HASH}}}\n", [5])
    file.write_text(cut_short)
    with capture_logs() as logs:
        await rereading.read()
    assert rereading.live.settings.users
    assert "the last user is taken away by a restart alone" in logs[0]["problems"][0]
    file.write_text(f"{cut_short}basic_auth_users: {{alice: {HASH}}}\n")
    await rereading.read()
    assert rereading.live.settings.users.keys() == {"alice"}


async def test_the_files_it_names_are_followed_also_those_of_a_broken_one(folder: Path) -> None:
    rereading, file = opened(folder, TLS, [5])
    followed: list[str] = []

    async def following(
        path: str, _: object, *, also: Callable[[], Iterable[str]], started: Callable[[], object]
    ) -> None:
        followed[:] = [path, *also()]
        started()

    await rereading.run(following)
    assert followed == [str(file), str(folder / "server.crt"), str(folder / "server.key")]
    file.write_text(TLS.replace("server.key", "renewed.key"))
    await rereading.read()
    await rereading.run(following)
    assert str(folder / "renewed.key") in followed


async def test_what_changed_before_anybody_looked_holds_too(folder: Path) -> None:
    rereading, file = opened(folder, TLS, [5])
    file.write_text(TLS + "http_server_config: {headers: {X-Frame-Options: deny}}\n")
    looking = anyio.Event()

    async def never_again(*_: object, started: Callable[[], object], **__: object) -> None:
        started()
        looking.set()

    with anyio.fail_after(5):
        await rereading.run(never_again)
    assert looking.is_set()
    assert rereading.live.settings.headers == {"X-Frame-Options": "deny"}


async def test_an_error_of_our_own_leaves_what_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rereading, _ = opened(folder, TLS, [5])

    def load(_: WebFile) -> WebSettings:
        raise RuntimeError("a defect")

    monkeypatch.setattr(WebFile, "load", load)
    with capture_logs() as logs:
        await rereading.read()
    assert [line["event"] for line in logs] == ["web.config_failed"]
    assert rereading.live.context is not None
    assert not rereading.live.statistics().successful


PIECES = (
    *(b"\n", b": ", b"- ", b"{", b"]", b"*a", b"&a ", b"<<: "),
    *(b"\0", b"\xff", b"~", b"1e9", b"!!int ", b"'", b"-1s"),
)


def test_whatever_the_bytes_are_the_answer_is_a_place(folder: Path) -> None:
    dice = random.Random(5)
    (folder / "ca.crt").write_bytes(authority().pem)
    texts = [row.text.replace("INLINE", TLS).encode() for row in GOOD.values()]
    file = folder / "web.yml"
    refused: list[ConfigError] = []
    for _ in range(400):
        content = bytearray(dice.choice(texts) + dice.choice(texts))
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(content) + 1)
            content[at : at + dice.randrange(4)] = dice.choice(PIECES)
        file.write_bytes(bytes(content))
        try:
            first(str(file), now=lambda: 0, offload=inline)
        except ConfigError as error:
            refused.append(error)
    problems = [problem for error in refused for problem in error.problems]
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    assert 200 < len(refused) < 400
