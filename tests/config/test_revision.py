"""The commit is read from Git's own files, whatever form they have."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from watchbill.config import load
from watchbill.config.revision import revision_of

GIT = shutil.which("git")
pytestmark = pytest.mark.skipif(GIT is None, reason="git is not installed")
CLEAN = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    **{f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *arguments: str) -> str:
    assert GIT is not None
    return subprocess.run(
        [GIT, *arguments], cwd=folder, env=CLEAN, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "conf").mkdir(parents=True)
    (tree / "conf/checks.yaml").write_text("version: 1\nchecks: {}\n")
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "one")
    return tree


def test_a_branch_a_folder_and_a_file(tree: Path) -> None:
    head = git(tree, "rev-parse", "HEAD")
    assert [revision_of(tree / name) for name in ("", "conf", "conf/checks.yaml")] == [head] * 3


def test_a_commit_moves_it_and_a_checkout_too(tree: Path) -> None:
    first = git(tree, "rev-parse", "HEAD")
    git(tree, "commit", "-q", "--allow-empty", "-m", "two")
    assert revision_of(tree) == git(tree, "rev-parse", "HEAD") != first
    git(tree, "checkout", "-q", first)
    assert revision_of(tree) == first


def test_packed_references(tree: Path) -> None:
    git(tree, "branch", "other")
    git(tree, "pack-refs", "--all")
    assert not (tree / ".git/refs/heads/main").exists()
    assert revision_of(tree) == git(tree, "rev-parse", "HEAD")


def test_a_linked_work_tree(tree: Path, tmp_path: Path) -> None:
    git(tree, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    git(tmp_path / "side", "commit", "-q", "--allow-empty", "-m", "side")
    head = git(tmp_path / "side", "rev-parse", "HEAD")
    assert revision_of(tmp_path / "side/conf") == head != revision_of(tree)
    git(tree, "pack-refs", "--all")
    assert revision_of(tmp_path / "side") == head


def test_a_link_into_a_work_tree(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(tree / "conf")
    assert revision_of(tmp_path / "current") == git(tree, "rev-parse", "HEAD")


def test_a_tree_without_a_commit_and_no_tree_have_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "plain").mkdir()
    assert revision_of(tmp_path) == ""


def test_a_folder_that_cannot_be_looked_into_is_no_tree(tree: Path) -> None:
    assert revision_of(tree / ("x" * 300) / "checks.yaml") == git(tree, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    "head", ["", "ref: ../../secret", "ref: refs/heads/../../x", "zzz", "ref: refs/heads/main x", "\xff"]
)
def test_a_damaged_head_is_no_revision(head: str, tree: Path) -> None:
    (tree / ".git/HEAD").write_text(head, encoding="latin-1")
    assert revision_of(tree) == ""


def test_the_variable_counts_where_there_is_no_commit(tree: Path, tmp_path: Path) -> None:
    environ = {"WATCHBILL_REVISION": " v1.2 "}
    assert load(tree / "conf", environ=environ).revision == git(tree, "rev-parse", "HEAD")
    shutil.rmtree(tree / ".git")
    assert load(tree / "conf", environ=environ).revision == "v1.2"
    assert load(tree / "conf", environ={}).revision == ""
