"""One connection's side of TLS: a transport around a transport.

OpenSSL works over memory, so each connection takes the context of the moment it is made, and what is sent when is ours to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from OpenSSL import SSL

from watchbill.web.tls import said

LARGEST_RECORD = 16 << 10
MOST_RECORDS_AT_A_STRETCH = 64
"""A record may hold a single byte, and costs as much as a full one: what one read brings could hold 11,000."""
READ_AT_ONCE = 64 << 10
WRITE_AT_ONCE = 1 << 20
HANDSHAKE_RECORD = 0x16
HANDSHAKE_FAILURES = ("plaintext", "certificate", "timeout", "protocol", "gone")


class BrokenError(Exception):
    """What came over an established connection is no TLS, or has been tampered with."""


class HandshakeError(Exception):
    """The client is none that may talk to us; its text is one of ``HANDSHAKE_FAILURES``."""


class Encrypted(asyncio.Transport):
    """A transport whose other side is TLS: what is written is encrypted, what :meth:`received` yields was decrypted.

    Reading that is paused stays paused for what has been decrypted, too: ``resumed`` is called when there may be more, and
    is to read on in a later turn of the loop.
    """

    def __init__(
        self, context: SSL.Context, transport: asyncio.Transport, resumed: Callable[[], object]
    ) -> None:
        super().__init__({"sslcontext": context})
        self._ssl = SSL.Connection(context, None)
        self._ssl.set_accept_state()
        self._transport = transport
        self._resumed = resumed
        self._paused = False
        self._resting = False
        self._begun = False
        self.established = False
        self.ended = False
        """The client has said that it sends no more."""

    # --- in -----------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """:raises HandshakeError: this will be no connection; what there is to say about it has been sent."""
        if not self._begun and data:
            self._begun = True
            if data[0] != HANDSHAKE_RECORD:
                raise HandshakeError("plaintext")
        self._ssl.bio_write(data)
        if not self.established:
            self._shake_hands()

    def decrypted(self) -> Iterator[bytes]:
        """What can be read now, a record at a time, until reading is paused; after a stretch, others have their turn.

        :raises BrokenError: the connection is of no more use.
        """
        self._rest(False)
        records = 0
        while self.established and not self._paused and not self.ended and not self._transport.is_closing():
            if records == MOST_RECORDS_AT_A_STRETCH:
                self._rest(True)
                return
            records += 1
            try:
                part = self._ssl.recv(LARGEST_RECORD)
            except SSL.WantReadError:
                self._flush()  # answers to what was no data: a refused renegotiation, new keys
                return
            except SSL.ZeroReturnError:
                self.ended = True
                return
            except SSL.Error as error:
                raise BrokenError from error
            yield part

    def _rest(self, resting: bool) -> None:
        """Meanwhile nothing more comes in, whatever flow control says; when it ends, flow control decides again."""
        if resting is self._resting or self._transport.is_closing():
            return
        self._resting = resting
        if resting:
            self._transport.pause_reading()
            self._resumed()
        elif not self._paused:
            self._transport.resume_reading()

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        except SSL.Error as error:
            self._flush()  # the alert
            raise HandshakeError("certificate" if "certificate" in said(error) else "protocol") from None
        self.established = True
        self._flush()

    # --- out ----------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if not self.established or self._transport.is_closing():
            return
        view = memoryview(data)
        try:
            for start in range(0, len(view), WRITE_AT_ONCE):
                self._ssl.sendall(view[start : start + WRITE_AT_ONCE])
                self._flush()
        except SSL.Error:
            self._transport.abort()

    def write_in_the_clear(self, data: bytes) -> None:
        """To a client that does not speak TLS."""
        self._transport.write(data)

    def _flush(self) -> None:
        parts = []
        try:
            while True:
                parts.append(self._ssl.bio_read(READ_AT_ONCE))
        except SSL.WantReadError:
            pass
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        if self.established and not self._transport.is_closing():
            try:
                self._ssl.shutdown()
                self._flush()
            except SSL.Error:
                pass
        self._transport.close()

    # --- the transport below ------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
            self._resumed()

    def let_go(self) -> None:
        """The connection is lost: who was to be told that reading goes on is not held any longer."""
        self._resumed = lambda: None

    def is_reading(self) -> bool:
        return not self._paused

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def abort(self) -> None:
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        found = super().get_extra_info(name)
        return self._transport.get_extra_info(name, default) if found is None else found
