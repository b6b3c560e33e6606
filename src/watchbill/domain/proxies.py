"""The proxy that a check goes through, as it is declared."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator, SecretStr, model_validator

from watchbill.domain.files import ExistingFile
from watchbill.domain.reach import check_host, split_url
from watchbill.domain.rules import Declared, declared_problem

SCHEMES = ("http", "https", "socks5", "socks5h")
MOST_SOCKS_BYTES = 255
"""Of a user and of a password (RFC 1929)."""
_FORM = "a proxy is http://HOST:PORT, https://HOST:PORT, socks5://HOST:PORT or socks5h://HOST:PORT"


def _proxy_url(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.port is None:
        raise ValueError(_FORM)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{_FORM}, without path or query")
    check_host(parts.hostname)
    return url


class Proxy(Declared):
    """The way through a proxy. As text, `scheme://user:password@host:port` says all but `ca_file`."""

    url: Annotated[str, AfterValidator(_proxy_url)]
    """`http://`, `https://`, `socks5://` (names are looked up here) or `socks5h://` (names are the proxy's to look up)."""
    username: str | None = None
    """The user to log in as."""
    password: SecretStr | None = None
    """The password, a secret."""
    ca_file: ExistingFile | None = None
    """A PEM file of the authorities to trust for an `https://` proxy instead of the system's."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """Take ``user:password@`` out of the url, so that nothing that shows a url can show it."""
        declared = {"url": value} if isinstance(value, str) else value
        url = declared.get("url") if isinstance(declared, dict) else None
        if not isinstance(url, str) or "@" not in url:
            return declared
        try:
            parts = split_url(url)
        except ValueError:  # the field's own validator says so, at the field
            return declared
        if declared.get("username") is not None or declared.get("password") is not None:
            raise declared_problem(
                "url", "credentials stand both in the url and beside it; keep those beside it"
            )
        return {
            **declared,
            "url": parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
            "username": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
        }

    @model_validator(mode="after")
    def _whole_credentials(self) -> Proxy:
        if self.password is not None and self.username is None:
            raise declared_problem("password", "a password takes a username too")
        if self.scheme.startswith("socks") and any(
            len(text.encode()) > MOST_SOCKS_BYTES for text in self.credentials or ()
        ):
            raise declared_problem(
                "", f"a SOCKS proxy takes a username and a password of at most {MOST_SOCKS_BYTES} bytes each"
            )
        return self

    @property
    def scheme(self) -> str:
        return split_url(self.url).scheme

    @property
    def place(self) -> tuple[str, int]:
        parts = split_url(self.url)
        return check_host(parts.hostname or ""), parts.port or 0

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, where any are declared."""
        if self.username is None:
            return None
        return self.username, self.password.get_secret_value() if self.password is not None else ""
