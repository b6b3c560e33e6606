"""The sources keep to the rules, and the rules see what they are for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.policy.calls import ADAPTERS, offences, prove, sources
from watchbill.serve import Options

SEEN = [
    ("import time", "time"),
    ("from anyio import to_thread", "anyio.to_thread"),
    ("import anyio\nanyio.current_time()", "anyio.current_time"),
    ("from socket import socket", "socket"),
    ("open('x')", "open()"),
    ("eval('1')", "eval()"),
    ("exec('1')", "exec()"),
    ("__import__('os')", "__import__()"),
    ("import os\nos.system('ls')", "os.system"),
    ("from os import popen", "os.popen"),
    ("import pickle", "pickle"),
    ("import marshal", "marshal"),
    ("import requests", "requests"),
    ("import urllib.request", "urllib.request"),
    ("from urllib import request", "urllib.request"),
    ("import random", "random"),
    ("run('ls', shell=True)", "shell=True"),
    ("run('ls', shell=asked)", "shell=asked"),
    ("get(url, verify=False)", "verify=False"),
    ("Client(trust_env=True)", "trust_env=True"),
    ("yaml.load(text)", "yaml.load"),
    ("yaml.load(text, Loader=yaml.UnsafeLoader)", "yaml.UnsafeLoader"),
    ("tempfile.mktemp()", "tempfile.mktemp"),
    ("hashlib.md5(b'')", "hashlib.md5"),
    ("ssl._create_unverified_context()", "ssl._create_unverified_context"),
    ("context.verify_mode = ssl.CERT_NONE", "ssl.CERT_NONE"),
    ("assert user.is_admin()", "assert"),
    ("bind('0.0.0.0')", "0.0.0.0"),
    ("bind('0.0.0.0:80')", "0.0.0.0:80"),
    ("import duckdb", "duckdb"),
    ("import yaml", "yaml"),
    ("from OpenSSL import SSL", "OpenSSL"),
    ("import subprocess", "subprocess"),
]


@pytest.mark.parametrize(("text", "what"), SEEN)
def test_the_rules_see_what_they_forbid(text: str, what: str) -> None:
    assert what in [offence.what for offence in offences("domain/new.py", ast.parse(text))]


@pytest.mark.parametrize(
    "text",
    ["assert isinstance(x, int)", "assert x is not None", "import re\nre.compile('x')", "import os\nos.path.join('a')",
     "run(['ls'])", "Client(trust_env=False)", "yaml.compose(text, Loader=Own)", "import anyio\nanyio.Event()"],
)  # fmt: skip
def test_what_is_harmless_is_let_be(text: str) -> None:
    assert offences("domain/new.py", ast.parse(text)) == []


def test_the_sources_keep_to_them(tmp_path: Path) -> None:
    assert [claim for claim in prove(tmp_path, full=False) if not claim.holds] == []


def test_every_adapter_named_here_exists() -> None:
    present = sources()
    assert [name for name in ADAPTERS if not any(module.startswith(name) for module in present)] == []


def test_nobody_outside_is_listened_to_unasked() -> None:
    assert Options("checks.yaml").listen == ("127.0.0.1:9876",)
