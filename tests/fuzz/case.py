"""One hostile configuration: its files, and the surroundings that all of them are loaded in."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CANARY = "canary"
ENVIRON: Mapping[str, str] = {
    "HOST": "127.0.0.1",
    "NUMBER": "7",
    "EMPTY": "",
    "TOKEN": f"{CANARY}-token-7f3a",
    "API_PASSWORD": f"{CANARY}/pass@word:#?",
    "REGION_KEY": f"{CANARY}\n[two]: lines",
    "PATTERN": "(",
    "BIDI": "a\u202eb\u2066c",
    "NOT_TEXT": "\udcff",
    "LONG": "x" * 5000,
}
"""What references may name; a secret's value must be in no message."""
BESIDE: Mapping[str, bytes] = {
    "ca.pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "key.pem": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "schema.json": b'{"type": "object", "required": ["status"]}',
    "secret.txt": f"{CANARY}-file-51c0\n".encode(),
    "binary.dat": bytes(range(256)),
}
"""Files that declarations name, written beside those that need them."""


@dataclass(frozen=True)
class Case:
    """``files`` by their path below a folder of the case's own; ``root`` is what is loaded of it."""

    name: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    root: str = "."

    def write(self, folder: Path) -> Path:
        """The folder anew with only this in it."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        contents = b"".join(self.files.values())
        named = {name: content for name, content in BESIDE.items() if name.encode() in contents}
        places = {(Path(name).parent) for name in self.files}
        beside = {str(place / name): content for place in places for name, content in named.items()}
        for name, content in {**beside, **self.files}.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return folder / self.root


def case_in(folder: Path) -> Case:
    """What was written before, a file or a folder, read back."""
    if folder.is_file():
        return Case(folder.name, {folder.name: folder.read_bytes()}, folder.name)
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return Case(folder.name, files)
