"""Who a check is over time: its names, its revisions and the spans in which its slots were expected.

Pure bookkeeping that every store shares. It takes events in and changes its records; a record that is not
``stored`` yet is new, one that is and was closed stands in ``closed``. The store writes both and calls
:meth:`Ledger.written`. After a failed write the ledger is thrown away and loaded again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from watchbill.domain.checks import Check
from watchbill.domain.messages import CheckDeleted, CheckRegistered
from watchbill.domain.schedule import Span, offset_of
from watchbill.domain.specs import sealed_spec, spec_digest
from watchbill.domain.units import Instant, Micros


@dataclass(slots=True)
class Identity:
    """The name of a check over [valid_from, valid_to)."""

    key: int
    check_id: str
    valid_from: Instant
    valid_to: Instant | None = None
    stored: bool = False


@dataclass(slots=True)
class Revision:
    """How a check was declared over [valid_from, valid_to). ``labels`` and ``spec`` are JSON, secrets sealed."""

    revision_key: int
    key: int
    type: str
    service: str
    labels: str
    digest: str
    spec: str
    valid_from: Instant
    valid_to: Instant | None = None
    stored: bool = False


@dataclass(slots=True)
class SpanRecord:
    """Slots in (opened_at, closed_at] were expected at one location."""

    key: int
    location: str
    interval: Micros
    offset: Micros
    opened_at: Instant
    closed_at: Instant | None = None
    stored: bool = False

    def named(self, check_id: str) -> Span:
        return Span(check_id, self.location, self.interval, self.offset, self.opened_at, self.closed_at)


@dataclass(slots=True)
class Changes:
    """What the next write has to say."""

    identities: list[Identity] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    spans: list[SpanRecord] = field(default_factory=list)
    closed_identities: list[Identity] = field(default_factory=list)
    closed_revisions: list[Revision] = field(default_factory=list)
    closed_spans: list[SpanRecord] = field(default_factory=list)


class Ledger:
    """The identities, revisions and open spans of one store."""

    def __init__(
        self,
        *,
        seal_key: bytes,
        identities: Iterable[Identity] = (),
        revisions: Iterable[Revision] = (),
        open_spans: Iterable[SpanRecord] = (),
    ) -> None:
        self._seal_key = seal_key
        self._by_key: dict[int, list[Identity]] = {}
        self._by_id: dict[str, list[Identity]] = {}
        self._revisions: dict[int, list[Revision]] = {}
        self._open: dict[int, dict[str, SpanRecord]] = {}
        self.changes = Changes()
        for identity in identities:
            self._index(identity)
        for revision in revisions:
            self._revisions.setdefault(revision.key, []).append(revision)
        for span in open_spans:
            self._open.setdefault(span.key, {})[span.location] = span
        self._next_key = max(self._by_key, default=0) + 1
        newest = (revisions[-1].revision_key for revisions in self._revisions.values())
        self._next_revision = max(newest, default=0) + 1

    # --- questions ----------------------------------------------------------------------------------

    def name_of(self, key: int) -> str:
        """What the check is called now, or was called last."""
        return self._by_key[key][-1].check_id

    def keys_named(self, check_id: str) -> list[int]:
        """The checks that go by this name now, or went by it last; the one that took it last stands last."""
        holders = sorted(self._by_id.get(check_id, ()), key=lambda identity: identity.valid_from)
        keys = dict.fromkeys(identity.key for identity in reversed(holders))
        return [key for key in reversed(keys) if self.name_of(key) == check_id]

    def current(self) -> Iterable[Identity]:
        """The identity of every check that is declared now."""
        return (names[-1] for names in self._by_key.values() if names[-1].valid_to is None)

    def open_spans(self, location: str) -> Iterable[SpanRecord]:
        return (spans[location] for spans in self._open.values() if location in spans)

    def revision_of(self, key: int) -> Revision:
        return self._revisions[key][-1]

    def locate(self, check_id: str, instant: Instant) -> tuple[int, int]:
        """(check key, revision key) of what went by this name at that instant.

        A result comes after its slot, so its check may have been renamed, changed or deleted since. A check
        that nobody registered is entered as it is met.
        """
        holders = self._by_id.get(check_id)
        if not holders:
            holders = [self._name(self._new_key(), check_id, instant)]
        holder = holders[-1]
        if holder.valid_from > instant:
            holder = next((one for one in reversed(holders) if one.valid_from <= instant), holders[0])
        revisions = self._revisions.get(holder.key)
        if not revisions:
            revisions = [self._revise(Revision(0, holder.key, "", "", "{}", "", "{}", holder.valid_from))]
        revision = revisions[-1]
        if revision.valid_from > instant:
            revision = next((one for one in reversed(revisions) if one.valid_from <= instant), revisions[0])
        return holder.key, revision.revision_key

    # --- what happened ------------------------------------------------------------------------------

    def register(self, event: CheckRegistered) -> None:
        key = self._key_for(event)
        self._declare(key, event.check, event.at)
        self._expect(key, event)

    def delete(self, event: CheckDeleted) -> None:
        for key in self.keys_named(event.check.id):
            self._retire(key, event.at)

    def retire_others(self, declared: Iterable[str], at: Instant) -> None:
        """Close every check whose name is not declared any more (it went while no process was there to see)."""
        names = set(declared)
        for identity in list(self.current()):
            if identity.check_id not in names:
                self._retire(identity.key, at)

    def written(self) -> None:
        """Everything in ``changes`` is in the store."""
        done = self.changes
        records: list[Identity | Revision | SpanRecord] = [*done.identities, *done.revisions, *done.spans]
        for record in records:
            record.stored = True
        self.changes = Changes()

    # --- inside -------------------------------------------------------------------------------------

    def _key_for(self, event: CheckRegistered) -> int:
        check_id = event.check.id
        held = self.keys_named(check_id)
        if held and self._by_key[held[-1]][-1].valid_to is None:
            return held[-1]  # `moved:` may stay in the file for years; it was followed when the name was new
        moved = [] if event.moved_from is None else self.keys_named(event.moved_from)
        key = (moved or held or [self._new_key()])[-1]
        if moved:
            self._close_name(key, event.at)
        self._name(key, check_id, event.at)
        return key

    def _declare(self, key: int, check: Check, at: Instant) -> None:
        spec = sealed_spec(check, self._seal)
        digest = spec_digest(spec)
        known = self._revisions.get(key)
        if known and known[-1].digest == digest and known[-1].valid_to is None:
            return
        self._close_revision(key, at)
        text = json.dumps(spec, sort_keys=True, separators=(",", ":"), default=str)
        labels = json.dumps(dict(check.labels), sort_keys=True, separators=(",", ":"))
        self._revise(Revision(0, key, check.type, check.service or "", labels, digest, text, at))

    def _expect(self, key: int, event: CheckRegistered) -> None:
        check, location = event.check, event.location
        interval = check.interval_micros
        offset = offset_of(check.id, interval)
        span = self._open.get(key, {}).get(location)
        if span is not None:
            if check.enabled and (span.interval, span.offset) == (interval, offset):
                return
            self._close_span(span, event.at)
        if check.enabled:
            opened = SpanRecord(key, location, interval, offset, event.at)
            self._open.setdefault(key, {})[location] = opened
            self.changes.spans.append(opened)

    def _retire(self, key: int, at: Instant) -> None:
        self._close_name(key, at)
        self._close_revision(key, at)
        for span in list(self._open.get(key, {}).values()):
            self._close_span(span, at)

    def _new_key(self) -> int:
        self._next_key += 1
        return self._next_key - 1

    def _name(self, key: int, check_id: str, at: Instant) -> Identity:
        identity = Identity(key, check_id, at)
        self._index(identity)
        self.changes.identities.append(identity)
        return identity

    def _index(self, identity: Identity) -> None:
        self._by_key.setdefault(identity.key, []).append(identity)
        self._by_id.setdefault(identity.check_id, []).append(identity)

    def _revise(self, revision: Revision) -> Revision:
        revision.revision_key = self._next_revision
        self._next_revision += 1
        self._revisions.setdefault(revision.key, []).append(revision)
        self.changes.revisions.append(revision)
        return revision

    def _close_name(self, key: int, at: Instant) -> None:
        identity = self._by_key[key][-1]
        if identity.valid_to is None:
            identity.valid_to = at
            if identity.stored:
                self.changes.closed_identities.append(identity)

    def _close_revision(self, key: int, at: Instant) -> None:
        known = self._revisions.get(key)
        if known and known[-1].valid_to is None:
            known[-1].valid_to = at
            if known[-1].stored:
                self.changes.closed_revisions.append(known[-1])

    def _close_span(self, span: SpanRecord, at: Instant) -> None:
        span.closed_at = at
        del self._open[span.key][span.location]
        if span.stored:
            self.changes.closed_spans.append(span)

    def _seal(self, plaintext: str) -> str:
        return "hmac-sha256:" + hmac.new(self._seal_key, plaintext.encode(), hashlib.sha256).hexdigest()
