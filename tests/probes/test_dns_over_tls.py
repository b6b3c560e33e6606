"""DNS over TLS and over HTTPS: the certificate comes first, and every misbehaviour has its reason."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.dns_server import DnsServer, Script, broken, for_another_name, records, silence, with_another_id
from tests.probes.support import BOTH_LOOPS, LOOP_NAMES, open_prober, told
from tests.servers import (
    DAY,
    NOW,
    Authority,
    Caller,
    Issued,
    Server,
    closed_port,
    hang,
    header_of,
    http_server,
    no_socket_left,
    path_of,
    response,
    serving,
)
from watchbill.domain.results import Outcome, Reason, Result

pytestmark = pytest.mark.anyio

TWO = records("A", "192.0.2.1", "192.0.2.2")
MESSAGE = "Content-Type: application/dns-message"


@pytest.fixture(params=BOTH_LOOPS, ids=LOOP_NAMES)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def scripted(script: Script) -> DnsServer:
    return DnsServer("127.0.0.1", scripts={("shop.test", "A"): script})


@asynccontextmanager
async def over_tls(zone: DnsServer, issued: Issued) -> AsyncIterator[Server]:
    async def converse(caller: Caller) -> None:
        size = int.from_bytes(await caller.reader.readexactly(2), "big")
        packets = zone.packets_for(await caller.reader.readexactly(size), "tls")
        for packet in packets:
            await caller.say(len(packet).to_bytes(2, "big") + packet)
        if not packets:
            await caller.reader.read()

    async with serving(converse, tls=issued.context()) as server:
        yield server


@asynccontextmanager
async def over_https(zone: DnsServer, issued: Issued) -> AsyncIterator[Server]:
    def respond(request: bytes) -> bytes:
        (packet,) = zone.packets_for(request.partition(b"\r\n\r\n")[2], "https")
        return response(packet, headers=[MESSAGE])

    async with http_server(respond, tls=issued.context()) as server:
        yield server


Serving = Callable[[DnsServer, Issued], Any]
BOTH: list[tuple[str, Serving, list[str]]] = [
    ("tls", over_tls, ["resolve", "connect", "tls", "processing"]),
    ("https", over_https, ["resolve", "connect", "tls", "processing", "transfer"]),
]


async def probed(
    authority: Authority, issued: Issued, open_server: Serving, script: Script, **declared: Any
) -> tuple[Result, DnsServer]:
    zone = scripted(script)
    async with no_socket_left(), open_server(zone, issued) as server, open_prober() as probe:
        result = await probe(
            "dns",
            **{
                "name": "shop.test",
                "server": f"127.0.0.1:{server.port}",
                "tls": {"ca_file": authority.ca_file},
                **declared,
            },
        )
    return result, zone


@pytest.mark.parametrize(("transport", "open_server", "phases"), BOTH)
async def test_the_question_goes_out_once_the_certificate_has_been_verified(
    authority: Authority, transport: str, open_server: Serving, phases: list[str]
) -> None:
    result, zone = await probed(
        authority,
        authority.issue("127.0.0.1"),
        open_server,
        TWO,
        transport=transport,
        expect={"answers": {"all": {"matches": "^192"}}, "certificate_valid_for": "30d"},
    )
    assert told(result) == []
    assert zone.asked == [(transport, "shop.test", "A")]
    assert list(result.phases) == phases
    assert sum(result.phases.values()) == pytest.approx(result.duration_seconds, abs=1e-9)
    assert result.facts["answers"] == ["192.0.2.1", "192.0.2.2"]
    assert result.facts["certificate_names"] == ["127.0.0.1"]
    assert (result.facts["certificate_problem"], result.facts["tls_version"]) == (None, "TLSv1.3")
    assert result.facts["dns_lookup_seconds"] == result.phases["resolve"]


@pytest.mark.parametrize(("transport", "open_server", "phases"), BOTH)
@pytest.mark.parametrize(
    ("how", "names", "said"),
    [
        ({}, ("ns.test",), "certificate is not for 127.0.0.1 but for ns.test"),
        ({"self_signed": True}, ("127.0.0.1",), "certificate is self-signed"),
        ({"valid_from": NOW - 30 * DAY, "valid_until": NOW - DAY}, ("127.0.0.1",), "certificate expired on "),
    ],
)
async def test_a_server_with_a_bad_certificate_is_asked_nothing_and_its_facts_are_kept(
    authority: Authority,
    transport: str,
    open_server: Serving,
    phases: list[str],
    how: Any,
    names: Any,
    said: str,
) -> None:
    issued = authority.issue(*names, **how)
    result, zone = await probed(authority, issued, open_server, TWO, transport=transport)
    ((reason, message),) = told(result)
    assert (reason, zone.asked) == (Reason.CERTIFICATE, [])
    assert message.startswith(said)
    assert result.facts["certificate_names"] == list(names)
    assert list(result.phases) == ["resolve", "connect", "tls"]
    unjudged = {"ca_file": authority.ca_file, "skip_verification": True}
    skipped, zone = await probed(authority, issued, open_server, TWO, transport=transport, tls=unjudged)
    assert told(skipped) == []
    assert len(zone.asked) == 1
    assert skipped.facts["certificate_problem"].startswith(said)


@pytest.mark.parametrize(("transport", "open_server", "phases"), BOTH)
async def test_a_certificate_that_expires_too_soon_fails_beside_the_answer(
    authority: Authority, transport: str, open_server: Serving, phases: list[str]
) -> None:
    result, _ = await probed(
        authority,
        authority.issue("127.0.0.1", valid_until=NOW + 3 * DAY),
        open_server,
        TWO,
        transport=transport,
        expect={"certificate_valid_for": "14d", "rcode": "NXDOMAIN"},
    )
    assert told(result) == [
        (Reason.CERTIFICATE, "certificate must be valid for 14d, expires in 3.0d"),
        (Reason.ANSWER, "rcode must be NXDOMAIN, got NOERROR"),
    ]


@pytest.mark.parametrize(("transport", "open_server", "phases"), BOTH)
@pytest.mark.parametrize(
    ("script", "reason", "said"),
    [
        (
            broken(for_another_name, TWO),
            Reason.PROTOCOL,
            "the server answered another question than the one asked",
        ),
        (
            broken(with_another_id, TWO),
            Reason.PROTOCOL,
            "the server answered another question than the one asked",
        ),
        (broken(lambda packet: packet[:-13], TWO), Reason.PROTOCOL, "malformed DNS answer: "),
        (broken(lambda packet: b"", TWO), Reason.PROTOCOL, "the server answered another question"),
    ],
)
async def test_what_is_no_answer_is_a_violation_of_the_protocol(
    authority: Authority,
    transport: str,
    open_server: Serving,
    phases: list[str],
    script: Script,
    reason: Reason,
    said: str,
) -> None:
    result, _ = await probed(
        authority, authority.issue("127.0.0.1"), open_server, script, transport=transport
    )
    ((seen, message),) = told(result)
    assert seen is reason
    assert message.startswith(said)


async def test_a_question_over_https_is_one_post_whose_id_is_zero(authority: Authority) -> None:
    zone = scripted(TWO)
    async with over_https(zone, authority.issue("localhost")) as server, open_prober() as probe:
        for path, asked in (("", "/dns-query"), ("/", "/dns-query"), ("/tenant/x", "/tenant/x")):
            result = await probe(
                "dns",
                name="shop.test",
                server=f"https://localhost:{server.port}{path}",
                transport="https",
                tls={"ca_file": authority.ca_file},
            )
            assert told(result) == []
            assert result.facts["server"] == f"https://localhost:{server.port}{asked}"
            assert path_of(server.requests[-1]) == asked
    request = server.requests[0]
    assert request.startswith(b"POST ")
    assert header_of(request, "host") == f"localhost:{server.port}"
    assert header_of(request, "accept") == "application/dns-message"
    assert header_of(request, "content-type") == "application/dns-message"
    assert [query.id for query in zone.queries] == [0, 0, 0]


@pytest.mark.parametrize(
    ("said", "reason", "message"),
    [
        (response(b"", status="404 Not Found"), Reason.STATUS, "status must be 2xx, got 404"),
        (
            response(b"", status="302 Found", headers=["Location: /elsewhere"]),
            Reason.STATUS,
            "status must be 2xx, got 302",
        ),
        (
            response(b"<html>", headers=["Content-Type: text/html; charset=utf-8"]),
            Reason.PROTOCOL,
            "the response must be application/dns-message, is text/html; charset=utf-8",
        ),
        (
            response(b"x"),
            Reason.PROTOCOL,
            "the response must be application/dns-message, is of no declared type",
        ),
        (
            response(b"x" * 70_000, headers=[MESSAGE]),
            Reason.TOO_LARGE,
            "a DNS answer must be at most 65535 bytes, the response is larger",
        ),
        (
            response(b"x", headers=[MESSAGE], length=2),
            Reason.RESET,
            "the server hung up in the middle of the response's body",
        ),
        (b"SSH-2.0-x\r\n", Reason.PROTOCOL, 'the response is not HTTP/1.1: it begins with "SSH-2.0-x\\r\\n"'),
    ],
)
async def test_a_web_server_that_answers_no_questions_fails(
    authority: Authority, said: bytes, reason: Reason, message: str
) -> None:
    issued = authority.issue("127.0.0.1")
    async with no_socket_left(), http_server(said, tls=issued.context()) as server, open_prober() as probe:
        result = await probe(
            "dns",
            name="shop.test",
            server=f"127.0.0.1:{server.port}",
            transport="https",
            tls={"ca_file": authority.ca_file},
        )
    assert told(result) == [(reason, message)]
    assert result.outcome is Outcome.FAILURE


@pytest.mark.parametrize("transport", ["tls", "https"])
async def test_where_nobody_listens_or_speaks_there_is_a_reason(authority: Authority, transport: str) -> None:
    declared: dict[str, Any] = {
        "name": "shop.test",
        "transport": transport,
        "tls": {"ca_file": authority.ca_file},
    }
    async with no_socket_left(), serving(hang) as mute, open_prober() as probe:
        nobody = await probe("dns", **declared, server=f"127.0.0.1:{closed_port()}")
        silent = await probe("dns", **declared, server=f"127.0.0.1:{mute.port}", timeout="0.3s")
    assert [failure.reason for failure in nobody.failures] == [Reason.REFUSED]
    assert told(silent) == [(Reason.TIMEOUT, "timed out after 300ms during the TLS handshake")]


async def test_a_server_that_keeps_silent_behind_its_handshake_costs_the_timeout(
    authority: Authority,
) -> None:
    result, _ = await probed(
        authority, authority.issue("127.0.0.1"), over_tls, silence, transport="tls", timeout="0.5s"
    )
    assert told(result) == [(Reason.TIMEOUT, "timed out after 500ms while waiting for the response")]
    assert result.facts["tls_version"] == "TLSv1.3"


@pytest.mark.parametrize("server", ["https://[v1.a]/", "https://☃./", "☃"])
async def test_a_server_whose_url_is_impossible_is_no_crash(server: str) -> None:
    async with open_prober() as probe:
        result = await probe("dns", name="shop.test", server=server, transport="https")
    assert result.reason is Reason.PROTOCOL
    assert "the server cannot be asked" in result.message
