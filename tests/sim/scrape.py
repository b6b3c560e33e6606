"""What Prometheus reads, held against what was published: the last result of each check, and counters that only grow."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.sim.mirror import Mirror, Told
from watchbill.app import App
from watchbill.domain.results import Outcome
from watchbill.domain.status import STATUS_VALUE
from watchbill.domain.units import SECOND, Instant, to_micros

GROWING = ("_total", "_count", "_bucket")
Samples = dict[str, float]
_SERVICE = re.compile(r'service="[^"]*",')


@dataclass
class Scraper:
    """``reloaded_well``: what the last reload came to."""

    reloaded_well: bool = True
    scrapes: int = 0
    _before: Samples = field(default_factory=dict)
    _told: dict[str, Told] = field(default_factory=dict)

    def differences(self, app: App, mirror: Mirror) -> str | None:
        """The first sample that is not what it should be."""
        self.scrapes += 1
        _, page = app.metrics.render()
        samples = read(page.decode())
        growing = {
            _lasting(key): value for key, value in samples.items() if key.partition("{")[0].endswith(GROWING)
        }
        for key, value in self._before.items():
            if (now := growing.get(key, -1.0)) < value and not self._began_anew(key, mirror):
                return f"{key} went back from {value} to {now if now >= 0 else 'nothing'}"
        self._told, self._before = dict(mirror.checks), growing
        if samples["watchbill_config_last_reload_successful"] != self.reloaded_well:
            return f"the last reload is shown as {samples['watchbill_config_last_reload_successful']}"
        shown = by_check(samples)
        if shown.keys() != mirror.checks.keys():
            return f"/metrics shows or lacks {sorted(shown.keys() ^ mirror.checks.keys())}"
        for check_id, told in mirror.checks.items():
            expected = self._expected(told, app.clock.now())
            for name, wanted in expected.items():
                if shown[check_id].get(name) != wanted:
                    return f"{name} of {check_id} is {shown[check_id].get(name)}, should be {wanted}"
        return None

    def _began_anew(self, key: str, mirror: Mirror) -> bool:
        """Whether it is of a check that has been of another type meanwhile, and so is another series."""
        check_id = check_of(key)
        return check_id is not None and self._told.get(check_id) is not mirror.checks.get(check_id)

    def _expected(self, told: Told, now: Instant) -> dict[str, float | None]:
        check, latest = told.check, told.latest
        fresh = latest is not None and now <= latest.started_at + 2 * check.interval_micros + to_micros(
            check.timeout
        )
        verdict = latest.outcome if latest is not None and fresh and check.enabled else None
        success = {Outcome.SUCCESS: 1.0, Outcome.FAILURE: 0.0}.get(verdict) if verdict is not None else None
        return {
            "probe_success": success,
            "watchbill_check_status": STATUS_VALUE.get(told.status) if check.enabled else None,
            "watchbill_check_last_result_timestamp_seconds": None
            if latest is None
            else latest.started_at / SECOND,
            "watchbill_check_interval_seconds": check.interval_micros / SECOND,
            **{
                f"watchbill_check_slots_total {outcome}": float(told.slots[outcome])
                for outcome in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ERROR, Outcome.SKIPPED)
            },
        }


def _lasting(key: str) -> str:
    """A check that goes to another service goes on counting."""
    return _SERVICE.sub("", key) if check_of(key) is not None else key


def read(page: str) -> Samples:
    """Every sample by its name with its labels."""
    samples = {}
    for line in page.splitlines():
        if not line.startswith("#"):
            key, _, value = line.rpartition(" ")
            samples[key] = float(value)
    return samples


def by_check(samples: Samples) -> dict[str, dict[str, float]]:
    """By id, the samples that have no label of their own but ``outcome``."""
    found: dict[str, dict[str, float]] = {}
    for key, value in samples.items():
        if (check_id := check_of(key)) is None:
            continue
        name, _, labels = key.partition("{")
        if 'outcome="' in labels:
            name += " " + labels.split('outcome="')[1].partition('"')[0]
        found.setdefault(check_id, {})[name] = value
    return found


def check_of(key: str) -> str | None:
    """The id of the check that a sample is of."""
    _, found, labels = key.partition('{check="')
    return labels.partition('"')[0] if found else None
