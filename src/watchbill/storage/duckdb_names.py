"""Names and paths as parts of statements, which take no parameter there."""

from __future__ import annotations

from pathlib import Path


def identifier(name: str) -> str:
    """Of a database (DuckDB names it after its file), a table or a column, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    return "'" + str(text).replace("'", "''") + "'"
