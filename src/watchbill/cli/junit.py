"""Results as JUnit XML, which every CI shows as tests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from watchbill.domain.checks import Check
from watchbill.domain.results import Outcome, Result
from watchbill.domain.units import isoformat

# XML 1.0 §2.2: everything else cannot stand in a document, not even escaped.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(results: Sequence[Result], checks: Mapping[str, Check], *, suite: str) -> str:
    """One test case a result: a target's fault is a ``failure``, our own an ``error``."""
    root = Element(
        "testsuite",
        name=_clean(suite),
        tests=str(len(results)),
        failures=str(sum(each.outcome is Outcome.FAILURE for each in results)),
        errors=str(sum(each.outcome is Outcome.ERROR for each in results)),
        time=f"{sum(each.duration_seconds for each in results):.6f}",
    )
    if results:
        root.set("timestamp", isoformat(min(each.started_at for each in results)))
    for result in results:
        _case(root, result, checks[result.check_id])
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode")


def _case(root: Element, result: Result, check: Check) -> None:
    case = SubElement(
        root,
        "testcase",
        name=result.check_id,
        classname=f"watchbill.{check.service or check.type}",
        time=f"{result.duration_seconds:.6f}",
    )
    if result.outcome is Outcome.SUCCESS:
        return
    kind = "error" if result.outcome is Outcome.ERROR else "failure"
    reason = result.reason.value if result.reason else result.outcome.value
    found = SubElement(case, kind, type=reason, message=_clean(result.message))
    found.text = _clean("\n".join(f"{failure.reason}: {failure.message}" for failure in result.failures))


def _clean(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
