"""What may be shown of a check never holds a secret."""

import json

import pytest

from watchbill.domain.checks import parse_check
from watchbill.domain.plan import FieldChange, field_changes
from watchbill.domain.redaction import redact
from watchbill.domain.specs import Spec, masked_spec, redactions, sealed_spec, spec_of

SECRETS = {
    "type": "http",
    "id": "shop",
    "url": "https://canary-user:canary-password@shop.example/?key=canary-key",
    "headers": {"X-Api-Token": "canary-header", "Accept": "text/html"},
    "body": "canary-body",
    "references": {"url": "https://shop.example/?key=${KEY}", "headers.X-Api-Token": "${TOKEN}"},
    "interpolated": ["canary-key", "canary-header"],
}


def test_a_masked_spec_shows_references_and_no_secret() -> None:
    spec = masked_spec(parse_check(SECRETS))
    assert spec["url"] == "https://shop.example/?key=${KEY}"
    assert spec["headers"] == {"X-Api-Token": "${TOKEN}", "Accept": "(secret)"}
    assert spec["body"] == "(secret)"
    assert "canary-p" not in json.dumps(spec)
    assert "canary-key" not in json.dumps(spec)
    assert "canary-header" not in json.dumps(spec)


def test_a_sealed_spec_holds_only_what_the_seal_made_of_secrets() -> None:
    sealed = json.dumps(sealed_spec(parse_check(SECRETS), lambda text: f"<{len(text)}>"))
    assert "canary-user" in sealed  # a user name is not a secret
    for secret in ("canary-password", "canary-key", "canary-header", "canary-body"):
        assert secret not in sealed


def test_what_a_target_echoes_is_replaced() -> None:
    secrets = redactions(parse_check(SECRETS))
    said = "got canary-key, canary-password, canary-header and canary-body as text/html"
    assert redact(said, secrets) == "got ***, ***, *** and *** as text/html"


def test_comparing_specs_knows_secrets_apart_without_printing_them() -> None:
    spec = spec_of(parse_check(SECRETS))
    assert set(spec.secrets) == {
        "url",
        "headers.X-Api-Token",
        "headers.Accept",
        "body",
        "auth.basic.password",
    }
    assert "canary-p" not in repr(spec)


def test_short_secrets_are_not_replaced_since_they_would_blot_out_the_message() -> None:
    check = parse_check({"type": "heartbeat", "id": "b", "every": "1h", "token": "12345"})
    assert redactions(check) == ()


def test_a_secret_in_a_list_is_masked_and_compared_with_it() -> None:
    def spec(secret: str) -> Spec:
        declared = {
            "id": "a",
            "type": "http",
            "url": "https://shop.example/",
            "expect": {"body": {"contains": [secret, "b"]}},
            "references": {"expect.body.contains.0": "${TOKEN}"},
        }
        return spec_of(parse_check(declared))

    path = "expect.body.contains"
    one, other = spec("canary-one"), spec("canary-other")
    assert one.fields[path] == ["${TOKEN}", "b"]
    assert field_changes(one, spec("canary-one")) == ()
    assert field_changes(one, other) == (
        FieldChange(path, ["${TOKEN}", "b"], ["${TOKEN}", "b"], secret=True),
    )
    assert "canary" not in repr(one)


@pytest.mark.parametrize("url", ["http://a:0/", "http://a:65536/", "http://a:x/"])
def test_a_port_is_one_that_exists(url: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_check({"type": "http", "id": "a", "url": url})


def test_the_password_of_a_proxy_is_kept_out_of_specs_and_of_what_is_echoed() -> None:
    proxied = parse_check(
        {
            "type": "http",
            "id": "shop",
            "url": "https://shop.example/",
            "proxy": "http://user:canary-password@proxy.example:3128",
        }
    )
    assert masked_spec(proxied)["proxy"] == {
        "url": "http://proxy.example:3128",
        "username": "user",
        "password": "(secret)",
    }
    said = "bad login canary-password (Basic dXNlcjpjYW5hcnktcGFzc3dvcmQ=)"
    assert redact(said, redactions(proxied)) == "bad login *** (Basic ***)"
