"""The whole declared configuration, valid and with its defaults applied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from watchbill.domain.checks import Check, CheckId, LabelName, LabelValue, Service, ServiceId
from watchbill.domain.expectations import Declared
from watchbill.domain.specs import masked_spec, spec_digest
from watchbill.domain.units import Duration

LATENCY_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def _ascending(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(bounds)):
        raise ValueError("buckets run upwards, each bound greater than the one before")
    return bounds


Bucket = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class Defaults(Declared):
    """Fields that every check has, for the checks they govern; nothing that belongs to one type."""

    enabled: bool | None = None
    service: ServiceId | None = None
    description: str | None = None
    interval: Duration | None = None
    timeout: Duration | None = None
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict)


class StorageOptions(Declared):
    """How long history is kept."""

    keep: Duration = timedelta(days=30)


class MetricsOptions(Declared):
    """Which families ``/metrics`` has, and the bounds of the latency histogram in seconds."""

    probe: bool = True
    phases: bool = False
    certificates: bool = False
    details: bool = False
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1, max_length=20), AfterValidator(_ascending)] = (
        LATENCY_BUCKETS
    )


class Limits(Declared):
    """What one exporter may be asked to do."""

    min_interval: Duration = timedelta(seconds=1)
    concurrent_probes: Annotated[int, Field(ge=1, le=20_000, strict=True)] = 1000
    mass_delete: Literal["refuse", "allow"] = "refuse"


class Config(Declared):
    """Everything that was declared. Checks know their id, their service and all their defaults."""

    version: Literal[1] = 1
    services: dict[ServiceId, Service] = Field(default_factory=dict)
    checks: dict[CheckId, Check] = Field(default_factory=dict)
    moved: dict[CheckId, CheckId] = Field(default_factory=dict)
    storage: StorageOptions = StorageOptions()
    metrics: MetricsOptions = MetricsOptions()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration and where it came from.

    ``digest`` names its masked content, ``revision`` the Git commit (empty where there is none),
    ``files`` are the paths that were read, in order.
    """

    config: Config
    digest: str
    revision: str = ""
    files: tuple[str, ...] = ()


def config_digest(config: Config) -> str:
    """A name for everything that was declared, secrets by their reference text only."""
    rest = config.model_dump(mode="json", by_alias=True, exclude={"checks"})
    return spec_digest(
        {**rest, "checks": {check_id: masked_spec(check) for check_id, check in config.checks.items()}}
    )
