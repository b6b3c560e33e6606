"""``discover:``: targets that others know of, and the check that is made of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from watchbill.domain.checks import HeaderValue
from watchbill.domain.credentials import Auth, TlsOptions
from watchbill.domain.dns_sd import DnsSd
from watchbill.domain.fields import ID_PATTERN, RESERVED_LABELS
from watchbill.domain.kubernetes_sd import KubernetesSd
from watchbill.domain.reach import check_host, split_url
from watchbill.domain.relabelling import Relabel
from watchbill.domain.rules import Declared, HeaderName, declared_problem, listed
from watchbill.domain.units import Duration

DiscoveryId = Annotated[str, Field(pattern=ID_PATTERN, max_length=100)]
ADDRESS = "__address__"
_TARGET_FILE = re.compile(r"[^*?\[\]]*(\*[^/?\[\]]*)?\.(json|yml|yaml)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Targets with labels in common.

    ``source``: where it comes from, unique within one source (a file and its index, a namespace and a name, a record).
    Each target has an ``__address__``; its own labels win over those of the group.
    """

    source: str
    targets: tuple[Mapping[str, str], ...]
    labels: Mapping[str, str]


def _target_file(pattern: str) -> str:
    if not _TARGET_FILE.fullmatch(pattern):
        raise ValueError(
            "a file of targets ends in .json, .yml or .yaml, and a * stands in its last part only, such as targets/*.json"
        )
    return pattern


TargetFile = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_target_file)]


class FileSd(Declared):
    """Targets in files, as Prometheus' `file_sd` has them."""

    files: Annotated[tuple[TargetFile, ...], BeforeValidator(listed), Field(min_length=1, max_length=100)]
    """JSON or YAML files, relative to the file that names them; the last part may hold a `*`. They need not exist yet."""
    refresh: Duration = timedelta(minutes=5)
    """How often they are read again even though nothing seems to have changed."""


def _source_url(url: str) -> str:
    parts = split_url(url)
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"a url starts with http:// or https://, got {parts.scheme or 'none'}")
    if not parts.hostname:
        raise ValueError("a url names a host, such as https://inventory.example/targets")
    check_host(parts.hostname)
    if parts.username is not None or parts.password is not None:
        raise ValueError("a url of a source holds no credentials; put them under auth")
    return url


class HttpSd(Declared):
    """Targets from a URL, as Prometheus' `http_sd` has them."""

    url: Annotated[str, Field(max_length=4096), AfterValidator(_source_url)]
    """What answers with a JSON list of target groups."""
    refresh: Duration = timedelta(minutes=1)
    """How often it is asked."""
    timeout: Duration = timedelta(seconds=10)
    """How long one answer may take."""
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=200)] = Field(default_factory=dict)
    """Headers to send; their values are secrets."""
    auth: Auth | None = None
    """Credentials to send: exactly one of `basic` and `bearer`."""
    tls: TlsOptions = TlsOptions()
    """How the TLS handshake is made."""


@dataclass(frozen=True, slots=True)
class Template:
    """A block's check as it stands in its file, and all that it takes to make one of a target without reading files again.

    ``kept`` is the loader's own and holds secrets, so it is never shown. ``digest`` tells it from others. ``folder``: what
    the block's own paths are relative to.
    """

    kept: Any = field(repr=False)
    digest: bytes = field(repr=False)
    folder: str = ""


SourceOptions: TypeAlias = FileSd | HttpSd | DnsSd | KubernetesSd
SOURCES = ("file_sd", "http_sd", "dns_sd", "kubernetes_sd")
"""The keys of which a block has exactly one."""


class Discovery(Declared):
    """Where targets come from, and the check that is made of each."""

    file_sd: FileSd | None = None
    """Targets in JSON or YAML files."""
    http_sd: HttpSd | None = None
    """Targets from a URL."""
    dns_sd: DnsSd | None = None
    """Targets from DNS records."""
    kubernetes_sd: KubernetesSd | None = None
    """Targets from the objects of a Kubernetes cluster."""
    relabel: Annotated[tuple[Relabel, ...], BeforeValidator(listed), Field(max_length=100)] = ()
    """Steps that change a target's labels or leave it out, as Prometheus' `relabel_configs`. References have no meaning in them."""
    id: Annotated[str, Field(max_length=1000)] = ""
    """The id of each check, with `${each.LABEL}` in it, brought into the form of an id. By default the name of the block and the target's address."""
    mass_delete: Literal["refuse", "allow"] | None = None
    """Whether more than half of the block's checks (and more than ten) may go at once; by default as under `limits`."""
    check: dict[str, Any]
    """The check that each target gets: any check, with `${each.LABEL}` in its texts."""

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Discovery:
        named = [name for name in SOURCES if getattr(self, name) is not None]
        if len(named) != 1:
            raise declared_problem("", f"a block of discover takes exactly one of {', '.join(SOURCES)}")
        return self

    @property
    def source(self) -> SourceOptions:
        """What is declared of where the targets come from."""
        for name in SOURCES:
            found: SourceOptions | None = getattr(self, name)
            if found is not None:
                return found
        raise LookupError("a block has a source")


# --- what becomes of targets ----------------------------------------------------------------------------

LONGEST_ID = 200
_NOT_IN_AN_ID = re.compile(r"[^a-z0-9._-]")
_USERINFO = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://|)[^/?#]*@")
_NUMBERS = re.compile(r"(\d+)")


def slug(text: str) -> str:
    """The text as an id: lower case, and a dash for what an id cannot hold. One that is too long is cut, and told apart by a hash."""
    text = _NOT_IN_AN_ID.sub("-", text.lower()).lstrip("._-")
    if len(text) <= LONGEST_ID:
        return text
    return f"{text[: LONGEST_ID - 17]}-{blake2b(text.encode(), digest_size=8).hexdigest()}"


def without_credentials(address: str) -> str:
    """An address as it can be shown, and be part of an id."""
    return _USERINFO.sub(r"\1", address)


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """What of a target's labels its check gets: those that are not ``__...``, and not what the series have of their own."""
    return {
        name: text
        for name, text in labels.items()
        if not name.startswith("__") and name not in RESERVED_LABELS
    }


def in_order(groups: Iterable[TargetGroup]) -> list[TargetGroup]:
    """By their names, numbers in them by their size: as files and lists have them."""
    return sorted(groups, key=lambda group: _natural(group.source))


def _natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """``hosts.json:10`` stands after ``hosts.json:9``."""
    return tuple(
        (0, int(part), "") if part.isdecimal() and len(part) < 19 else (1, 0, part)
        for part in _NUMBERS.split(text)
    )


def targets_of(group: TargetGroup) -> Iterator[dict[str, str]]:
    """Each target with all its labels."""
    for target in group.targets:
        yield {**group.labels, **target}


@dataclass(frozen=True, slots=True)
class Differences:
    """What of the groups of one source is new or other than before, and the sources of those that are gone."""

    changed: tuple[TargetGroup, ...]
    gone: tuple[str, ...]
