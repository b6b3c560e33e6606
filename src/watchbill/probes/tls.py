"""TLS: a handshake, and the certificate it shows."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from watchbill.domain.checks import Tls
from watchbill.domain.expectations import TlsExpect, validity_failures
from watchbill.domain.results import Failure, Reason
from watchbill.domain.units import SECOND, Instant
from watchbill.ports import Network, TlsSession
from watchbill.probes.attempt import Attempt
from watchbill.probes.connections import open_connection, record_session, shut, way

NAMES_SHOWN = 10


async def probe(check: Tls, attempt: Attempt, *, network: Network, now: Callable[[], Instant]) -> None:
    """:raises NetworkError: wherever it ended, with its reason. A bad certificate is a failure, its facts are kept."""
    network = way(network, check)
    connection = await open_connection(network, attempt, check.host, check.port, check.ip_family)
    try:
        attempt.phases.start("tls")
        session = await connection.start_tls(check.tls, server_name=check.host)
        attempt.phases.stop()
    finally:
        await shut(connection)
    attempt.facts["ssl"] = True
    record_session(session, attempt)
    verified = check.expect.verified and not check.tls.skip_verification
    attempt.failures += session_failures(check.expect, session, verified=verified, now=now())


def session_failures(
    expect: TlsExpect, session: TlsSession, *, verified: bool, now: Instant
) -> list[Failure]:
    """Everything declared of the certificate. Without ``verified`` its problem is a fact only."""
    failures = []
    if verified and session.problem is not None:
        failures.append(Failure(Reason.CERTIFICATE, session.problem))
    expiry = session.earliest_expiry
    failures += validity_failures(
        expect.certificate_valid_for, None if expiry is None else (expiry - now) / SECOND
    )
    names = session.chain[0].names if session.chain else ()
    missing = [name for name in expect.names if not covers(names, name)]
    if missing:
        failures.append(
            Failure(
                Reason.CERTIFICATE,
                f"certificate must be for {', '.join(missing)}, but is for {_listed(names)}",
            )
        )
    return failures


def covers(shown: Iterable[str], wanted: str) -> bool:
    """Whether one of the certificate's names is the wanted one, or its wildcard (RFC 9525 §6.3).

    A wildcard stands for exactly one whole label, the leftmost.
    """
    wanted = _canonical(wanted)
    _, _, parent = wanted.partition(".")
    wildcard = f"*.{parent}" if "." in parent and not _is_address(wanted) else None
    return any(_canonical(name) in {wanted, wildcard} for name in shown)


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return (name if name.isascii() else name.encode("idna").decode("ascii")).lower().rstrip(".")
    except UnicodeError:
        return name


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdecimal()


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - NAMES_SHOWN
    return (", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")) or "no name at all"
