"""TCP: a connection, what is sent over it, and what comes back."""

from __future__ import annotations

import anyio

from watchbill.domain.checks import Tcp
from watchbill.domain.expectations import ResponseMatch
from watchbill.domain.results import Failure, Reason
from watchbill.judgement import judge_response
from watchbill.ports import Connection, Judge, Network, NetworkError, UnjudgedError
from watchbill.probes.aside import COSTLY_BYTES
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import open_connection, open_socket, shut, way

MOST_BYTES = 64 * 1024
MOST_READS = 1024
"""Every piece is judged together with all before it, so the number of pieces is bounded too."""


async def probe(check: Tcp, attempt: Attempt, *, network: Network, judge: Judge) -> None:
    """:raises NetworkError: wherever it ended, with its reason."""
    network = way(network, check)
    if check.host is not None and check.port is not None:
        connection = await open_connection(network, attempt, check.host, check.port, check.ip_family)
    else:
        connection = await open_socket(network, attempt, check.unix_socket or "")
    try:
        if check.send is not None or check.expect.response is not None:
            attempt.phases.start("processing")
        if check.send is not None:
            await connection.send(check.send.get_secret_value().encode())
        if check.expect.response is not None:
            await _await_response(check.expect.response, connection, attempt, judge=judge)
        attempt.phases.stop()
    finally:
        await shut(connection)


async def _await_response(
    rule: ResponseMatch, connection: Connection, attempt: Attempt, *, judge: Judge
) -> None:
    """Read until the rule is met, or nothing more comes, or enough has come."""
    seen, failures = b"", None
    try:
        for _ in range(MOST_READS):
            piece = await connection.receive()
            seen = (seen + piece)[:MOST_BYTES]
            failures = await _judge(rule, seen, judge)
            if not (piece and failures and len(seen) < MOST_BYTES):
                break
        attempt.failures += failures or []
    except anyio.get_cancelled_exc_class():
        # The deadline: say beside it what had been seen so far.
        attempt.failures += judge_response(b"", rule) if failures is None else failures
        raise
    finally:
        attempt.facts["body_bytes"] = len(seen)


async def _judge(rule: ResponseMatch, seen: bytes, judge: Judge) -> list[Failure]:
    if not rule.matches or len(seen) <= COSTLY_BYTES:
        return judge_response(seen, rule)
    try:
        return await judge(judge_response, [seen], rule)
    except UnjudgedError as error:
        raise NetworkError(Reason.INTERNAL, f"the response could not be judged ({error})") from error
