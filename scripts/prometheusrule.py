"""The alerts as a PrometheusRule, for clusters with the Prometheus operator: the same text, one level deeper."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).parents[1]
SOURCE = "deploy/prometheus/alerts.yml"
RULE = "deploy/kubernetes/monitoring/prometheusrule.yaml"
HEAD = f"""\
# Generated from {SOURCE} by scripts/prometheusrule.py.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: watchbill
  labels:
    app.kubernetes.io/name: watchbill
spec:
"""


def render() -> dict[str, str]:
    """Path from the top of the source tree -> the file's text."""
    rules = (ROOT / SOURCE).read_text(encoding="utf-8")
    return {RULE: HEAD + indent(rules[rules.index("groups:\n") :], "  ")}
