"""Web configurations, good and bad, as we and Prometheus' own tool judge them; and what a mistake is told as."""

from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from tests.web.certificates import authority, server_party
from watchbill.config.webfile import WebFile
from watchbill.domain.errors import ConfigError
from watchbill.domain.web import RateLimit, WebSettings
from watchbill.rereading import first
from watchbill.testing import inline
from watchbill.web.passwords import Passwords, Verdict

PROMTOOL = shutil.which("promtool")
HASH = "$2y$04$NXh1gDsPszWURQaxFh.zouFi6DXncSjhoQNJgRrnGs7EsimhC7zGa"
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
NEWER = "a newer toolkit has it; Debian's does not know the key"
YAML_1_1 = "the toolkit's YAML library stops reading there, and what follows would be ignored"


@dataclass(frozen=True)
class Row:
    """``said`` is a part of our message where we refuse; ``differs`` is why promtool judges otherwise."""

    text: str
    said: str = ""
    differs: str = ""


GOOD = {
    "nothing": Row(""),
    "a comment": Row("# none\n"),
    "an empty mapping": Row("{}\n"),
    "sections without content": Row("tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n"),
    "empty sections": Row("tls_server_config: {}\nhttp_server_config: {}\nbasic_auth_users: {}\n"),
    "a certificate": Row(TLS),
    "no client certificates": Row(TLS + "  client_auth_type: NoClientCert\n"),
    "no client certificates, unsaid": Row(TLS + '  client_auth_type: ""\n'),
    "any client certificate": Row(TLS + "  client_auth_type: RequireAnyClientCert\n"),
    "any client certificate, as of old": Row(TLS + "  client_auth_type: RequireClientCert\n"),
    "a client certificate if there is one": Row(TLS + "  client_auth_type: RequestClientCert\n"),
    "a good client certificate if there is one": Row(TLS + "  client_auth_type: VerifyClientCertIfGiven\n"),
    "good client certificates": Row(
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
    ),
    "authorities named and not judged by": Row(
        TLS + "  client_auth_type: RequireAnyClientCert\n  client_ca_file: ca.crt\n"
    ),
    "versions": Row(TLS + "  min_version: TLS13\n  max_version: TLS13\n"),
    "old versions": Row(TLS + "  min_version: TLS10\n  max_version: TLS11\n"),
    "suites": Row(
        TLS
        + "  prefer_server_cipher_suites: false\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,"
        + " TLS_RSA_WITH_AES_128_CBC_SHA, TLS_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]\n"
    ),
    "no suite listed": Row(TLS + "  cipher_suites: []\n  curve_preferences: []\n"),
    "suites that HTTP/2 could not use": Row(TLS + "  cipher_suites: [TLS_RSA_WITH_AES_256_CBC_SHA]\n"),
    "curves": Row(TLS + "  curve_preferences: [CurveP521, X25519, CurveP384, CurveP256]\n"),
    "HTTP/2 wanted": Row("http_server_config:\n  http2: true\n"),
    "HTTP/2 not wanted": Row("http_server_config:\n  http2: false\n"),
    "a truth of YAML 1.1": Row("http_server_config:\n  http2: no\n"),
    "headers": Row(
        "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    X-Content-Type-Options: nosniff\n"
        "    X-XSS-Protection: 1\n    Strict-Transport-Security: max-age=9\n    Content-Security-Policy: default-src 'self'\n"
    ),
    "an empty header": Row('http_server_config:\n  headers:\n    Content-Security-Policy: ""\n'),
    "no headers": Row("http_server_config:\n  headers:\n"),
    "users": Row(f"basic_auth_users:\n  alice: {HASH}\n  bob: {HASH.replace('$2y$', '$2a$')}\n"),
    "users over TLS": Row(f"{TLS}basic_auth_users:\n  'alice b': {HASH}\n"),
    "the highest cost": Row(f"basic_auth_users:\n  bob: {HASH.replace('$04', '$18')}\n"),
    "a salt of which not every bit counts": Row(f"basic_auth_users:\n  bob: {HASH[:28]}z{HASH[29:]}\n"),
    "an anchor": Row(f"basic_auth_users:\n  alice: &hash {HASH}\n  bob: *hash\n"),
    "a certificate and a key inline": Row("INLINE", differs=NEWER),
    "authorities inline": Row(
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca: |\nCA", differs=NEWER
    ),
    "names that may come in": Row(
        TLS
        + "  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [prometheus.test, 192.0.2.1]\n",
        differs=NEWER,
    ),
    "the newest curve": Row(TLS + "  curve_preferences: [X25519MLKEM768]\n", differs=NEWER),
    "a rate limit": Row("rate_limit:\n  interval: 1m30.5s\n  burst: 20\n", differs=NEWER),
    "no rate limit": Row("rate_limit:\n  interval: 0\n  burst: 0\n", differs=NEWER),
}
OURS = "nothing would come of it, or nothing good, so we say so"
BAD = {
    "a list": Row("[]\n", "a web configuration must be a mapping, got a list"),
    "a word": Row("hello\n", "must be a mapping, got text"),
    "no YAML": Row("tls_server_config: [\n", "not YAML"),
    "a tab": Row("tls_server_config:\n\tcert_file: x\n", "not YAML"),
    "an unknown section": Row("tls_server_configs: {}\n", "did you mean `tls_server_config`?"),
    "an unknown key": Row(TLS + "  cert_files: x\n", "unknown key `cert_files`; did you mean `cert_file`?"),
    "a section that is a list": Row(
        "tls_server_config: []\n", "tls_server_config must be a mapping, got a list"
    ),
    "a key twice": Row(TLS + "  cert_file: server.crt\n", "duplicate key `cert_file`"),
    "no certificate": Row("tls_server_config:\n  key_file: server.key\n", "needs cert_file"),
    "no key": Row("tls_server_config:\n  cert_file: server.crt\n", "needs key_file"),
    "an empty certificate": Row(
        'tls_server_config:\n  cert_file: ""\n  key_file: server.key\n', "needs cert_file"
    ),
    "client certificates without our own": Row(
        "tls_server_config:\n  client_auth_type: RequireAnyClientCert\n", "needs cert_file"
    ),
    "a certificate that is not there": Row(TLS.replace("server.crt", "none.crt"), "none.crt does not exist"),
    "a key that is not there": Row(TLS.replace("server.key", "none.key"), "none.key does not exist"),
    "a certificate that is none": Row(TLS.replace("server.crt", "web.yml"), "holds no certificate in PEM"),
    "a key that is none": Row(TLS.replace("server.key", "server.crt"), "holds no private key in PEM"),
    "another's key": Row(TLS.replace("server.key", "other.key"), "does not belong to the certificate"),
    "an unknown client_auth_type": Row(
        TLS + "  client_auth_type: RequireAndVerifyClientCerts\n",
        "did you mean `RequireAndVerifyClientCert`?",
    ),
    "authorities without a policy": Row(
        TLS + "  client_ca_file: ca.crt\n", "while client_auth_type is NoClientCert"
    ),
    "authorities that are not there": Row(
        TLS + "  client_auth_type: RequireAnyClientCert\n  client_ca_file: none.crt\n",
        "none.crt does not exist",
    ),
    "an unknown version": Row(TLS + "  min_version: TLS14\n", "min_version must be one of TLS10"),
    "a version as a number": Row(TLS + "  max_version: 1.3\n", "max_version must be"),
    "an unknown suite": Row(TLS + "  cipher_suites: [TLS_FOO]\n", "cipher_suites has none called TLS_FOO"),
    "a suite in OpenSSL's words": Row(
        TLS + "  cipher_suites: [ECDHE-RSA-AES128-GCM-SHA256]\n", "cipher_suites has none called"
    ),
    "suites that are no list": Row(TLS + "  cipher_suites: {a: b}\n", "cipher_suites must be a list"),
    "an unknown curve": Row(TLS + "  curve_preferences: [CurveP999]\n", "did you mean `CurveP"),
    "no truth": Row(TLS + "  prefer_server_cipher_suites: 1\n", "must be true or false"),
    "no truth about HTTP/2": Row("http_server_config:\n  http2: maybe\n", "http2 must be true or false"),
    "a header that may not be set": Row(
        "http_server_config:\n  headers: {Server: x}\n", "unknown header `Server`"
    ),
    "a header of another spelling": Row(
        "http_server_config:\n  headers: {x-frame-options: deny}\n", "did you mean `X-Frame-Options`?"
    ),
    "a header's wrong value": Row(
        "http_server_config:\n  headers: {X-Content-Type-Options: sniff}\n",
        "must be one of nosniff, got sniff",
    ),
    "a header's other spelling": Row(
        "http_server_config:\n  headers: {X-Frame-Options: DENY}\n", "must be one of deny, sameorigin"
    ),
    "an empty header of a closed choice": Row(
        'http_server_config:\n  headers: {X-Frame-Options: ""}\n', "must be one of deny, sameorigin"
    ),
    "headers as a list": Row("http_server_config:\n  headers: [a]\n", "headers must be a mapping"),
    "a password in the clear": Row(
        "basic_auth_users:\n  alice: open-sesame\n", "the password of `alice` is no bcrypt hash"
    ),
    "an empty password": Row('basic_auth_users:\n  alice: ""\n', "is no bcrypt hash"),
    "a hash cut short": Row(f"basic_auth_users:\n  alice: {HASH[:-3]}\n", "is no bcrypt hash"),
    "another kind of hash": Row(
        f"basic_auth_users:\n  alice: $apr1$4$aaaaaaaa${'a' * 60}\n", "is no bcrypt hash"
    ),
    "a bcrypt of the future": Row(
        f"basic_auth_users:\n  alice: {HASH.replace('$2y', '$3y')}\n", "is no bcrypt hash"
    ),
    "a cost below bcrypt's": Row(
        f"basic_auth_users:\n  alice: {HASH.replace('$04', '$03')}\n", "is no bcrypt hash"
    ),
    "a cost above bcrypt's": Row(
        f"basic_auth_users:\n  alice: {HASH.replace('$04', '$32')}\n", "is no bcrypt hash"
    ),
    "users as a list": Row("basic_auth_users: [alice]\n", "basic_auth_users must be a mapping"),
    # --- what only we refuse
    "a user without a password": Row(
        "basic_auth_users:\n  alice:\n",
        "is no bcrypt hash",
    ),
    "two documents": Row("{}\n---\n{}\n", "exactly one document", differs=YAML_1_1),
    "settings of TLS without TLS": Row(
        "tls_server_config:\n  min_version: TLS13\n", "needs cert_file", differs=OURS
    ),
    "authorities that are none": Row(
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: web.yml\n",
        "client_ca_file holds no certificate",
        differs=OURS,
    ),
    "versions the wrong way round": Row(
        TLS + "  min_version: TLS13\n  max_version: TLS12\n", "is above max_version", differs=OURS
    ),
    "suites and versions that exclude each other": Row(
        TLS + "  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        "nobody could connect",
        differs=OURS,
    ),
    "a hash with more behind it": Row(
        f"basic_auth_users:\n  alice: {HASH}xyz\n",
        "is no bcrypt hash",
        differs="Go ignores the rest; it is a mistake",
    ),
    "an unknown variant of bcrypt": Row(
        f"basic_auth_users:\n  alice: {HASH.replace('$2y', '$2z')}\n",
        "is no bcrypt hash",
        differs="Go takes any letter there, and nobody writes such a hash",
    ),
    "a cost of hours": Row(
        f"basic_auth_users:\n  alice: {HASH.replace('$04', '$20')}\n",
        "has a bcrypt cost of 20, so that each try would take over 64 s",
        differs="anybody could keep us busy with it",
    ),
    "a user with a colon": Row(
        f"basic_auth_users:\n  'a:b': {HASH}\n",
        "cannot hold a colon",
        differs="no client can send such a name",
    ),
    "a header of two lines": Row(
        'http_server_config:\n  headers: {Content-Security-Policy: "a\\nb"}\n',
        "holds a character that no header can hold",
        differs="Go makes a space of it when it answers",
    ),
    "a number as a user": Row(
        f"basic_auth_users:\n  5: {HASH}\n",
        "a key is text; put it in quotes",
        differs="we read keys as YAML 1.2 does",
    ),
    # --- keys of newer toolkits
    "a certificate twice": Row(
        "INLINE  cert_file: server.crt\n", "cert and cert_file are both there", differs=""
    ),
    "an empty key inline": Row(
        'tls_server_config:\n  cert_file: server.crt\n  key: ""\n', "needs key_file (or key)"
    ),
    "names without certificates": Row(
        TLS + "  client_allowed_sans: [a]\n", "client_allowed_sans needs client_auth_type"
    ),
    "names that may be absent": Row(
        TLS + "  client_auth_type: VerifyClientCertIfGiven\n  client_allowed_sans: [a]\n",
        "client_allowed_sans needs client_auth_type",
    ),
    "a rate limit of nothing": Row("rate_limit:\n  interval: 1s\n", "burst must be at least 1"),
    "a rate limit in words": Row(
        "rate_limit:\n  interval: often\n  burst: 2\n", "must be a duration such as 1s"
    ),
    "a rate limit without unit": Row(
        "rate_limit:\n  interval: 5\n  burst: 2\n", "must be a duration such as 1s"
    ),
    "a negative rate limit": Row(
        "rate_limit:\n  interval: -1s\n  burst: 2\n", "must be a duration such as 1s"
    ),
    "a burst of a half": Row("rate_limit:\n  interval: 1s\n  burst: 0.5\n", "burst must be a whole number"),
}


