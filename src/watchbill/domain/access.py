"""What a command needs to be let in by an exporter, read and in order."""

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
