"""TLS within TLS, as it is spoken to a server through a proxy that itself speaks TLS."""

from __future__ import annotations

from watchbill.domain.results import Reason
from watchbill.net.tls import TlsClient
from watchbill.ports import NetworkError, TlsSession

MOST_AT_ONCE = 64 * 1024


class NestedTls:
    """Does what a :class:`~watchbill.net.tls.TlsClient` does, through another one whose handshake is done."""

    def __init__(self, outer: TlsClient | NestedTls, inner: TlsClient) -> None:
        self._outer = outer
        self._inner = inner
        self._outer_ended = False

    def feed(self, data: bytes) -> None:
        self._outer.feed(data)
        while plain := self._outer.decrypt(MOST_AT_ONCE):
            self._inner.feed(plain)
        self._outer_ended = plain is not None

    def outgoing(self) -> bytes:
        said = self._inner.outgoing()
        return self._outer.encrypt(said) if said else self._outer.outgoing()

    def handshake(self) -> bool:
        done = self._inner.handshake()
        if self._outer_ended and not done:
            raise NetworkError(Reason.TLS, "the proxy closed the way during the TLS handshake")
        return done

    def encrypt(self, data: bytes) -> bytes:
        return self._outer.encrypt(self._inner.encrypt(data))

    def decrypt(self, most: int) -> bytes | None:
        data = self._inner.decrypt(most)
        return b"" if data is None and self._outer_ended else data

    def is_idle(self) -> bool:
        return not self._outer_ended and self._inner.is_idle()

    def close_notify(self) -> bytes:
        try:
            return self._outer.encrypt(self._inner.close_notify()) + self._outer.close_notify()
        except NetworkError:  # the outer one is broken already
            return b""

    def session(self) -> TlsSession:
        return self._inner.session()