def _indented(pem: bytes) -> str:
    return "".join(f"    {line}\n" for line in pem.decode().splitlines())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    (folder / "server.crt").write_bytes(server_party().cert)
    (folder / "server.key").write_bytes(server_party().key)
    (folder / "other.key").write_bytes(authority("theirs").issue("x").key)
    (folder / "ca.crt").write_bytes(authority().pem)
    return folder


def _written(folder: Path, row: Row) -> Path:
    inline_pair = f"tls_server_config:\n  cert: |\n{_indented(server_party().cert)}  key: |\n{_indented(server_party().key)}"
    text = row.text.replace("INLINE", inline_pair).replace("|\nCA", f"|\n{_indented(authority().pem)}")
    file = folder / "web.yml"
    file.write_text(text, encoding="utf-8")
    return file


def _judged(file: Path) -> ConfigError | None:
    try:
        first(str(file), now=lambda: 0, offload=inline)
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize("row", GOOD.values(), ids=GOOD)
def test_what_is_good_is_taken(folder: Path, row: Row) -> None:
    assert _judged(_written(folder, row)) is None


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_each_hash_that_is_taken_can_be_compared_with(folder: Path) -> None:
    hash_of = bcrypt.hashpw(b"open sesame", b"$2b$04$" + b"." * 22).decode()
    for letter in "./AZaz09":
        text = f"basic_auth_users: {{bob: {hash_of[:28]}{letter}{hash_of[29:]}}}\n"
        users = WebFile(str(_written(folder, Row(text)))).load().users
        judge = Passwords(b"k", inline)
        header = b64encode(b"bob:open sesame").decode()
        verdict = await judge.judge(users, f"Basic {header}", address="")
        assert verdict is (Verdict.RIGHT if letter in "./AB" else Verdict.WRONG), letter


