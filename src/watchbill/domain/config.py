"""The whole declared configuration, valid and with its defaults applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool

from watchbill.domain.checks import Check
from watchbill.domain.discovery import Discovery, DiscoveryId, Template
from watchbill.domain.fields import CheckId, Labels, Service, ServiceId
from watchbill.domain.objectives import Slo, SloId
from watchbill.domain.otlp import OtlpOptions
from watchbill.domain.rules import Declared
from watchbill.domain.specs import masked_spec, spec_digest
from watchbill.domain.units import Duration

LATENCY_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def _ascending(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(bounds)):
        raise ValueError("buckets run upwards, each bound greater than the one before")
    return bounds


Bucket = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False, strict=True)]


class Defaults(Declared):
    """Fields that every check has, for the checks they govern; nothing that belongs to one type."""

    enabled: StrictBool | None = None
    """`false` parks the checks: they keep their history and are not probed."""
    service: ServiceId | None = None
    """The service they watch, an id under `services`."""
    description: str | None = None
    """What they are for, in a few words."""
    interval: Duration | None = None
    """How often they are probed."""
    timeout: Duration | None = None
    """How long one probe may take in all."""
    labels: Labels = Field(default_factory=dict)
    """Labels of their Prometheus series."""


class StorageOptions(Declared):
    """How long history is kept."""

    keep: Duration = timedelta(days=30)
    """How old results may become before they are deleted."""


class MetricsOptions(Declared):
    """Which families ``/metrics`` has, and the bounds of the latency histogram in seconds."""

    probe: StrictBool = True
    """The `probe_*` families, under blackbox_exporter's names."""
    phases: StrictBool = False
    """`watchbill_check_phase_seconds`, a histogram by phase."""
    certificates: StrictBool = False
    """Certificate subjects, issuers and fingerprints as labels."""
    details: StrictBool = False
    """Further `probe_*` families that few need."""
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1, max_length=20), AfterValidator(_ascending)] = (
        LATENCY_BUCKETS
    )
    """Upper bounds of the latency histograms in seconds, each greater than the one before."""


class Limits(Declared):
    """What one exporter may be asked to do."""

    min_interval: Duration = timedelta(seconds=1)
    """The shortest interval that a check may have."""
    concurrent_probes: Annotated[int, Field(ge=1, le=20_000, strict=True)] = 1000
    """How many probes run at once at most."""
    mass_delete: Literal["refuse", "allow"] = "refuse"
    """Whether a reload may delete more than half of the checks (and more than ten)."""


class Config(Declared):
    """Everything that was declared. Checks know their id, their service and all their defaults."""

    version: Literal[1] = 1
    """The version of this format."""
    services: dict[ServiceId, Service] = Field(default_factory=dict)
    """What people rely on, by id."""
    checks: dict[CheckId, Check] = Field(default_factory=dict)
    """What is probed, by id. The id is what history is kept under."""
    moved: dict[CheckId, CheckId] = Field(default_factory=dict)
    """Renamed checks, old id -> new id, so that they keep their history."""
    slos: dict[SloId, Slo] = Field(default_factory=dict)
    """What users may rely on, by id: objectives for the checks, from which `watchbill generate` makes rules."""
    discover: dict[DiscoveryId, Discovery] = Field(default_factory=dict)
    """Checks of targets that others know of: files, URLs, name servers, Kubernetes."""
    storage: StorageOptions = StorageOptions()
    """How long history is kept."""
    metrics: MetricsOptions = MetricsOptions()
    """Which families `/metrics` has."""
    limits: Limits = Limits()
    """What one exporter may be asked to do."""
    otlp: OtlpOptions | None = None
    """Where metrics and spans are exported to, by the OpenTelemetry Protocol."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and where it came from.

    ``digest`` names its masked content, ``revision`` the Git commit (empty where there is none),
    ``files`` are the paths that were read, in order. ``templates``: for each block of ``discover`` what it takes to
    make its checks. ``discovered``: those of the checks that are not declared but were made so, and their block.
    """

    config: Config
    digest: str
    revision: str = ""
    files: tuple[str, ...] = ()
    templates: Mapping[str, Template] = field(default_factory=dict, repr=False)
    discovered: Mapping[str, str] = field(default_factory=dict)

    def declared(self) -> dict[str, Check]:
        """The checks that stand in the files."""
        checks = self.config.checks
        if not self.discovered:
            return dict(checks)
        return {check_id: check for check_id, check in checks.items() if check_id not in self.discovered}


def config_digest(config: Config, *, folder: str = "") -> str:
    """A name for everything that was declared, secrets by their reference text only.

    ``folder``: whose files count by their path from it, so that every checkout of a repository has the same digest.
    """
    rest = config.model_dump(mode="json", by_alias=True, exclude={"checks"})
    if not config.discover:
        del rest["discover"]  # a configuration without one keeps the name that it had
    near = f"{folder}/" if folder else ""
    return spec_digest(
        {
            **rest,
            # Each on its own: the text of ten thousand together would be hundreds of megabytes.
            "checks": {
                check_id: spec_digest(_from(near, masked_spec(check)) if near else masked_spec(check))
                for check_id, check in config.checks.items()
            },
        }
    )


def _from(near: str, value: Any) -> Any:
    """The value with every text that begins with the folder cut down to what follows it."""
    match value:
        case str():
            return value.removeprefix(near)
        case dict():
            return {key: _from(near, item) for key, item in value.items()}
        case list():
            return [_from(near, item) for item in value]
        case _:
            return value
