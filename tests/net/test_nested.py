"""TLS within TLS over memory: what becomes of the inner one when the outer one ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.servers import Authority, Issued
from watchbill.domain.credentials import TlsOptions
from watchbill.net.nested import NestedTls
from watchbill.net.tls import Contexts, TlsClient
from watchbill.ports import NetworkError


class _Peer:
    """The server's side of one layer."""

    def __init__(self, issued: Issued) -> None:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate_chain_file(issued.cert_file)
        context.use_privatekey_file(issued.key_file)
        self.ssl = SSL.Connection(context, None)
        self.ssl.set_accept_state()

    def hear(self, data: bytes) -> bytes:
        """What it says to that during its handshake."""
        self.ssl.bio_write(data)
        with suppress(SSL.WantReadError):
            self.ssl.do_handshake()
        return self.said()

    def said(self) -> bytes:
        try:
            return self.ssl.bio_read(1 << 16)
        except SSL.WantReadError:
            return b""


@pytest.fixture
def layers(tmp_path: Path) -> tuple[TlsClient, _Peer]:
    """The outer one with its handshake done."""
    peer = _Peer(Authority(tmp_path).issue("localhost"))
    outer = TlsClient(Contexts().get(TlsOptions()), "localhost")
    while not outer.handshake():
        outer.feed(peer.hear(outer.outgoing()))
    outer.feed(peer.hear(outer.outgoing()))
    return outer, peer


def test_the_end_of_the_way_is_the_end_of_what_goes_over_it(layers: tuple[TlsClient, _Peer]) -> None:
    outer, peer = layers
    nested = NestedTls(outer, TlsClient(Contexts().get(TlsOptions()), "localhost"))
    assert not nested.handshake()
    peer.ssl.shutdown()
    nested.feed(peer.said())
    with pytest.raises(NetworkError, match="closed the way during the TLS handshake"):
        nested.handshake()
    assert not nested.is_idle()
