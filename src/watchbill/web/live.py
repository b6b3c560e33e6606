"""What holds of the web configuration at this moment, and how the last readings of it went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from watchbill.domain.units import Instant
from watchbill.domain.web import WebSettings, WebSettingsError
from watchbill.web.encrypted import HANDSHAKE_FAILURES
from watchbill.web.tls import Context, server_context


@dataclass(frozen=True, slots=True)
class WebStatistics:
    """``handshake_failures`` by reason; ``None`` where nothing is encrypted."""

    successful: bool
    succeeded_at: Instant
    failures: int
    handshake_failures: Mapping[str, int] | None


@dataclass(slots=True)
class Live:
    """One for the process. Whoever serves a request or takes a connection looks here, and at nothing older."""

    settings: WebSettings = field(default_factory=WebSettings)
    context: Context | None = None
    succeeded_at: Instant = 0
    successful: bool = True
    failures: int = 0
    handshake_failures: Counter[str] = field(
        default_factory=lambda: Counter(dict.fromkeys(HANDSHAKE_FAILURES, 0))
    )
    on_new_context: Callable[[], object] = lambda: None
    """Called where connections must be made anew: what an older context let in may not be let in now."""

    def prepared(self, settings: WebSettings) -> Context | None:
        """The context for these settings; reads nothing, takes a millisecond, changes nothing.

        :raises WebSettingsError: they cannot be used, or not without a restart.
        """
        return server_context(settings.tls) if settings.tls is not None else None

    def replace(self, settings: WebSettings, context: Context | None, *, at: Instant) -> None:
        """From now on these settings hold.

        :raises WebSettingsError: they would turn encryption on or off, or let everybody in.
        """
        if (context is None) != (self.context is None):
            raise WebSettingsError(
                "tls_server_config",
                "TLS is turned on or off by a restart alone, lest what was secret goes over the wire in the clear",
            )
        if self.settings.users and not settings.users:
            raise WebSettingsError(
                "basic_auth_users",
                "the last user is taken away by a restart alone, lest a file cut short lets everybody in",
            )
        changed = settings.tls != self.settings.tls
        self.settings = settings
        self.successful, self.succeeded_at = True, at
        if changed:
            self.context = context
            self.on_new_context()

    def rejected(self) -> None:
        self.successful = False
        self.failures += 1

    def statistics(self) -> WebStatistics:
        return WebStatistics(
            self.successful,
            self.succeeded_at,
            self.failures,
            None if self.context is None else dict(self.handshake_failures),
        )


def opened(settings: WebSettings, *, at: Instant) -> Live:
    """:raises WebSettingsError: the settings cannot be used."""
    live = Live(settings=settings, succeeded_at=at)
    live.context = live.prepared(settings)
    return live
