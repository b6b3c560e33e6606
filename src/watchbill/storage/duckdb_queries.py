"""What is asked of the DuckDB file, as SQL. Instants go in and out as microseconds since the epoch."""

from __future__ import annotations

WRITER_STATE = "SELECT location, batch_sequence, epoch_us(accounted_until) FROM writer_state"
SEAL_KEY = "SELECT seal_key FROM store_state"

IDENTITIES = """
    SELECT check_key, check_id, epoch_us(valid_from), epoch_us(valid_to) FROM check_identity
    ORDER BY valid_from, check_key"""
REVISIONS = """
    SELECT revision_key, check_key, type, service, labels, digest, spec, epoch_us(valid_from), epoch_us(valid_to)
    FROM check_revision QUALIFY row_number() OVER (PARTITION BY check_key ORDER BY revision_key DESC) = 1"""
OPEN_SPANS = """
    SELECT check_key, location, interval_micros, offset_micros, epoch_us(opened_at), epoch_us(closed_at)
    FROM span WHERE closed_at IS NULL"""
HEARTBEATS = "SELECT check_key, epoch_us(received_at) FROM heartbeat"
MEMORY_BYTES = "SELECT coalesce(sum(memory_usage_bytes), 0)::BIGINT FROM duckdb_memory()"
LAST_FACTS_KEY = "SELECT coalesce(max(facts_key), 0) FROM facts"

# --- writing ------------------------------------------------------------------------------------------

CLOSE_IDENTITIES = """
    UPDATE check_identity SET valid_to = make_timestamptz(c.ended)
    FROM (SELECT unnest($1::INTEGER[]) AS key, unnest($2::BIGINT[]) AS ended) c
    WHERE check_key = c.key AND valid_to IS NULL"""
CLOSE_REVISIONS = """
    UPDATE check_revision SET valid_to = make_timestamptz(c.ended)
    FROM (SELECT unnest($1::INTEGER[]) AS key, unnest($2::BIGINT[]) AS ended) c
    WHERE revision_key = c.key AND valid_to IS NULL"""
CLOSE_SPANS = """
    UPDATE span SET closed_at = make_timestamptz(c.ended)
    FROM (
        SELECT unnest($1::INTEGER[]) AS key, unnest($2::VARCHAR[]) AS place, unnest($3::BIGINT[]) AS ended
    ) c WHERE check_key = c.key AND location = c.place AND closed_at IS NULL"""
UPDATE_HEARTBEATS = """
    UPDATE heartbeat SET received_at = make_timestamptz(c.received)
    FROM (SELECT unnest($1::INTEGER[]) AS key, unnest($2::BIGINT[]) AS received) c WHERE check_key = c.key"""
FORGET_GROUPS = """
    DELETE FROM discovered_group WHERE location = $1
        AND (discovery, source) IN (SELECT (unnest($2::VARCHAR[]), unnest($3::VARCHAR[])))"""
UPDATE_WRITER_STATE = """
    UPDATE writer_state SET batch_sequence = $2, accounted_until = greatest(accounted_until, make_timestamptz($3))
    WHERE location = $1"""
INSERT_WRITER_STATE = "INSERT INTO writer_state VALUES ($1, $2, make_timestamptz($3))"

GROUPS = "SELECT discovery, source, content FROM discovered_group WHERE location = $1"

# --- deleting by age ----------------------------------------------------------------------------------

OLDEST_SLOT = "SELECT epoch_us(min(slot)) FROM result"
PRUNE_RESULTS = "DELETE FROM result WHERE slot < make_timestamptz($1)"
KEEP_SINCE = "UPDATE store_state SET kept_since = greatest(kept_since, make_timestamptz($1))"
PRUNE_OLD = (
    "DELETE FROM gap WHERE ended_at <= make_timestamptz($1)",
    "DELETE FROM span WHERE closed_at < make_timestamptz($1)",
    # The newest flip of each check says what its status is, however long ago that was.
    """DELETE FROM flip WHERE flipped_at < make_timestamptz($1) AND (check_key, location, flipped_at) NOT IN (
        SELECT (check_key, location, max(flipped_at)) FROM flip GROUP BY check_key, location)""",
    # Rows share facts for a day at most after the slot that brought them, and come in a little later.
    "DELETE FROM facts WHERE first_slot < make_timestamptz($1) - INTERVAL 2 DAY",
)
FORGET_CHECKS = """
    DELETE FROM check_identity WHERE check_key IN (
        SELECT check_key FROM check_identity GROUP BY check_key
        HAVING count(*) = count(valid_to) AND max(valid_to) < make_timestamptz($1) - INTERVAL 2 DAY)"""
