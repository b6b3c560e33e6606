"""Writing configurations and reading what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from watchbill.config import load
from watchbill.domain.config import Config
from watchbill.domain.errors import ConfigError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(text)`` or ``write(name=text, ...)``: files under a folder of the test's own."""

    def writer(text: str | None = None, /, **files: str) -> Path:
        if text is not None:
            (tmp_path / "checks.yaml").write_text(text, encoding="utf-8")
            return tmp_path / "checks.yaml"
        for name, content in files.items():
            file = tmp_path / (name.replace("__", "/") + ".yaml")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        return tmp_path

    return writer


def read(path: Path, environ: Mapping[str, str] | None = None, *, resolve_secrets: bool = True) -> Config:
    return load(path, environ=environ or {}, resolve_secrets=resolve_secrets).config


def mistakes(path: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    """Every problem, with the folder cut off; the test fails if there is none."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ or {})
    folder = f"{path if path.is_dir() else path.parent}/"
    return str(caught.value).replace(folder, "").splitlines()
