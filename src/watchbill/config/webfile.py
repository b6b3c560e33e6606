"""The web configuration: Prometheus' own format (exporter toolkit), read from a file of its own.

What the format allows and this server does otherwise is told at its place; nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

from watchbill.config.files import Reading, UnreadableError, read_regular
from watchbill.config.nodes import Node, NotYamlError, compose, shown_key
from watchbill.config.webvalues import WebValues
from watchbill.domain.errors import ConfigError, Problem
from watchbill.domain.web import (
    CERTAIN_CLIENT_AUTH,
    CIPHER_SUITES,
    CLIENT_AUTH,
    CLIENT_AUTH_ALIASES,
    CURVES,
    HEADERS,
    TLS13_SUITES,
    TLS_VERSIONS,
    RateLimit,
    TlsSettings,
    WebSettings,
)

MOST_PEM_BYTES = 1 << 20
MOST_COST = 18
"""Of a bcrypt hash: 16 s of a core for each password that is tried. Each step doubles it."""
_HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_BCRYPT_LETTERS = f"./{ascii_uppercase}{ascii_lowercase}{digits}"
_SALT_ENDS = 28
"""Where in a hash the last letter of its salt stands."""
_NOT_IN_A_HEADER = re.compile("[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
TLS_KEYS = (
    "cert_file", "key_file", "cert", "key", "client_auth_type", "client_ca_file", "client_ca", "client_allowed_sans",
    "min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites", "curve_preferences",
)  # fmt: skip


@dataclass(slots=True)
class WebFile:
    """One web configuration. ``named`` are the files that the last reading looked for, also where it failed."""

    path: str
    named: tuple[str, ...] = ()
    _places: Mapping[str, Node] = field(default_factory=dict)

    def load(self) -> WebSettings:
        """:raises ConfigError: with every mistake that was found."""
        reading = Reading(self.path)
        if Path(self.path).is_dir():
            raise ConfigError((Problem(self.path, 1, 1, "is a folder; name the web configuration itself"),))
        values = WebValues()
        reader = _Reader(reading, values)
        settings = None
        for source, text in reading.sources():
            try:
                root, problems = compose(text, source)
            except NotYamlError as error:
                raise ConfigError(error.problems) from None
            values.problems += problems
            settings = reader.settings(root)
        self.named, self._places = tuple(reader.named), values.places
        problems = [*reading.problems, *values.problems]
        if problems or settings is None:
            raise ConfigError(tuple(problems))
        return settings

    def problem(self, key: str, message: str) -> Problem:
        """A mistake found in what a key holds once it is put to use, at the key's place."""
        node = self._places.get(key)
        return node.problem(message, key) if node else Problem(self.path, 1, 1, message, key)


