"""The tables of the first release.

Revision: 2026_11_21_tables, the first.
"""

from alembic import op

revision = "2026_11_21_tables"
down_revision = None
branch_labels = None
depends_on = None

TENANTS = """
CREATE TABLE projects (
    id text CONSTRAINT pk_projects PRIMARY KEY,
    name text NOT NULL CONSTRAINT uq_projects_name UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE api_keys (
    id text CONSTRAINT pk_api_keys PRIMARY KEY,
    project_id text NOT NULL CONSTRAINT fk_api_keys_project_id_projects REFERENCES projects (id),
    public_id text NOT NULL CONSTRAINT uq_api_keys_public_id UNIQUE,
    secret_sha256 text NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX ix_api_keys_project_id ON api_keys (project_id);
"""

FILES = """
CREATE TABLE files (
    id text CONSTRAINT pk_files PRIMARY KEY,
    project_id text NOT NULL CONSTRAINT fk_files_project_id_projects REFERENCES projects (id),
    job_id text,
    kind varchar(32) NOT NULL CONSTRAINT ck_files_kind
        CHECK (kind IN ('upload', 'metrics', 'report', 'adapter_archive')),
    filename text NOT NULL,
    purpose text NOT NULL,
    bytes bigint NOT NULL CONSTRAINT ck_files_bytes CHECK (bytes >= 0),
    sha256 text NOT NULL,
    storage_key text NOT NULL CONSTRAINT uq_files_storage_key UNIQUE,
    status varchar(32) NOT NULL CONSTRAINT ck_files_status
        CHECK (status IN ('uploaded', 'processed', 'error')),
    validation jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at timestamptz,
    CONSTRAINT uq_files_project_id_id UNIQUE (project_id, id),
    CONSTRAINT ck_files_origin CHECK (kind = 'upload' OR job_id IS NOT NULL),
    CONSTRAINT ck_files_storage_key CHECK (
        starts_with(storage_key, CASE kind WHEN 'upload' THEN 'uploads/' ELSE 'released/' END)
    )
);
CREATE INDEX ix_files_page ON files (project_id, created_at, id);
"""

JOBS = """
CREATE TABLE jobs (
    id text CONSTRAINT pk_jobs PRIMARY KEY,
    project_id text NOT NULL CONSTRAINT fk_jobs_project_id_projects REFERENCES projects (id),
    status varchar(32) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    model text NOT NULL,
    suffix text,
    training_file text NOT NULL,
    validation_file text,
    seed bigint NOT NULL,
    spec jsonb NOT NULL,
    metadata jsonb,
    idempotency_key text,
    request_sha256 text,

    priority bigint NOT NULL DEFAULT 0,
    attempt bigint NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    not_before timestamptz,
    lease_holder text,
    lease_expires_at timestamptz,
    heartbeat_at timestamptz,
    cancel_requested_at timestamptz,
    started_at timestamptz,
    progress jsonb,
    estimated_finish_at timestamptz,

    finished_at timestamptz,
    error jsonb,
    safety jsonb,
    trained_tokens bigint,
    archive_sha256 text,
    fine_tuned_model text CONSTRAINT uq_jobs_fine_tuned_model UNIQUE,
    result_file_ids jsonb NOT NULL DEFAULT '[]'::jsonb,

    CONSTRAINT uq_jobs_project_id_idempotency_key UNIQUE (project_id, idempotency_key),
    CONSTRAINT fk_jobs_project_id_training_file_files
        FOREIGN KEY (project_id, training_file) REFERENCES files (project_id, id),
    CONSTRAINT fk_jobs_project_id_validation_file_files
        FOREIGN KEY (project_id, validation_file) REFERENCES files (project_id, id),
    CONSTRAINT ck_jobs_status CHECK (status IN (
        'validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled'
    )),
    CONSTRAINT ck_jobs_finished CHECK (
        (status IN ('cancelled', 'failed', 'succeeded')) = (finished_at IS NOT NULL)
    ),
    CONSTRAINT ck_jobs_failed_says_why CHECK (status <> 'failed' OR error IS NOT NULL),
    CONSTRAINT ck_jobs_succeeded_has_model CHECK (
        status <> 'succeeded' OR (fine_tuned_model IS NOT NULL AND archive_sha256 IS NOT NULL)
    ),
    CONSTRAINT ck_jobs_lease CHECK ((status = 'running') = (lease_holder IS NOT NULL)),
    CONSTRAINT ck_jobs_counters CHECK (attempt >= 0 AND fence >= 0),
    CONSTRAINT ck_jobs_idempotency CHECK (idempotency_key IS NULL OR request_sha256 IS NOT NULL)
);
CREATE INDEX ix_jobs_page ON jobs (project_id, created_at, id);
CREATE INDEX ix_jobs_metadata ON jobs USING gin (metadata);
CREATE INDEX ix_jobs_claim ON jobs (priority DESC, created_at, id) WHERE status = 'queued';
CREATE INDEX ix_jobs_leases ON jobs (lease_expires_at) WHERE status = 'running';

ALTER TABLE files ADD CONSTRAINT fk_files_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id);
"""

COURSE_OF_A_JOB = """
CREATE TABLE job_events (
    id text CONSTRAINT pk_job_events PRIMARY KEY,
    sequence bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT uq_job_events_sequence UNIQUE,
    job_id text NOT NULL CONSTRAINT fk_job_events_job_id_jobs REFERENCES jobs (id),
    fence bigint,
    level varchar(32) NOT NULL CONSTRAINT ck_job_events_level
        CHECK (level IN ('info', 'warn', 'error')),
    type varchar(32) NOT NULL CONSTRAINT ck_job_events_type
        CHECK (type IN ('message', 'metrics', 'moderation_checks')),
    message text NOT NULL,
    data jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ix_job_events_page ON job_events (job_id, sequence);

CREATE TABLE artifacts (
    id text CONSTRAINT pk_artifacts PRIMARY KEY,
    job_id text NOT NULL CONSTRAINT fk_artifacts_job_id_jobs REFERENCES jobs (id),
    name text NOT NULL,
    fence bigint NOT NULL,
    storage_key text NOT NULL,
    sha256 text NOT NULL,
    bytes bigint NOT NULL CONSTRAINT ck_artifacts_bytes CHECK (bytes >= 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT uq_artifacts_job_id_name UNIQUE (job_id, name)
);

CREATE TABLE gate_decisions (
    id text CONSTRAINT pk_gate_decisions PRIMARY KEY,
    job_id text NOT NULL CONSTRAINT fk_gate_decisions_job_id_jobs REFERENCES jobs (id),
    archive_sha256 text NOT NULL,
    verdict varchar(32) NOT NULL CONSTRAINT ck_gate_decisions_verdict
        CHECK (verdict IN ('released', 'blocked')),
    policy jsonb NOT NULL,
    reasons jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT uq_gate_decisions_job_id_archive_sha256 UNIQUE (job_id, archive_sha256)
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_outbox PRIMARY KEY,
    task_name text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    attempts bigint NOT NULL DEFAULT 0
);
CREATE INDEX ix_outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for tables in (TENANTS, FILES, JOBS, COURSE_OF_A_JOB):
        op.execute(tables)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TABLE outbox, gate_decisions, artifacts, job_events, jobs, files")
    op.execute("DROP TABLE api_keys, projects")
