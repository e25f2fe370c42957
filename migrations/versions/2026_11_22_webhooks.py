"""Webhook endpoints, and deliveries written by the statement that ends a job.

Revision: 2026_11_22_webhooks, after 2026_11_22_uploads.
"""

from alembic import op

revision = "2026_11_22_webhooks"
down_revision = "2026_11_22_uploads"
branch_labels = None
depends_on = None

ENDPOINTS = """
CREATE TABLE webhook_endpoints (
    id text CONSTRAINT pk_webhook_endpoints PRIMARY KEY,
    project_id text NOT NULL
        CONSTRAINT fk_webhook_endpoints_project_id_projects REFERENCES projects (id),
    name text NOT NULL,
    url text NOT NULL,
    secret text NOT NULL,
    previous_secret text,
    previous_secret_until timestamptz,
    event_types jsonb NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ix_webhook_endpoints_page ON webhook_endpoints (project_id, created_at, id);
"""

DELIVERIES = """
CREATE TABLE webhook_deliveries (
    id text CONSTRAINT pk_webhook_deliveries PRIMARY KEY,
    endpoint_id text NOT NULL
        CONSTRAINT fk_webhook_deliveries_endpoint_id_webhook_endpoints
        REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    event_id text NOT NULL,
    event_type varchar(32) NOT NULL CONSTRAINT ck_webhook_deliveries_event_type
        CHECK (event_type IN ('fine_tuning.job.succeeded', 'fine_tuning.job.failed',
            'fine_tuning.job.cancelled')),
    event_created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    job_id text CONSTRAINT fk_webhook_deliveries_job_id_jobs REFERENCES jobs (id),
    status varchar(32) NOT NULL DEFAULT 'pending' CONSTRAINT ck_webhook_deliveries_status
        CHECK (status IN ('pending', 'delivered', 'failed')),
    attempt bigint NOT NULL DEFAULT 0,
    status_code bigint,
    error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_attempt_at timestamptz,
    next_attempt_at timestamptz DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CONSTRAINT ck_webhook_deliveries_pending
        CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT ck_webhook_deliveries_finished
        CHECK ((status = 'pending') = (finished_at IS NULL))
);
CREATE INDEX ix_webhook_deliveries_page ON webhook_deliveries (endpoint_id, created_at, id);
CREATE INDEX ix_webhook_deliveries_job_id ON webhook_deliveries (job_id);
CREATE INDEX ix_webhook_deliveries_due ON webhook_deliveries (next_attempt_at)
    WHERE status = 'pending';
"""

# An endpoint that is being deleted is passed over: it neither fails the job's end nor holds it up.
ANNOUNCEMENT = """
CREATE FUNCTION jobs_announce_end() RETURNS trigger LANGUAGE plpgsql AS $announce$
DECLARE
    event text := 'evt_' || replace(gen_random_uuid()::text, '-', '');
    kind text := 'fine_tuning.job.' || NEW.status;
BEGIN
    INSERT INTO webhook_deliveries (
        id, endpoint_id, event_id, event_type, event_created_at, job_id
    )
    SELECT 'whd_' || replace(gen_random_uuid()::text, '-', ''), endpoint.id, event, kind,
        NEW.finished_at, NEW.id
    FROM webhook_endpoints AS endpoint
    WHERE endpoint.project_id = NEW.project_id AND endpoint.enabled
        AND endpoint.event_types ? kind
    FOR KEY SHARE SKIP LOCKED;
    RETURN NULL;
END
$announce$;

CREATE TRIGGER jobs_announce_end AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (NEW.status IN ('succeeded', 'failed', 'cancelled') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION jobs_announce_end();
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for part in (ENDPOINTS, DELIVERIES, ANNOUNCEMENT):
        op.execute(part)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER jobs_announce_end ON jobs")
    op.execute("DROP FUNCTION jobs_announce_end")
    op.execute("DROP TABLE webhook_deliveries, webhook_endpoints")
