-- What was declared, expected and found. Times are TIMESTAMPTZ in UTC; lengths of time are whole microseconds.

CREATE TABLE store_state (
    seal_key BLOB NOT NULL,            -- the random key under which secrets are hashed in check_revision.spec
    kept_since TIMESTAMPTZ NOT NULL    -- slots before this instant were deleted by age and count no longer
);

CREATE TABLE writer_state (
    location VARCHAR NOT NULL,
    batch_sequence BIGINT NOT NULL,
    accounted_until TIMESTAMPTZ NOT NULL
);

CREATE TABLE check_identity (
    check_key INTEGER NOT NULL,
    check_id VARCHAR NOT NULL,
    valid_from TIMESTAMPTZ NOT NULL,
    valid_to TIMESTAMPTZ
);

CREATE TABLE check_revision (
    revision_key INTEGER NOT NULL,
    check_key INTEGER NOT NULL,
    type VARCHAR NOT NULL,
    service VARCHAR NOT NULL,
    labels VARCHAR NOT NULL,           -- a JSON object
    digest VARCHAR NOT NULL,
    spec VARCHAR NOT NULL,             -- JSON, every secret replaced by its HMAC-SHA256
    valid_from TIMESTAMPTZ NOT NULL,
    valid_to TIMESTAMPTZ
);

CREATE TABLE span (
    check_key INTEGER NOT NULL,
    location VARCHAR NOT NULL,
    interval_micros BIGINT NOT NULL,
    offset_micros BIGINT NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL,    -- slots in (opened_at, closed_at] were expected
    closed_at TIMESTAMPTZ
);

CREATE TABLE gap (
    location VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,   -- slots in [started_at, ended_at) that have no row were run by nobody
    ended_at TIMESTAMPTZ NOT NULL,
    reason VARCHAR NOT NULL
);

-- No primary key: it costs sixteen times the space, and the batch sequence already keeps rows from being doubled.
CREATE TABLE result (
    check_key INTEGER NOT NULL,
    revision_key INTEGER NOT NULL,
    location VARCHAR NOT NULL,
    slot TIMESTAMPTZ NOT NULL,
    trigger VARCHAR NOT NULL,
    started_at TIMESTAMPTZ,
    duration_micros BIGINT,
    resolve_micros BIGINT,
    connect_micros BIGINT,
    tls_micros BIGINT,
    processing_micros BIGINT,
    transfer_micros BIGINT,
    outcome VARCHAR NOT NULL,
    verdict VARCHAR,
    reason VARCHAR,
    status_code INTEGER,
    message VARCHAR NOT NULL,
    failures VARCHAR,                  -- JSON [[reason, message], ...] where there are several
    facts_key INTEGER
);

-- Facts rarely change from one probe to the next: rows of one check share them for up to a day.
CREATE TABLE facts (
    facts_key INTEGER NOT NULL,
    first_slot TIMESTAMPTZ NOT NULL,
    facts VARCHAR NOT NULL             -- a JSON object
);

CREATE TABLE flip (
    check_key INTEGER NOT NULL,
    location VARCHAR NOT NULL,
    flipped_at TIMESTAMPTZ NOT NULL,
    status_before VARCHAR NOT NULL,
    status_after VARCHAR NOT NULL
);

