"""What a command needs to be let in by an exporter, read and in order; and what to do where it is not."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """``authorization`` is a whole header; files are named by their paths, as the TLS library wants them."""

    user: str = ""
    password: str = field(default="", repr=False)
    authorization: str = field(default="", repr=False)
    ca: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False


def handshake_advice(said: str) -> str:
    """What to do about a handshake of which OpenSSL said this; nothing where it was something else."""
    reason = said.partition("certificate verify failed: ")[2].rpartition(" (_ssl.c")[0]
    if reason:
        what = "its authority as tls_config: {ca_file: ...}"
        if "ostname mismatch" in reason or "address mismatch" in reason:
            what = "the name in it as tls_config: {server_name: ...}"
        return f"shows a certificate that is not trusted here ({reason}); name {what} in --http.config.file"
    if "alert" in said and ("certificate" in said or "unknown ca" in said):
        return "lets in certain certificates only; name yours as tls_config: {cert_file: ..., key_file: ...} in --http.config.file"
    return "speaks no HTTPS; write http:// instead" if "wrong version number" in said.lower() else ""
