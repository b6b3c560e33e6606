"""What Prometheus scrapes.

``Metrics`` renders the board and the numbers of the other parts, handed in as ``Sources``.
"""

from watchbill.metrics.checks import CHECK_FAMILIES
from watchbill.metrics.own import OWN_FAMILIES
from watchbill.metrics.render import Metrics
from watchbill.metrics.sources import Sources

__all__ = ["CHECK_FAMILIES", "OWN_FAMILIES", "Metrics", "Sources"]