@pytest.mark.parametrize("row", BAD.values(), ids=BAD)
def test_what_is_bad_is_refused_with_its_place_and_what_to_do(folder: Path, row: Row) -> None:
    file = _written(folder, row)
    error = _judged(file)
    assert error is not None
    lines = file.read_text().splitlines()
    told = [problem for problem in error.problems if row.said in problem.message]
    assert told, str(error)
    for problem in error.problems:
        assert problem.path == str(file)
        assert 1 <= problem.line <= len(lines) + 1
        assert 1 <= problem.column <= len(lines[problem.line - 1] if problem.line <= len(lines) else "") + 1


@pytest.mark.e2e
@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (make test-deps)")
@pytest.mark.parametrize("row", [*GOOD.values(), *BAD.values()], ids=[*GOOD, *BAD])
def test_prometheus_judges_alike_or_there_is_a_reason(folder: Path, row: Row) -> None:
    assert PROMTOOL is not None
    file = _written(folder, row)
    done = subprocess.run(
        [PROMTOOL, "check", "web-config", str(file)], check=False, capture_output=True, text=True, timeout=60
    )
    alike = (done.returncode == 0) is (_judged(file) is None)
    assert alike is not bool(row.differs), done.stdout + done.stderr


def _refused(folder: Path, text: str) -> list[str]:
    file = folder / "web.yml"
    file.write_text(text, encoding="utf-8")
    error = _judged(file)
    assert error is not None
    return [re.sub(r"^.*/", "", str(problem).replace(f"{folder}/", "")) for problem in error.problems]


