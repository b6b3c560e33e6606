"""How to be let in by an exporter, from a file in the format of promtool's ``--http.config.file``.

Passwords stand in files of their own or in this one, never on a command line, where every user of the machine sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from watchbill.config.files import MOST_SECRET_BYTES, Reading, UnreadableError, read_regular
from watchbill.config.nodes import Node, NotYamlError, compose
from watchbill.config.webvalues import WebValues
from watchbill.domain.access import HttpAccess
from watchbill.domain.errors import ConfigError, Problem

SECTIONS = ("basic_auth", "authorization", "tls_config")
ELSEWHERE = ("oauth2", "bearer_token", "bearer_token_file", "proxy_url", "no_proxy", "proxy_from_environment",
             "proxy_connect_header", "http_headers", "follow_redirects", "enable_http2", "sigv4")  # fmt: skip
"""Keys that others take there. They would change nothing here, so they are refused by name."""
TLS_KEYS = ("ca", "ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify")


def load_http(path: str) -> HttpAccess:
    """:raises ConfigError: with every mistake that was found."""
    reading, values = Reading(path), WebValues()
    if Path(path).is_dir():
        raise ConfigError((Problem(path, 1, 1, "is a folder; name the file itself"),))
    access = HttpAccess()
    for source, text in reading.sources():
        try:
            root, problems = compose(text, source)
        except NotYamlError as error:
            raise ConfigError(error.problems) from None
        values.problems += problems
        access = _Reader(values).access(root)
    problems = [*reading.problems, *values.problems]
    if problems:
        raise ConfigError(tuple(problems))
    return access


class _Reader:
    def __init__(self, values: WebValues) -> None:
        self._values = values

    def access(self, root: Node | None) -> HttpAccess:
        values = self._values
        sections = values.mapping(root, "", (*SECTIONS, *ELSEWHERE))
        for name in ELSEWHERE:
            if name in sections:
                values.tell(sections[name], f"{name} is not supported here; leave it out", name)
        basic = values.mapping(
            sections.get("basic_auth"),
            "basic_auth",
            ("username", "username_file", "password", "password_file"),
        )
        other = values.mapping(
            sections.get("authorization"), "authorization", ("type", "credentials", "credentials_file")
        )
        tls = values.mapping(sections.get("tls_config"), "tls_config", TLS_KEYS)
        if basic and not {"username", "username_file"} & basic.keys():
            values.tell(
                sections["basic_auth"], "basic_auth needs a username, or a username_file", "basic_auth"
            )
        if basic and other:
            values.tell(
                sections["authorization"], "basic_auth and authorization exclude each other", "authorization"
            )
        cert, key = (self._path(tls, f"tls_config.{name}") for name in ("cert_file", "key_file"))
        if bool(cert) is not bool(key):
            values.tell(sections["tls_config"], "cert_file and key_file belong together", "tls_config")
        return HttpAccess(
            user=self._secret(basic, "basic_auth", "username"),
            password=self._secret(basic, "basic_auth", "password"),
            authorization=self._authorization(other),
            ca=self._authorities(tls),
            ca_file=self._path(tls, "tls_config.ca_file"),
            cert_file=cert,
            key_file=key,
            server_name=values.text(tls, "tls_config.server_name"),
            insecure_skip_verify=values.truth(tls, "tls_config.insecure_skip_verify", default=False),
        )

    def _authorization(self, keys: Mapping[str, Node]) -> str:
        scheme = self._values.text(keys, "authorization.type").strip() or "Bearer"
        credentials = self._secret(keys, "authorization", "credentials")
        header = f"{scheme} {credentials}" if credentials else ""
        if header.isascii() and header.isprintable():
            return header
        node = self._values.places["authorization"]
        self._values.tell(node, "authorization holds a character that no header can hold", "authorization")
        return ""

    def _authorities(self, keys: Mapping[str, Node]) -> str:
        pem = self._values.text(keys, "tls_config.ca")
        if pem.isascii():
            return pem
        self._values.tell(keys["ca"], "ca holds no certificate in PEM that can be read", "tls_config.ca")
        return ""

    def _secret(self, keys: Mapping[str, Node], under: str, name: str) -> str:
        """The text of ``name``, or what its file holds, without the line break at its end."""
        said = self._values.text(keys, f"{under}.{name}")
        path = self._path(keys, f"{under}.{name}_file")
        if said and path:
            self._values.tell(keys[name], f"{name} and {name}_file exclude each other", f"{under}.{name}")
        if not path:
            return said
        node = keys[f"{name}_file"]
        try:
            return read_regular(path, MOST_SECRET_BYTES).decode().strip("\r\n")
        except UnreadableError as error:
            self._values.tell(node, f"{path} {error}", f"{under}.{name}_file")
        except UnicodeDecodeError:
            self._values.tell(node, f"{path} is not UTF-8", f"{under}.{name}_file")
        return ""

    def _path(self, keys: Mapping[str, Node], key: str) -> str:
        """Relative to the folder of the file that names it."""
        said = self._values.text(keys, key)
        return str(Path(keys[key.rpartition(".")[2]].source.folder, said)) if said else ""
