-- For how long our own event loop stood still during a probe, whose duration is then not the target's.
ALTER TABLE result ADD COLUMN stalled_micros BIGINT;

CREATE OR REPLACE VIEW results AS
    SELECT
        n.check_id, v.service, v.type, r.location, r.slot, r.trigger, r.started_at,
        r.duration_micros / 1e6 AS duration_seconds, r.outcome, r.reason, r.message, r.status_code,
        r.resolve_micros / 1e6 AS resolve_seconds, r.connect_micros / 1e6 AS connect_seconds,
        r.tls_micros / 1e6 AS tls_seconds, r.processing_micros / 1e6 AS processing_seconds,
        r.transfer_micros / 1e6 AS transfer_seconds, v.labels, r.stalled_micros / 1e6 AS stalled_seconds
    FROM result r
    JOIN check_name n ON n.check_key = r.check_key
    JOIN check_revision v ON v.revision_key = r.revision_key;