def test_every_mistake_is_told_at_once_with_its_line_and_column(folder: Path) -> None:
    assert _refused(
        folder,
        "tls_server_config:\n  cert_file: none.crt\n  key_file: server.key\n  min_version: TLS9\n"
        "basic_auth_users:\n  alice: secret\n  bob: hunter2\nrate_limits: {}\n",
    ) == [
        "web.yml:2:14: none.crt does not exist",
        "web.yml:4:16: min_version must be one of TLS10, TLS11, TLS12, TLS13, got TLS9; did you mean `TLS13`?",
        "web.yml:6:10: the password of `alice` is no bcrypt hash; make one with `htpasswd -nBC 10 \"\" | tr -d ':\\n'`",
        "web.yml:7:8: the password of `bob` is no bcrypt hash; make one with `htpasswd -nBC 10 \"\" | tr -d ':\\n'`",
        "web.yml:8:1: unknown key `rate_limits`; did you mean `rate_limit`?",
    ]


def test_what_openssl_refuses_is_told_at_the_key_that_it_came_from(folder: Path) -> None:
    assert _refused(folder, TLS.replace("server.key", "other.key")) == [
        "web.yml:3:13: the key does not belong to the certificate (key values mismatch); were both renewed?"
    ]


def test_no_message_shows_a_password_a_hash_or_a_key(folder: Path) -> None:
    hidden = ("hunter2", HASH[10:], "MIGHAgEA")
    texts = [row.text for row in BAD.values()]
    texts += [f"basic_auth_users: {HASH}\n", f"tls_server_config: {HASH}\n", f"{HASH}\n"]
    texts += ["basic_auth_users: hunter2\n", "basic_auth_users: {alice: {hunter2: hunter2}}\n"]
    for text in texts:
        error = _judged(_written(folder, Row(text)))
        assert error is not None, text
        assert not [secret for secret in hidden if secret in str(error)], text


