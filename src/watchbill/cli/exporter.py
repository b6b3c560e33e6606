"""The running exporter, as commands reach it: its address, and what lets them in."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import click

from watchbill.client import Client
from watchbill.config.httpfile import load_http
from watchbill.domain.access import HttpAccess
from watchbill.domain.errors import ConfigError, Problem


def access_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How to be let in."""
    return click.option(
        "--http.config.file",
        "http_config",
        default="",
        metavar="FILE",
        envvar="WATCHBILL_HTTP_CONFIG_FILE",
        show_envvar=True,
        help="User, password, certificates for the exporter, in the format of promtool's option of that name.",
    )


def open_client(server: str, http_config: str) -> Client:
    """:raises ConfigError: ``http_config`` cannot be used.

    :raises ServerError: ``server`` is no address.
    """
    if not http_config:
        return Client(server)
    access = load_http(http_config)
    return Client(server, access=access, tls=_context(access, http_config))


def _context(access: HttpAccess, file: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca_file or None, cadata=access.ca or None)
        if access.cert_file:
            # Without a password of ours OpenSSL would ask for one on the terminal.
            context.load_cert_chain(access.cert_file, access.key_file, password="")
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        named = ", ".join(filter(None, (access.ca_file, access.cert_file, access.key_file)))
        said = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
        message = f"tls_config: {named or 'ca'} cannot be used: {said}"
        raise ConfigError((Problem(file, 1, 1, message, "tls_config"),)) from None
    if access.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
