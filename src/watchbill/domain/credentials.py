"""What a check shows of itself, and whom it trusts."""

from __future__ import annotations

from pydantic import SecretStr, StrictBool, model_validator

from watchbill.domain.files import ExistingFile
from watchbill.domain.reach import Host
from watchbill.domain.rules import Declared, declared_problem


class BasicAuth(Declared):
    """A user and a password (RFC 7617)."""

    username: str
    """The user."""
    password: SecretStr
    """The password, a secret: `${PASSWORD}` or `${file:/run/secrets/password}`."""


class Auth(Declared):
    """Exactly one of ``basic`` and ``bearer``."""

    basic: BasicAuth | None = None
    """User and password, sent as `Authorization: Basic`."""
    bearer: SecretStr | None = None
    """A token, a secret, sent as `Authorization: Bearer`."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Auth:
        if (self.basic is None) == (self.bearer is None):
            raise declared_problem("", "auth takes exactly one of basic and bearer")
        return self


class TlsOptions(Declared):
    """How a TLS handshake is made. ``skip_verification`` leaves the certificate unjudged, not unseen."""

    ca_file: ExistingFile | None = None
    """A PEM file of the authorities to trust instead of the system's."""
    cert_file: ExistingFile | None = None
    """A PEM file with the client certificate to show; takes `key_file` too."""
    key_file: ExistingFile | None = None
    """The PEM file with the client certificate's private key."""
    server_name: Host | None = None
    """The name to ask for (SNI) and to find in the certificate, if it is not the host."""
    skip_verification: StrictBool = False
    """Do not judge the certificate. It is looked at and recorded all the same."""

    @model_validator(mode="after")
    def _both_of_a_pair(self) -> TlsOptions:
        if (self.cert_file is None) != (self.key_file is None):
            missing = "key_file" if self.key_file is None else "cert_file"
            raise declared_problem(
                "", f"a client certificate takes cert_file and key_file; {missing} is missing"
            )
        return self
