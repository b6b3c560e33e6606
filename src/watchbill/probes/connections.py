"""What every prober over TCP does alike: resolve and connect in their phases, note the handshake, close."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from watchbill.domain.reach import IpChoice
from watchbill.domain.units import SECOND
from watchbill.ports import Connection, Network, TlsSession
from watchbill.probes.attempt import Attempt

MOST_NAMES_KEPT = 100
_METADATA = frozenset(
    ip_address(text) for text in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")
)
_NAT64 = ip_network("64:ff9b::/96")


def way(network: Network, resolver: str | None, source: str | None) -> Network:
    """The network that a check asks for: as it is, for most of them."""
    return network if resolver is None and source is None else network.via(resolver=resolver, source=source)


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


def is_metadata(address: str) -> bool:
    """Link-local, or where a cloud keeps its machines' credentials; also behind a translated or mapped address."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = IPv4Address(int(found) & 0xFFFF_FFFF)
        if inner is not None:
            return is_metadata(str(inner))
    return found.is_link_local or found in _METADATA


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
