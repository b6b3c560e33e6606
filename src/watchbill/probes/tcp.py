"""TCP: a connection, what is sent over it, and what comes back."""

from __future__ import annotations

import anyio

from watchbill.domain.checks import Tcp
from watchbill.domain.expectations import ResponseMatch
from watchbill.domain.results import Failure, Reason
from watchbill.ports import Connection, Network
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import open_connection, shut, way

MOST_BYTES = 64 * 1024
MOST_READS = 1024
"""Every piece is judged together with all before it, so the number of pieces is bounded too."""


async def probe(check: Tcp, attempt: Attempt, *, network: Network) -> None:
    """:raises NetworkError: wherever it ended, with its reason."""
    network = way(network, check.resolver, check.source_address)
    connection = await open_connection(network, attempt, check.host, check.port, check.ip_family)
    try:
        if check.send is not None or check.expect.response is not None:
            attempt.phases.start("processing")
        if check.send is not None:
            await connection.send(check.send.get_secret_value().encode())
        if check.expect.response is not None:
            await _await_response(check.expect.response, connection, attempt)
        attempt.phases.stop()
    finally:
        await shut(connection)


async def _await_response(rule: ResponseMatch, connection: Connection, attempt: Attempt) -> None:
    """Read until the rule is met, or nothing more comes, or enough has come."""
    seen = b""
    try:
        for _ in range(MOST_READS):
            piece = await connection.receive()
            seen = (seen + piece)[:MOST_BYTES]
            failures = _failures(rule, seen)
            if not (piece and failures and len(seen) < MOST_BYTES):
                break
        attempt.failures += failures
    except anyio.get_cancelled_exc_class():
        # The deadline: say beside it what had been seen so far.
        attempt.failures += _failures(rule, seen)
        raise
    finally:
        attempt.facts["body_bytes"] = len(seen)


def _failures(rule: ResponseMatch, seen: bytes) -> list[Failure]:
    return rule.failures(seen.decode("utf-8", errors="replace"), of="response", reason=Reason.BODY)
