"""Which program the bench measures beside Watchbill, and how it gets there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import peer

SCRIPT = Path(__file__).parents[2] / "scripts/install-bench-peer.sh"


def put(folder: Path, said: str) -> Path:
    program = folder / peer.PROGRAM
    folder.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\n")
    program.chmod(0o755)
    return program


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHBILL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_without_one_watchbill_is_measured_alone() -> None:
    assert peer.find() is None
    assert peer.described() == "no blackbox_exporter"


def test_the_unpacked_one_goes_before_the_installed_one_and_says_its_version(tmp_path: Path) -> None:
    installed = put(tmp_path / "bin", "blackbox_exporter, version 0.23.0 (branch: debian)")
    assert peer.find() == str(installed)
    assert peer.described() == "blackbox_exporter 0.23.0"
    unpacked = put(tmp_path / "cache/root/usr/bin", "blackbox_exporter, version 0.28.0 (branch: debian)")
    assert peer.find() == str(unpacked)
    assert peer.described() == "blackbox_exporter 0.28.0"


def test_a_machine_without_apt_is_told_what_to_do_and_the_bench_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(["/bin/sh", str(SCRIPT)], check=True, capture_output=True, text=True)
    assert done.stderr.startswith("no apt-get: put prometheus-blackbox-exporter into PATH")
    assert not (tmp_path / "cache").exists()


def test_what_is_unpacked_already_is_not_fetched_again(tmp_path: Path) -> None:
    put(tmp_path / "cache/root/usr/bin", "0.28.0")
    done = subprocess.run(["/bin/sh", str(SCRIPT)], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