CREATE TABLE heartbeat (
    check_key INTEGER NOT NULL,
    received_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE config_revision (
    loaded_at TIMESTAMPTZ NOT NULL,
    digest VARCHAR NOT NULL,
    revision VARCHAR NOT NULL,
    cause VARCHAR NOT NULL
);

CREATE MACRO floor_div(a, b) AS (a - ((a % b) + b) % b) // b;

-- How many instants offset_ + k * step_ lie in (after_, upto_].
CREATE MACRO slots_between(after_, upto_, step_, offset_) AS
    CASE WHEN upto_ > after_ THEN floor_div(upto_ - offset_, step_) - floor_div(after_ - offset_, step_) ELSE 0 END;

-- The name that a check goes by now, or went by last.
CREATE VIEW check_name AS
    SELECT check_key, arg_max(check_id, valid_from) AS check_id FROM check_identity GROUP BY check_key;

CREATE VIEW check_present AS
    SELECT check_key, arg_max(service, revision_key) AS service, arg_max(type, revision_key) AS type
    FROM check_revision GROUP BY check_key;

CREATE VIEW results AS
    SELECT
        n.check_id, v.service, v.type, r.location, r.slot, r.trigger, r.started_at,
        r.duration_micros / 1e6 AS duration_seconds, r.outcome, r.reason, r.message, r.status_code,
        r.resolve_micros / 1e6 AS resolve_seconds, r.connect_micros / 1e6 AS connect_seconds,
        r.tls_micros / 1e6 AS tls_seconds, r.processing_micros / 1e6 AS processing_seconds,
        r.transfer_micros / 1e6 AS transfer_seconds, v.labels
    FROM result r
    JOIN check_name n ON n.check_key = r.check_key
    JOIN check_revision v ON v.revision_key = r.revision_key;

-- Gaps may overlap: a slot that lies in two of them was missed once.
CREATE VIEW gap_merged AS
    WITH marked AS (
        SELECT location, epoch_us(started_at) AS lo, epoch_us(ended_at) AS hi,
            coalesce(epoch_us(started_at) > max(epoch_us(ended_at)) OVER (
                PARTITION BY location ORDER BY started_at, ended_at
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), true) AS opens
        FROM gap
    ), numbered AS (
        SELECT location, lo, hi,
            sum(opens::INTEGER) OVER (PARTITION BY location ORDER BY lo, hi ROWS UNBOUNDED PRECEDING) AS island
        FROM marked
    )
    SELECT location, min(lo) AS lo, max(hi) AS hi FROM numbered GROUP BY location, island;

-- What is accounted for: the slots in [lo, hi) of each location.
CREATE VIEW accounted AS
    SELECT w.location, epoch_us(s.kept_since) AS lo, epoch_us(w.accounted_until) AS hi
    FROM writer_state w, store_state s;

CREATE VIEW coverage AS
    WITH piece AS (
        SELECT s.check_key, s.location, s.interval_micros AS step_, s.offset_micros AS offset_,
            greatest(epoch_us(s.opened_at), a.lo - 1) AS after_,
            least(coalesce(epoch_us(s.closed_at), a.hi - 1), a.hi - 1) AS upto_
        FROM span s JOIN accounted a USING (location)
    ), daily AS (
        SELECT check_key, location, step_, offset_, day,
            greatest(after_, day * 86400000000 - 1) AS after_,
            least(upto_, (day + 1) * 86400000000 - 1) AS upto_
        FROM piece, unnest(range(floor_div(after_, 86400000000), floor_div(upto_, 86400000000) + 1)) AS days(day)
        WHERE upto_ > after_
    ), gap_daily AS (
        SELECT location, day,
            greatest(lo, day * 86400000000) AS lo, least(hi, (day + 1) * 86400000000) AS hi
        FROM gap_merged, unnest(range(floor_div(lo, 86400000000), floor_div(hi - 1, 86400000000) + 1)) AS days(day)
    ), demanded AS (
        SELECT check_key, location, day, sum(slots_between(after_, upto_, step_, offset_)) AS expected
        FROM daily GROUP BY ALL
    ), uncovered AS (
        SELECT d.check_key, d.location, d.day,
            sum(slots_between(greatest(d.after_, g.lo - 1), least(d.upto_, g.hi - 1), d.step_, d.offset_)) AS missed
        FROM daily d JOIN gap_daily g ON g.location = d.location AND g.day = d.day GROUP BY ALL
    ), kept AS (
        SELECT r.check_key, r.location, r.slot, r.outcome, floor_div(epoch_us(r.slot), 86400000000) AS day
        FROM result r JOIN accounted a USING (location)
        WHERE r.trigger = 'schedule' AND epoch_us(r.slot) >= a.lo AND epoch_us(r.slot) < a.hi
    ), counted AS (
        SELECT check_key, location, day, count(*) AS total,
            count(*) FILTER (outcome = 'success') AS success, count(*) FILTER (outcome = 'failure') AS failure,
            count(*) FILTER (outcome = 'error') AS error, count(*) FILTER (outcome = 'skipped') AS skipped,
            count(*) FILTER (outcome = 'excused') AS excused
        FROM kept GROUP BY ALL
    ), run_in_gap AS (
        SELECT k.check_key, k.location, k.day, count(*) AS run
        FROM kept k JOIN gap_daily g
            ON g.location = k.location AND g.day = k.day AND epoch_us(k.slot) >= g.lo AND epoch_us(k.slot) < g.hi
        GROUP BY ALL
    ), summed AS (
        SELECT n.check_id, location, day,
            sum(coalesce(expected, 0)) AS expected, sum(coalesce(total, 0)) AS total,
            sum(coalesce(success, 0)) AS success, sum(coalesce(failure, 0)) AS failure,
            sum(coalesce(error, 0)) AS error, sum(coalesce(skipped, 0)) AS skipped,
            sum(coalesce(excused, 0)) AS excused, sum(coalesce(missed, 0) - coalesce(run, 0)) AS missed
        FROM demanded
        FULL JOIN counted USING (check_key, location, day)
        LEFT JOIN uncovered USING (check_key, location, day)
        LEFT JOIN run_in_gap USING (check_key, location, day)
        JOIN check_name n USING (check_key)
        GROUP BY ALL
    )
    SELECT check_id, location, DATE '1970-01-01' + day::INTEGER AS day, expected::BIGINT AS expected,
        success::BIGINT AS success, failure::BIGINT AS failure, error::BIGINT AS error, skipped::BIGINT AS skipped,
        excused::BIGINT AS excused, missed::BIGINT AS missed, (expected - total - missed)::BIGINT AS unaccounted
    FROM summed WHERE expected <> 0 OR total <> 0;