PRUNE_ORPHANS = (
    "DELETE FROM heartbeat WHERE check_key NOT IN (SELECT check_key FROM check_identity)",
    "DELETE FROM flip WHERE check_key NOT IN (SELECT check_key FROM check_identity)",
    """DELETE FROM check_revision WHERE check_key NOT IN (SELECT check_key FROM check_identity)
        OR valid_to < make_timestamptz($1) - INTERVAL 2 DAY AND revision_key NOT IN (
            SELECT max(revision_key) FROM check_revision GROUP BY check_key)""",
)

# --- reading ------------------------------------------------------------------------------------------

NAMES = """
    SELECT check_key, check_id, epoch_us(valid_from) FROM check_identity WHERE valid_to IS NULL"""
ACCOUNTED = "SELECT epoch_us(accounted_until) FROM writer_state WHERE location = $1"
SPANS_AT = """
    SELECT n.check_id, s.location, s.interval_micros, s.offset_micros, epoch_us(s.opened_at), epoch_us(s.closed_at)
    FROM span s JOIN check_name n USING (check_key) WHERE s.closed_at IS NULL AND s.location = $1"""
SPANS_OF = """
    SELECT n.check_id, s.location, s.interval_micros, s.offset_micros, epoch_us(s.opened_at), epoch_us(s.closed_at)
    FROM span s JOIN check_name n USING (check_key) WHERE n.check_id = $1 ORDER BY s.opened_at, s.location"""
STATUSES = """
    SELECT check_key, arg_max(status_after, flipped_at) FROM flip WHERE location = $1 GROUP BY check_key"""
NEWEST = """
    SELECT greatest(
        (SELECT coalesce(max(epoch_us(slot)), 0) FROM result WHERE location = $1 AND slot >= make_timestamptz($2)),
        (SELECT coalesce(max(greatest(epoch_us(opened_at), coalesce(epoch_us(closed_at), 0))), 0) FROM span
         WHERE location = $1))"""
ROWS_SINCE = """
    SELECT check_key, count(*) FROM result
    WHERE location = $1 AND slot >= make_timestamptz($2) AND trigger = 'schedule' GROUP BY check_key"""

_ROW = """
    n.check_id, r.location, epoch_us(r.slot), r.trigger, epoch_us(r.started_at), r.duration_micros,
    r.resolve_micros, r.connect_micros, r.tls_micros, r.processing_micros, r.transfer_micros,
    r.outcome, r.verdict, r.reason, r.status_code, r.message, r.failures"""
LATEST = f"""
    WITH newest AS (
        SELECT check_key, max(slot) AS slot FROM result
        WHERE location = $1 AND slot >= make_timestamptz($2) AND outcome IN ('success', 'failure', 'error')
        GROUP BY check_key
    )
    SELECT {_ROW}, f.facts, r.stalled_micros
    FROM result r
    JOIN newest w ON w.check_key = r.check_key AND w.slot = r.slot
    JOIN check_identity n ON n.check_key = r.check_key AND n.valid_to IS NULL
    LEFT JOIN facts f ON f.facts_key = r.facts_key
    WHERE r.location = $1 AND r.slot >= make_timestamptz($2) AND r.outcome IN ('success', 'failure', 'error')"""  # noqa: S608 - constants
RESULTS = f"""
    SELECT {_ROW}, NULL, r.stalled_micros
    FROM result r JOIN check_name n ON n.check_key = r.check_key
    WHERE r.check_key IN (SELECT check_key FROM check_name WHERE check_id = $1)
        AND r.slot >= make_timestamptz($2) AND r.slot < make_timestamptz($3)
    ORDER BY r.slot DESC LIMIT $4"""  # noqa: S608 - constants
ROWS_WITHIN = """
    SELECT count(*) FROM result
    WHERE slot >= make_timestamptz($1::BIGINT) AND slot < make_timestamptz($2::BIGINT)"""
