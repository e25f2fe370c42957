"""Uploads in parts, files that expire, tuned models that were deleted.

Revision: 2026_11_22_uploads, after 2026_11_22_tenants.
"""

from alembic import op

revision = "2026_11_22_uploads"
down_revision = "2026_11_22_tenants"
branch_labels = None
depends_on = None

# New columns are nullable and new tables are read by nobody else: the release before goes on.
UPLOADS = """
ALTER TABLE files ADD COLUMN expires_at timestamptz;
CREATE INDEX ix_files_expiry ON files (expires_at)
    WHERE expires_at IS NOT NULL AND deleted_at IS NULL;

ALTER TABLE jobs ADD COLUMN model_deleted_at timestamptz;

CREATE TABLE uploads (
    id text CONSTRAINT pk_uploads PRIMARY KEY,
    project_id text NOT NULL
        CONSTRAINT fk_uploads_project_id_projects REFERENCES projects (id),
    status varchar(32) NOT NULL CONSTRAINT ck_uploads_status
        CHECK (status IN ('pending', 'completed', 'cancelled', 'expired')),
    filename text NOT NULL,
    purpose text NOT NULL,
    bytes bigint NOT NULL,
    file_lifetime_seconds bigint,
    file_id text CONSTRAINT fk_uploads_file_id_files REFERENCES files (id),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT ck_uploads_bytes CHECK (bytes > 0),
    CONSTRAINT ck_uploads_completed CHECK ((status = 'completed') = (file_id IS NOT NULL))
);
CREATE INDEX ix_uploads_pending ON uploads (expires_at) WHERE status = 'pending';

CREATE TABLE upload_parts (
    id text CONSTRAINT pk_upload_parts PRIMARY KEY,
    upload_id text NOT NULL
        CONSTRAINT fk_upload_parts_upload_id_uploads REFERENCES uploads (id),
    bytes bigint NOT NULL,
    storage_key text NOT NULL CONSTRAINT uq_upload_parts_storage_key UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ck_upload_parts_bytes CHECK (bytes >= 0)
);
CREATE INDEX ix_upload_parts_upload_id ON upload_parts (upload_id);
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(UPLOADS)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TABLE upload_parts, uploads")
    op.execute("ALTER TABLE jobs DROP COLUMN model_deleted_at")
    op.execute("DROP INDEX ix_files_expiry")
    op.execute("ALTER TABLE files DROP COLUMN expires_at")
