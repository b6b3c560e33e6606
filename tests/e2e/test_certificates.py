"""Certificates that do not verify, as Prometheus sees them: their facts are there, and which rule was broken."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.exporter import Exporter, exporter
from tests.servers import (
    DAY,
    LOOPBACK,
    NOW,
    Authority,
    Caller,
    Conversation,
    Issued,
    hang,
    response,
    serving,
    shake_hands,
)

KINDS = ("expired", "wrong-name", "self-signed", "unreadable", "good")
RULES = {
    "expired": "certificate expired on ",
    "wrong-name": "certificate is not for 127.0.0.1 but for shop.test",
    "self-signed": "certificate is self-signed",
    "unreadable": "cannot be read",
}


def issued_by(authority: Authority) -> dict[str, Issued]:
    return {
        "expired": authority.issue(LOOPBACK, valid_from=NOW - 30 * DAY, valid_until=NOW - 3 * DAY),
        "wrong-name": authority.issue("shop.test"),
        "self-signed": authority.issue(LOOPBACK, self_signed=True),
        "unreadable": authority.issue(LOOPBACK),
        "good": authority.issue(LOOPBACK),
    }


def context_of(kind: str, issued: Issued, folder: Path) -> ssl.SSLContext:
    if kind != "unreadable":
        return issued.context()
    chain = folder / "odd.pem"
    chain.write_bytes(issued.odd())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, issued.key_file)
    return context


@contextmanager
def served(contexts: dict[str, ssl.SSLContext]) -> Iterator[dict[str, int]]:
    """A server for each, in a thread; their ports."""

    def conversation(context: ssl.SSLContext) -> Conversation:
        async def talk(caller: Caller) -> None:
            secure = await shake_hands(caller, context)
            await secure.answer(response())
            await hang(caller)

        return talk

    with start_blocking_portal() as portal, ExitStack() as stack:
        yield {
            kind: stack.enter_context(portal.wrap_async_context_manager(serving(conversation(context)))).port
            for kind, context in contexts.items()
        }


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, dict[str, Issued]]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    return authority, issued_by(authority)


@pytest.fixture(scope="module")
def running(
    issued: tuple[Authority, dict[str, Issued]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exporter]:
    authority, certificates = issued
    folder = tmp_path_factory.mktemp("exporter")
    contexts = {kind: context_of(kind, one, folder) for kind, one in certificates.items()}
    with served(contexts) as ports:
        lines = ["version: 1", "defaults: {interval: 1s}", "checks:"]
        tls = f"tls: {{ca_file: {authority.ca_file}}}"
        for kind, port in ports.items():
            lines.append(f"  https-{kind}: {{type: http, url: 'https://127.0.0.1:{port}/', {tls}}}")
            lines.append(f"  tls-{kind}: {{type: tls, host: 127.0.0.1, port: {port}, {tls}}}")
        config = folder / "checks.yaml"
        config.write_text("\n".join(lines) + "\n")
        with exporter(config, folder) as exporting:
            exporting.until(
                "all were probed",
                lambda: exporting.total("probe_success") == 2 and probed(exporting) == 2 * len(KINDS),
            )
            yield exporting


def probed(exporting: Exporter) -> int:
    return sum(name.startswith("probe_success{") for name in exporting.metrics())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type_name", ["https", "tls"])
def test_facts_are_exported_and_the_failure_names_the_rule(
    running: Exporter, issued: tuple[Authority, dict[str, Issued]], kind: str, type_name: str
) -> None:
    name = f"{type_name}-{kind}"
    mine = {key: value for key, value in running.metrics().items() if f'check="{name}"' in key}

    def of(family: str, label: str = "") -> list[float]:
        return [value for key, value in mine.items() if key.startswith(family + "{") and label in key]

    expiry = issued[1][kind].certificate.not_valid_after_utc.timestamp()
    assert of("probe_ssl_earliest_cert_expiry") == [expiry]
    assert of("probe_tls_version_info", 'version="TLS 1.3"') == [1]
    assert of("probe_success") == [kind == "good"]
    assert of("watchbill_check_failing", 'reason="certificate"') == ([] if kind == "good" else [1])
    latest = running.request(f"/api/v1/checks/{name}").json()["latest"]
    assert latest["facts"]["certificate_issuer"] == f"CN={LOOPBACK if kind == 'self-signed' else 'Test Root'}"
    if kind != "good":
        assert RULES[kind] in latest["failures"][0]["message"]
        assert latest["failures"][0]["reason"] == "certificate"