# Of the checks whose names fall into part $3 of $4: quantiles hold every duration in memory.
COVERAGE = """
    WITH bound AS (
        SELECT location, greatest(lo, $1::BIGINT) AS lo, least(hi, $2::BIGINT) AS hi FROM accounted
    ), part AS MATERIALIZED (
        SELECT check_key FROM check_name WHERE hash(check_id) % $4::UBIGINT = $3::UBIGINT
    ), piece AS (
        SELECT s.check_key, s.location, s.interval_micros AS step_, s.offset_micros AS offset_,
            greatest(epoch_us(s.opened_at), b.lo - 1) AS after_,
            least(coalesce(epoch_us(s.closed_at), b.hi - 1), b.hi - 1) AS upto_
        FROM span s JOIN bound b USING (location) SEMI JOIN part USING (check_key)
    ), demanded AS (
        SELECT check_key, location, sum(slots_between(after_, upto_, step_, offset_)) AS expected
        FROM piece GROUP BY ALL
    ), holes AS (
        SELECT g.location, greatest(g.lo, b.lo) AS lo, least(g.hi, b.hi) AS hi
        FROM gap_merged g JOIN bound b USING (location) WHERE greatest(g.lo, b.lo) < least(g.hi, b.hi)
    ), uncovered AS (
        SELECT p.check_key, p.location,
            sum(slots_between(greatest(p.after_, h.lo - 1), least(p.upto_, h.hi - 1), p.step_, p.offset_)) AS missed
        FROM piece p JOIN holes h USING (location) GROUP BY ALL
    ), kept AS (
        SELECT r.check_key, r.location, r.slot, r.outcome,
            CASE WHEN r.stalled_micros IS NULL THEN r.duration_micros END AS duration_micros
        FROM result r JOIN bound b USING (location) SEMI JOIN part USING (check_key)
        WHERE r.trigger = 'schedule' AND r.slot >= make_timestamptz(b.lo) AND r.slot < make_timestamptz(b.hi)
            AND r.slot >= make_timestamptz($1::BIGINT) AND r.slot < make_timestamptz($2::BIGINT)
    ), run_in_gap AS (
        SELECT k.check_key, k.location, count(*) AS run
        FROM kept k JOIN holes h
            ON h.location = k.location AND k.slot >= make_timestamptz(h.lo) AND k.slot < make_timestamptz(h.hi)
        -- Row groups that no gap comes near are not even read.
        WHERE k.slot >= (SELECT make_timestamptz(min(lo)) FROM holes)
            AND k.slot < (SELECT make_timestamptz(max(hi)) FROM holes)
        GROUP BY ALL
    ), named AS (
        SELECT n.check_id, k.* EXCLUDE (check_key) FROM kept k JOIN check_name n USING (check_key)
    ), counted AS (
        SELECT check_id, location, count(*) AS total,
            count(*) FILTER (outcome = 'success') AS success, count(*) FILTER (outcome = 'failure') AS failure,
            count(*) FILTER (outcome = 'error') AS error, count(*) FILTER (outcome = 'skipped') AS skipped,
            count(*) FILTER (outcome = 'excused') AS excused,
            quantile_cont(duration_micros / 1e6, [0.5, 0.95, 0.99]) FILTER (outcome = 'success') AS latency
        FROM named GROUP BY ALL
    ), slots AS (
        SELECT n.check_id, location, max(check_key) AS newest_key, sum(coalesce(expected, 0)) AS expected,
            sum(coalesce(missed, 0)) - sum(coalesce(run, 0)) AS missed
        FROM demanded
        FULL JOIN run_in_gap USING (check_key, location)
        LEFT JOIN uncovered USING (check_key, location)
        JOIN check_name n USING (check_key)
        GROUP BY ALL
    ), newest AS (
        SELECT n.check_id, arg_max(p.service, n.check_key) AS service, arg_max(p.type, n.check_key) AS type
        FROM check_name n JOIN check_present p USING (check_key) GROUP BY n.check_id
    )
    SELECT check_id, location, w.service, w.type, coalesce(expected, 0)::BIGINT,
        coalesce(success, 0), coalesce(failure, 0), coalesce(error, 0), coalesce(skipped, 0), coalesce(excused, 0),
        coalesce(missed, 0)::BIGINT, (coalesce(expected, 0) - coalesce(total, 0) - coalesce(missed, 0))::BIGINT,
        latency[1], latency[2], latency[3]
    FROM slots FULL JOIN counted USING (check_id, location) JOIN newest w USING (check_id)
    WHERE coalesce(expected, 0) <> 0 OR coalesce(total, 0) <> 0
    ORDER BY check_id, location"""
