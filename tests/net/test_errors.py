"""The table from errors of the operating system to reasons."""

from __future__ import annotations

import errno
import socket

import pytest

from watchbill.domain.results import OWN_SIDE, Reason
from watchbill.net.errors import network_error, peer_text


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EMFILE, Reason.DESCRIPTORS),
        (errno.ENFILE, Reason.DESCRIPTORS),
        (errno.ENETUNREACH, Reason.NETWORK),
        (errno.ENETDOWN, Reason.NETWORK),
        (errno.EADDRNOTAVAIL, Reason.NETWORK),
        (errno.EHOSTUNREACH, Reason.UNREACHABLE),
        (errno.ECONNREFUSED, Reason.REFUSED),
        (errno.ECONNRESET, Reason.RESET),
        (errno.EPIPE, Reason.RESET),
        (errno.EACCES, Reason.PERMISSION),
        (errno.EPERM, Reason.PERMISSION),
        (errno.ETIMEDOUT, Reason.CONNECT_TIMEOUT),
        (errno.ENOBUFS, Reason.INTERNAL),
    ],
)
def test_each_number_has_its_reason(number: int, reason: Reason) -> None:
    assert network_error(OSError(number, "x"), "connecting to it").reason is reason


def test_what_is_not_certain_is_never_our_own_fault() -> None:
    for number in (errno.EINVAL, errno.EPROTO, errno.EIO, 0):
        assert network_error(OSError(number, "x"), "trying").reason not in OWN_SIDE
    assert network_error(OSError(errno.EIO, "x"), "talking", otherwise=Reason.RESET).reason is Reason.RESET


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (socket.EAI_NONAME, Reason.DNS),
        (socket.EAI_NODATA, Reason.DNS),
        (socket.EAI_AGAIN, Reason.RESOLVER),
        (socket.EAI_SYSTEM, Reason.RESOLVER),
    ],
)
def test_lookups_have_numbers_of_their_own(number: int, reason: Reason) -> None:
    error = network_error(socket.gaierror(number, "Name or service not known"), "looking up shop.test")
    assert error.reason is reason
    assert error.message == "name or service not known while looking up shop.test"


def test_the_text_is_the_same_whatever_the_event_loop_wrote() -> None:
    for text in ("Connection refused", "Connect call failed ('127.0.0.1', 1)"):
        error = network_error(OSError(errno.ECONNREFUSED, text), "connecting to 127.0.0.1:1")
        assert error.message == str(error) == "connection refused while connecting to 127.0.0.1:1"


def test_peers_are_written_as_in_a_url() -> None:
    assert peer_text("127.0.0.1", 80) == "127.0.0.1:80"
    assert peer_text("::1", 80) == "[::1]:80"
