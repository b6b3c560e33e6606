"""docs/configuration.md has every key, with its default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from watchbill.config.fields import CHECK_MODELS, keys_of, model_in
from watchbill.config.schema import json_schema
from watchbill.domain.config import Config, Defaults
from watchbill.domain.fields import RESERVED_LABELS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "configuration.md").read_text(encoding="utf-8")
DISCOVERY = (DOCS / "discovery.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """What stands under a heading, up to the next of its level or above."""
    match = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^#{{2,3}} |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match[2]


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Every key of a model and of those in it."""
    for key, annotation in keys_of(model).items():
        yield key
        child = model_in(annotation)
        if child is not None:
            yield from keys(child)


def named(key: str, text: str) -> bool:
    return re.search(rf"`([a-z_]+\.)*{re.escape(key)}`", text) is not None


@pytest.mark.parametrize("kind", CHECK_MODELS)
def test_every_key_of_every_type_is_documented_where_one_looks_for_it(kind: str) -> None:
    text = "".join(map(section, (kind, "Checks", "The file", "tls options")))
    assert [key for key in dict.fromkeys(keys(CHECK_MODELS[kind])) if not named(key, text)] == []


def test_every_other_key_is_documented() -> None:
    everywhere = PAGE + DISCOVERY
    assert [
        key for key in (*keys(Config), *keys(Defaults), "for_each", "defaults") if not named(key, everywhere)
    ] == []


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("file_sd", "FileSd"),
        ("http_sd", "HttpSd"),
        ("dns_sd", "DnsSd"),
        ("kubernetes_sd", "KubernetesSd"),
        ("Relabelling", "Relabel"),
    ],
)
def test_every_key_of_discovery_and_its_default_stand_in_its_section(title: str, model: str) -> None:
    text = re.split(rf"^## {title}$", DISCOVERY, flags=re.MULTILINE)[1].partition("\n## ")[0]
    for key, field in json_schema()["definitions"][model]["properties"].items():
        row = re.search(rf"^\| `{key}` \|.*\| *(.*?) *\|$", text, re.MULTILINE)
        assert row is not None, key
        assert row[1] == (f"`{field['default']}`" if field.get("default") else ""), key


@pytest.mark.parametrize("kind", CHECK_MODELS)
def test_every_default_of_a_type_is_documented(kind: str) -> None:
    definitions = json_schema()["definitions"]
    text = section(kind) + section("Checks") + section("tls options")
    expect = definitions.get(CHECK_MODELS[kind].__name__ + "Expect", {"properties": {}})
    for key, field in {**definitions[f"check_{kind}"]["properties"], **expect["properties"]}.items():
        if "default" in field:
            written = (
                str(field["default"]).lower() if isinstance(field["default"], bool) else field["default"]
            )
            row = re.search(
                rf"^\| `(expect\.)?{key}` \|.*`\"?{re.escape(str(written))}\"?`", text, re.MULTILINE
            )
            assert row is not None, (key, written)


def test_every_default_of_an_option_is_documented() -> None:
    text = section("Options")
    for name in ("storage", "metrics", "limits"):
        for key, field in json_schema()["properties"][name]["properties"].items():
            default = field["default"]
            written = str(default).lower() if isinstance(default, bool) else str(default)
            shown = f"{default[0]} to {default[-1]:g}" if isinstance(default, list) else f"`{written}`"
            assert re.search(rf"^\| `{name}\.{key}` \|.*\| {shown} \|", text, re.MULTILINE), (
                name,
                key,
                shown,
            )


def test_every_default_of_the_export_is_documented() -> None:
    text = section("OpenTelemetry: otlp")
    for key, field in json_schema()["properties"]["otlp"]["properties"].items():
        default = field.get("default", ".*")
        written = str(default).lower() if isinstance(default, bool) else default
        assert re.search(rf"^\| `otlp\.{key}` \|.*\| (required|none|`{written}`) \|", text, re.MULTILINE), key


def test_every_refused_label_is_documented() -> None:
    assert [label for label in RESERVED_LABELS if f"`{label}`" not in section("Checks")] == []
