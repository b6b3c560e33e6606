"""Files that a declaration names."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo


def _existing_file(path: str, info: ValidationInfo) -> str:
    return str(info.context["resolve"](path)) if info.context else path


ExistingFile = Annotated[str, Field(min_length=1), AfterValidator(_existing_file)]
"""Relative to the file that names it; loading says where it really is, or that it is not there."""
