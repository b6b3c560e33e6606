"""TLS within TLS, as it is spoken to a server through a proxy that itself speaks TLS."""

from __future__ import annotations

from watchbill.net.tls import TlsClient
from watchbill.ports import TlsSession

MOST_AT_ONCE = 64 * 1024


class NestedTls:
    """Does what a :class:`~watchbill.net.tls.TlsClient` does, through another one whose handshake is done."""

    def __init__(self, outer: TlsClient | NestedTls, inner: TlsClient) -> None:
        self._outer = outer
        self._inner = inner

    def feed(self, data: bytes) -> None:
        self._outer.feed(data)
        while plain := self._outer.decrypt(MOST_AT_ONCE):
            self._inner.feed(plain)

    def outgoing(self) -> bytes:
        said = self._inner.outgoing()
        return self._outer.encrypt(said) if said else self._outer.outgoing()

    def handshake(self) -> bool:
        return self._inner.handshake()

    def encrypt(self, data: bytes) -> bytes:
        return self._outer.encrypt(self._inner.encrypt(data))

    def decrypt(self, most: int) -> bytes | None:
        return self._inner.decrypt(most)

    def is_idle(self) -> bool:
        return self._inner.is_idle()

    def close_notify(self) -> bytes:
        return self._outer.encrypt(self._inner.close_notify()) + self._outer.close_notify()

    def session(self) -> TlsSession:
        return self._inner.session()
