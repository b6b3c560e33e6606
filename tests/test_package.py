"""The wheel and the source distribution build, and what is in them works on its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).parent / "uv"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [str(UV), "build", "--no-build-isolation", "--offline", "--python", sys.executable]
    subprocess.run(
        [*command, "--out-dir", str(folder), str(ROOT)], check=True, capture_output=True, timeout=120
    )
    return folder


def test_the_wheel_runs_without_the_source_tree(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run(
        [*install, str(tmp_path / "site"), str(wheel)], check=True, capture_output=True, timeout=120
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environ,
            cwd=tmp_path,
        )
        return done.stdout

    where = run("-c", "import watchbill.storage.duckdb as home; print(home.__file__)")
    assert where.startswith(str(tmp_path / "site"))
    assert run("-m", "watchbill.cli.main", "--version").startswith("watchbill ")
    assert "valid" in run("-m", "watchbill.cli.main", "validate", str(ROOT / "checks.example.yaml"))
    assert (tmp_path / "site/watchbill/py.typed").exists()
    assert list((tmp_path / "site/watchbill/storage/migrations").glob("*.sql"))


def test_the_source_distribution_has_what_its_makefile_needs(built: Path) -> None:
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    needed = {
        "Makefile", "constraints.txt", "checks.example.yaml", "schemas/checks.schema.json", "tests/conftest.py",
        "scripts/generate.py", "scripts/install-venv.sh", "deploy/prometheus/alerts.yml", "LICENSE", "docs/cli.md",
    }  # fmt: skip
    assert needed <= names


def test_every_dependency_is_pinned_and_none_by_an_address() -> None:
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert all("==" in line and "://" not in line and "@" not in line for line in pinned)
    names = {line.partition("==")[0].lower().replace("_", "-") for line in pinned}
    freeze = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    installed = {line.partition("==")[0].lower().replace("_", "-") for line in freeze}
    assert {"anyio", "duckdb", "httpx2", "pydantic", "uvicorn"} <= names
    assert installed - names <= {"pip", "setuptools", "wheel"}
