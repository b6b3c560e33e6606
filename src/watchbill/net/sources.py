"""Sockets that are not the usual ones: from a declared address of this machine, or to a path in the file system."""

from __future__ import annotations

import asyncio
import errno
import socket

from watchbill.domain.results import Reason
from watchbill.net.errors import network_error, peer_text
from watchbill.net.streams import Stream
from watchbill.net.tls import Contexts
from watchbill.ports import NetworkError

_IP_BIND_ADDRESS_NO_PORT = 24  # Linux' number, which the socket module does not name


def bind_to(endpoint: socket.socket, source: str) -> None:
    """:raises NetworkError: ``network``, where this machine has no such address."""
    try:
        endpoint.bind((source, 0))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise NetworkError(
                Reason.NETWORK, f"this machine has no address {source} to probe from (source_address)"
            ) from error
        raise network_error(error, f"binding to {source}", otherwise=Reason.NETWORK) from error


async def open_stream_from(source: str, address: str, port: int, *, contexts: Contexts) -> Stream:
    """:raises NetworkError: the address is not ours, or the connection could not be made; says why."""
    peer = peer_text(address, port)
    try:
        endpoint = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise network_error(error, f"connecting to {peer}") from error
    try:
        endpoint.setblocking(False)
        # The port is chosen when connecting, so that each is good for many peers.
        endpoint.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        bind_to(endpoint, source)
        return await _connected(endpoint, (address, port), peer, contexts)
    except BaseException:
        endpoint.close()
        raise


async def open_unix_stream(path: str, *, contexts: Contexts) -> Stream:
    """:raises NetworkError: ``refused`` where nobody listens, nothing is there or no more fit in, ``permission``."""
    try:
        endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise network_error(error, f"connecting to {path}") from error
    try:
        endpoint.setblocking(False)
        _connect_unix(endpoint, path)
        return await _stream_over(endpoint, path, contexts)
    except BaseException:
        endpoint.close()
        raise


def _connect_unix(endpoint: socket.socket, path: str) -> None:
    # Done at once or not at all (unix(7)); the loop would take a full queue for a connection under way.
    try:
        endpoint.connect(path)
    except FileNotFoundError as error:
        raise NetworkError(Reason.REFUSED, f"there is no socket at {path}") from error
    except BlockingIOError as error:
        raise NetworkError(
            Reason.REFUSED, f"nobody takes connections at {path}: as many as it queues are waiting"
        ) from error
    except OSError as error:
        raise network_error(error, f"connecting to {path}") from error


async def _connected(
    endpoint: socket.socket, place: tuple[str, int], peer: str, contexts: Contexts
) -> Stream:
    try:
        await asyncio.get_running_loop().sock_connect(endpoint, place)
    except OSError as error:
        raise network_error(error, f"connecting to {peer}") from error
    return await _stream_over(endpoint, peer, contexts)


async def _stream_over(endpoint: socket.socket, peer: str, contexts: Contexts) -> Stream:
    stream = Stream(peer, contexts)
    try:
        await asyncio.get_running_loop().create_connection(lambda: stream, sock=endpoint)
    except OSError as error:
        raise network_error(error, f"connecting to {peer}") from error
    return stream