class _Reader:
    """Section by section; the mistakes are with the values."""

    def __init__(self, reading: Reading, values: WebValues) -> None:
        self.named: list[str] = []
        self._reading = reading
        self._values = values

    def settings(self, root: Node | None) -> WebSettings:
        sections = self._values.mapping(root, "", SECTIONS)
        return WebSettings(
            tls=self._tls(sections.get("tls_server_config")),
            headers=self._headers(sections.get("http_server_config")),
            users=self._users(sections.get("basic_auth_users")),
            rate_limit=self._rate_limit(sections.get("rate_limit")),
        )

    # --- sections -----------------------------------------------------------------------------------

    def _tls(self, node: Node | None) -> TlsSettings | None:
        under = "tls_server_config"
        keys = self._values.mapping(node, under, TLS_KEYS)
        auth = self._values.choice(keys, f"{under}.client_auth_type", (*CLIENT_AUTH, *CLIENT_AUTH_ALIASES))
        cert_key, cert = self._pem(keys, under, "cert")
        key_key, private = self._pem(keys, under, "key")
        ca_key, ca = self._pem(keys, under, "client_ca")
        if node is None or not keys:
            return None
        for wanted, found in (("cert", cert_key), ("key", key_key)):
            if not found:
                self._values.tell(
                    node, f"needs {wanted}_file (or {wanted}); without it there is no TLS", under
                )
        settings = TlsSettings(
            cert=cert or b"",
            key=private or b"",
            cert_key=f"{under}.{cert_key}",
            key_key=f"{under}.{key_key}",
            client_auth=CLIENT_AUTH_ALIASES.get(auth, auth),
            client_ca=ca,
            client_ca_key=f"{under}.{ca_key}",
            allowed_sans=self._sans(keys, under),
            min_version=self._values.choice(keys, f"{under}.min_version", TLS_VERSIONS, "TLS12"),
            max_version=self._values.choice(keys, f"{under}.max_version", TLS_VERSIONS, "TLS13"),
            cipher_suites=self._values.choices(
                keys, f"{under}.cipher_suites", (*CIPHER_SUITES, *TLS13_SUITES)
            ),
            prefer_server_cipher_suites=self._values.truth(
                keys, f"{under}.prefer_server_cipher_suites", default=True
            ),
            curves=self._values.choices(keys, f"{under}.curve_preferences", CURVES),
        )
        self._together(settings, keys, ca_key)
        return settings

    def _together(self, tls: TlsSettings, keys: Mapping[str, Node], ca_key: str) -> None:
        """What each key allows and all of them together do not."""
        if ca_key and tls.client_auth == "NoClientCert":
            message = (
                "does nothing while client_auth_type is NoClientCert; set it to RequireAndVerifyClientCert"
            )
            self._values.tell(keys[ca_key], f"{ca_key} {message}", f"tls_server_config.{ca_key}")
        if tls.allowed_sans is not None and tls.client_auth not in CERTAIN_CLIENT_AUTH:
            self._values.tell(
                keys["client_allowed_sans"],
                "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert: "
                "with others a client may come without a certificate",
                "tls_server_config.client_allowed_sans",
            )
        if tls.min_version > tls.max_version:
            node = keys.get("min_version") or keys["max_version"]
            self._values.tell(
                node,
                f"min_version {tls.min_version} is above max_version {tls.max_version}, so nobody could connect",
                "tls_server_config.min_version",
            )
        elif (
            tls.cipher_suites
            and tls.max_version != "TLS13"
            and not set(tls.cipher_suites) - set(TLS13_SUITES)
        ):
            message = f"cipher_suites are of TLS 1.3 alone and max_version is {tls.max_version}, so nobody could connect"
            self._values.tell(keys["cipher_suites"], message, "tls_server_config.cipher_suites")

    def _pem(self, keys: Mapping[str, Node], under: str, name: str) -> tuple[str, bytes | None]:
        """Which of ``name`` and ``name_file`` is there, and what it holds. Empty text is as good as absent."""
        file, text = (
            self._values.text(keys, f"{under}.{name}_file"),
            self._values.text(keys, f"{under}.{name}"),
        )
        if file and text:
            node = keys[name]
            self._values.tell(
                node, f"{name} and {name}_file are both there; leave one of them out", f"{under}.{name}"
            )
        if file:
            return f"{name}_file", self._file(keys[f"{name}_file"], file, f"{under}.{name}_file")
        return (name, text.encode()) if text else ("", None)

    def _file(self, node: Node, file: str, key: str) -> bytes | None:
        path = str(Path(node.source.folder, file))
        self.named.append(path)
        try:
            return read_regular(self._reading.real(path), MOST_PEM_BYTES)
        except UnreadableError as error:
            self._values.tell(node, f"{path} {error}", key)
            return None

    def _sans(self, keys: Mapping[str, Node], under: str) -> frozenset[str] | None:
        names = self._values.texts(keys, f"{under}.client_allowed_sans")
        return frozenset(text for _, text in names) if names is not None else None

    def _headers(self, node: Node | None) -> Mapping[str, str]:
        keys = self._values.mapping(node, "http_server_config", ("http2", "headers"))
        # Whichever it is, HTTP/1.1 is what is spoken: a client asks for HTTP/2, and takes no for an answer.
        self._values.truth(keys, "http_server_config.http2", default=True)
        headers = {}
        under = "http_server_config.headers"
        for name in self._values.mapping(keys.get("headers"), under, HEADERS, what="header"):
            entries = {name: self._values.places[f"{under}.{name}"]}
            value = (
                self._values.choice(entries, f"{under}.{name}", HEADERS[name])
                if HEADERS[name]
                else self._values.text(entries, f"{under}.{name}")
            )
            if value and _NOT_IN_A_HEADER.search(value):
                self._values.tell(
                    entries[name], f"{name} holds a character that no header can hold", f"{under}.{name}"
                )
            elif value:
                headers[name] = value.strip(" \t")
        return headers

    def _users(self, node: Node | None) -> Mapping[str, str]:
        under = "basic_auth_users"
        users = {}
        for name, value in self._values.mapping(node, under).items():
            said = self._values.text({name: value}, f"{under}.{name}", name=name)
            if ":" in name:
                self._values.tell(
                    value, "a user's name cannot hold a colon: it ends the name in what a client sends", under
                )
            elif problem := _not_a_hash(said):
                self._values.tell(value, f"the password of {shown_key(name)} {problem}", f"{under}.{name}")
            else:
                users[name] = _with_plain_salt(said)
        return users

    def _rate_limit(self, node: Node | None) -> RateLimit | None:
        keys = self._values.mapping(node, "rate_limit", ("interval", "burst"))
        interval = self._values.duration(keys, "rate_limit.interval")
        burst = self._values.count(keys, "rate_limit.burst")
        if interval and not burst:
            told = keys.get("burst") or keys["interval"]
            self._values.tell(
                told, "burst must be at least 1, or every request would be refused", "rate_limit.burst"
            )
        return RateLimit(interval, burst) if interval else None


def _with_plain_salt(said: str) -> str:
    """The same hash: of a salt's last letter only two bits count. Others overlook the rest, our bcrypt stumbles over it."""
    last = _BCRYPT_LETTERS.index(said[_SALT_ENDS])
    return f"{said[:_SALT_ENDS]}{_BCRYPT_LETTERS[last & 0b110000]}{said[_SALT_ENDS + 1 :]}"


def _not_a_hash(said: str) -> str:
    found = _HASH.fullmatch(said)
    if found is None:
        return "is no bcrypt hash; make one with `htpasswd -nBC 10 \"\" | tr -d ':\\n'`"
    if int(found[1]) > MOST_COST:
        return f"has a bcrypt cost of {int(found[1])}, so that each try would take over {2 ** (int(found[1]) - MOST_COST + 4)} s; at most {MOST_COST} is taken, 10 is usual"
    return ""
