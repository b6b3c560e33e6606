"""Every way in which targets misbehave, in one table, and what must be said of each."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable

from tests.misbehaviour.answers import ANSWERS
from tests.misbehaviour.conversations import CONVERSATIONS
from tests.misbehaviour.documents import DOCUMENTS
from tests.misbehaviour.frames import FRAMES
from tests.misbehaviour.identities import IDENTITIES
from tests.misbehaviour.names import NAMES
from tests.misbehaviour.rows import Misbehaviour
from tests.probes.support import open_prober
from watchbill.domain.checks import parse_check

TABLE: tuple[Misbehaviour, ...] = (*CONVERSATIONS, *ANSWERS, *DOCUMENTS, *FRAMES, *IDENTITIES, *NAMES)


async def time_past_the_timeout(
    table: Iterable[Misbehaviour] = TABLE,
) -> AsyncIterator[tuple[str, str, float]]:
    """Meet each of them once: its name, the reason that was given, and the seconds past the timeout (or before it)."""
    async with open_prober() as probe:
        for row in table:
            async with row.open() as declared:
                check = parse_check({"id": "probed", "type": row.check_type, **declared})
                begun = time.perf_counter()
                result = await probe(row.check_type, **declared)
                took = time.perf_counter() - begun
            yield row.name, result.reason.value if result.reason else "", took - check.timeout.total_seconds()
