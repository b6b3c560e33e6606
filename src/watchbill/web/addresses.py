"""Where the web listens: from ``host:port`` as people write it to listening sockets, or to what to do about it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from watchbill.domain.errors import ListenError

BACKLOG = 512


def bind(addresses: Sequence[str]) -> list[socket.socket]:
    """Listening sockets for ``127.0.0.1:9876``, ``[::1]:9876``, ``localhost:9876`` or ``:9876`` (all interfaces).

    All or none.

    :raises ListenError: an address is not one, or cannot be taken; says what to do.
    """
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            bound.append(_bind(address))  # noqa: PERF401 - what was bound before a failure must be closed
    except ListenError:
        for taken in bound:
            taken.close()
        raise
    return bound


def adopt(descriptors: Sequence[tuple[int, str]]) -> list[socket.socket]:
    """The listening sockets that the service manager holds open for us (sd_listen_fds(3)): descriptors and their names.

    :raises ListenError: there is none, or one is no listening stream socket.
    """
    if not descriptors:
        raise ListenError(
            "no socket was handed over: --web.systemd-socket works where systemd starts the service by its .socket unit"
        )
    adopted: list[socket.socket] = []
    try:
        for descriptor, name in descriptors:
            adopted.append(_adopted(descriptor, name))
    except ListenError:
        for taken in adopted:
            taken.close()
        raise
    return adopted


def _adopted(descriptor: int, name: str) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"descriptor {descriptor} ({name}) is no socket: {error.strerror}") from error
    if listener.type != socket.SOCK_STREAM or not listening:
        listener.close()
        raise ListenError(
            f"the socket {name} does not listen for streams; its .socket unit needs ListenStream=, and no Accept="
        )
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener


def _bind(address: str) -> socket.socket:
    host, port = split_address(address)
    family, where = _resolved(host, port, address)
    try:
        return _listening(family, where, dual=not host)
    except OSError as error:
        if (
            not host
            and family is socket.AF_INET6
            and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
        ):
            return _bind(f"0.0.0.0:{port}")
        raise ListenError(_remedy(address, error)) from error


def _listening(family: int, where: Any, *, dual: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        listener.setblocking(False)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _resolved(host: str, port: int, address: str) -> tuple[int, Any]:
    if not host:
        any_ipv4 = ("0.0.0.0", port)  # noqa: S104 - asked for with ":9876"
        return (socket.AF_INET6, ("::", port)) if socket.has_ipv6 else (socket.AF_INET, any_ipv4)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ListenError(
            f"cannot listen on {address}: {host} is no address of this machine; "
            "use an IP address, or :PORT for all interfaces"
        ) from None
    return family, where


def split_address(address: str) -> tuple[str, int]:
    """Host (empty: all interfaces) and port.

    :raises ListenError: where it is no ``host:port``.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ListenError(
            f"cannot listen on {address!r}: write host:port, such as 127.0.0.1:9876, [::1]:9876 or :9876"
        )
    return host, int(port)


def _remedy(address: str, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            what = "another program listens there; stop it, or choose another port with --web.listen-address"
        case errno.EACCES | errno.EPERM:
            what = "that port needs privileges; choose one from 1024 on with --web.listen-address"
        case errno.EADDRNOTAVAIL:
            what = "no interface of this machine has that address; use one it has, or :PORT for all"
        case _:
            what = os.strerror(error.errno) if error.errno else str(error)
    return f"cannot listen on {address}: {what}"
