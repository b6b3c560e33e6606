"""What every prober over TCP does alike: resolve and connect in their phases, note the handshake, close."""

from __future__ import annotations

from watchbill.domain.reach import ByName, IpChoice, Outbound
from watchbill.domain.units import SECOND
from watchbill.fence import unfenced
from watchbill.ports import Connection, Network, TlsSession
from watchbill.probes.attempt import Attempt

MOST_NAMES_KEPT = 100


def way(network: Network, check: Outbound) -> Network:
    """The network that a check asks for: as it is, for most of them."""
    resolver = check.resolver if isinstance(check, ByName) else None
    if check.allow_link_local:
        network = unfenced(network)
    if resolver is None and check.source_address is None:
        return network
    return network.via(resolver=resolver, source=check.source_address)


async def open_connection(
    network: Network, attempt: Attempt, host: str, port: int, ip_family: IpChoice | None
) -> Connection:
    """Resolve and connect, once each."""
    return await connect(network, attempt, await resolve(network, attempt, host, ip_family), port)


async def resolve(network: Network, attempt: Attempt, host: str, ip_family: IpChoice | None) -> str:
    attempt.phases.start("resolve")
    address = await network.resolve(host, ip_family)
    attempt.facts["address"] = address
    attempt.facts["ip_protocol"] = 6 if ":" in address else 4
    return address


async def connect(network: Network, attempt: Attempt, address: str, port: int) -> Connection:
    attempt.phases.start("connect")
    attempt.facts["dns_lookup_seconds"] = attempt.phases.seconds["resolve"]
    return await network.connect(address, port)


async def open_socket(network: Network, attempt: Attempt, path: str) -> Connection:
    """Connect to a socket in the file system, which takes no lookup."""
    attempt.phases.start("connect")
    attempt.facts["address"] = path
    return await network.connect_unix(path)


def record_session(session: TlsSession, attempt: Attempt) -> None:
    """The handshake and its certificate as facts; instants in whole seconds."""
    facts = attempt.facts
    facts["tls_version"] = session.version
    facts["tls_cipher"] = session.cipher
    facts["certificate_problem"] = session.problem
    if not session.chain:
        return
    leaf = session.chain[0]
    if (expiry := session.earliest_expiry) is not None:
        facts["certificate_expires_at"] = expiry // SECOND
    if leaf.not_before:
        facts["certificate_not_before"] = leaf.not_before // SECOND
    facts["certificate_subject"] = leaf.subject
    facts["certificate_issuer"] = leaf.issuer
    facts["certificate_names"] = list(leaf.names[:MOST_NAMES_KEPT])
    facts["certificate_sha256"] = leaf.sha256
    facts["certificate_serial"] = leaf.serial


async def shut(connection: Connection) -> None:
    """Also while being cancelled: closing does not suspend, by contract."""
    await connection.close()
