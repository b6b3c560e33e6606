"""The labels that every series of a check has, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from watchbill.board import CheckState
from watchbill.metrics.exposition import escape, labels

COMMON_LABELS = ("check", "location", "service", "type")


@dataclass(frozen=True, slots=True)
class CheckLabels:
    """The labels of one check's series as text, made once for each revision of the check."""

    own: str
    probe: str
    base: str
    declared: Mapping[str, str]

    def with_pairs(self, own: Mapping[str, str]) -> str:
        """The probe's labels and more; where a declared label has the name of one of them, it gives way."""
        if own.keys() & self.declared.keys():
            kept = {name: value for name, value in self.declared.items() if name not in own}
            return f"{self.base},{labels(kept | dict(own))}"
        return f"{self.probe},{labels(own)}"


def labels_of(state: CheckState) -> CheckLabels:
    check = state.check
    common = labels(
        dict(zip(COMMON_LABELS, (check.id, state.location, check.service or "", check.type), strict=True))
    )
    base = f'{common},target="{escape(state.target)}"'
    declared = f",{labels(check.labels)}" if check.labels else ""
    return CheckLabels(own=common + declared, probe=base + declared, base=base, declared=check.labels)