def test_what_is_read_is_what_was_written(folder: Path) -> None:
    file = folder / "web.yml"
    file.write_text(
        f"{TLS}  client_auth_type: RequireClientCert\n  client_allowed_sans: [a, b]\n"
        "http_server_config: {headers: {X-XSS-Protection: 0}}\n"
        f"basic_auth_users: {{alice: {HASH}}}\nrate_limit: {{interval: 250ms, burst: 3}}\n"
    )
    web = WebFile(str(file))
    settings = web.load()
    assert settings.tls is not None
    assert settings.tls.client_auth == "RequireAnyClientCert"
    assert settings.tls.allowed_sans == frozenset("ab")
    assert settings.headers == {"X-XSS-Protection": "0"}
    assert settings.users == {"alice": HASH}
    assert settings.rate_limit == RateLimit(0.25, 3)
    assert web.named == (str(folder / "server.crt"), str(folder / "server.key"))
    assert HASH not in repr(settings)
    assert "PRIVATE" not in repr(settings)


def test_an_empty_file_asks_for_nothing(folder: Path) -> None:
    file = folder / "web.yml"
    file.write_text("")
    assert WebFile(str(file)).load() == WebSettings()


@pytest.mark.parametrize(("name", "said"), [("absent.yml", "does not exist"), ("", "is a folder")])
def test_a_file_that_cannot_be_read_is_told(folder: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        WebFile(str(folder / name)).load()
