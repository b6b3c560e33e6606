"""How many Prometheus series one check of each type has by default, at most: what ``plan`` adds up.

A test counts the real exposition against these numbers, and them against the budget.
"""

from __future__ import annotations

from collections.abc import Mapping

SERIES: Mapping[str, int] = {"http": 40, "tcp": 27, "tls": 28, "dns": 30, "icmp": 30, "heartbeat": 14}
BUDGET: Mapping[str, int] = {"http": 48, "tcp": 30, "tls": 30, "dns": 30, "icmp": 30, "heartbeat": 30}
