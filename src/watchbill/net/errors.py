"""From what the operating system says to a reason: the one table, for every socket and every lookup."""

from __future__ import annotations

import errno
import os
import socket

from watchbill.domain.results import Reason
from watchbill.ports import NetworkError

_REASONS: dict[int, Reason] = {
    # Our own side, and certain: no target can cause these.
    errno.EMFILE: Reason.DESCRIPTORS,
    errno.ENFILE: Reason.DESCRIPTORS,
    errno.ENETUNREACH: Reason.NETWORK,
    errno.ENETDOWN: Reason.NETWORK,
    errno.EADDRNOTAVAIL: Reason.NETWORK,
    errno.EAFNOSUPPORT: Reason.NETWORK,
    errno.ENOBUFS: Reason.INTERNAL,
    errno.ENOMEM: Reason.INTERNAL,
    errno.EACCES: Reason.PERMISSION,
    errno.EPERM: Reason.PERMISSION,
    # The target, or the way to it.
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.EHOSTDOWN: Reason.UNREACHABLE,
    errno.ENETRESET: Reason.RESET,
    errno.ECONNRESET: Reason.RESET,
    errno.ECONNABORTED: Reason.RESET,
    errno.EPIPE: Reason.RESET,
    errno.ESHUTDOWN: Reason.RESET,
    errno.ETIMEDOUT: Reason.CONNECT_TIMEOUT,
    errno.EMSGSIZE: Reason.TOO_LARGE,
}
_LOOKUP_REASONS: dict[int, Reason] = {
    socket.EAI_NONAME: Reason.DNS,
    socket.EAI_NODATA: Reason.DNS,
    socket.EAI_FAIL: Reason.DNS,
    socket.EAI_ADDRFAMILY: Reason.DNS,
    socket.EAI_AGAIN: Reason.RESOLVER,
    socket.EAI_SYSTEM: Reason.RESOLVER,
    socket.EAI_MEMORY: Reason.INTERNAL,
}


def network_error(error: OSError, doing: str, *, otherwise: Reason = Reason.UNREACHABLE) -> NetworkError:
    """``doing`` says what was tried (``connecting to 192.0.2.1:80``); an unknown number is ``otherwise``."""
    number = error.errno or 0
    table = _LOOKUP_REASONS if isinstance(error, socket.gaierror) else _REASONS
    reason = table.get(number, otherwise)
    return NetworkError(reason, f"{_said(error, number)} while {doing}")


def _said(error: OSError, number: int) -> str:
    if isinstance(error, socket.gaierror):
        return (error.strerror or "lookup failed").lower()
    if number > 0:
        text = os.strerror(number)
        return text[0].lower() + text[1:]
    return str(error) or type(error).__name__


def peer_text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
