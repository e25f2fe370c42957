"""Scopes of keys, limits of projects, and the buckets that requests are drawn from.

Revision: 2026_11_22_tenants, after 2026_11_21_guards.
"""

from alembic import op

revision = "2026_11_22_tenants"
down_revision = "2026_11_21_guards"
branch_labels = None
depends_on = None

# A constant default is added without rewriting the table; the previous release's inserts get it.
SCOPES = """
ALTER TABLE api_keys ADD COLUMN scopes jsonb NOT NULL DEFAULT '["read", "train"]'::jsonb
    CONSTRAINT ck_api_keys_scopes CHECK (
        jsonb_typeof(scopes) = 'array' AND scopes <@ '["read", "train", "admin"]'::jsonb
    );
"""

LIMITS = """
ALTER TABLE projects
    ADD COLUMN running_jobs_limit bigint
        CONSTRAINT ck_projects_running_jobs_limit CHECK (running_jobs_limit >= 0),
    ADD COLUMN queued_jobs_limit bigint
        CONSTRAINT ck_projects_queued_jobs_limit CHECK (queued_jobs_limit >= 0),
    ADD COLUMN stored_bytes_limit bigint
        CONSTRAINT ck_projects_stored_bytes_limit CHECK (stored_bytes_limit >= 0),
    ADD COLUMN file_rows_limit bigint
        CONSTRAINT ck_projects_file_rows_limit CHECK (file_rows_limit >= 0);
"""

# Unlogged: a request then writes no log and waits for no disk; a crash merely fills the buckets.
BUCKETS = """
CREATE UNLOGGED TABLE request_buckets (
    key_id text CONSTRAINT pk_request_buckets PRIMARY KEY,
    full_at timestamptz NOT NULL
) WITH (fillfactor = 50);
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for change in (SCOPES, LIMITS, BUCKETS):
        op.execute(change)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TABLE request_buckets")
    op.execute(
        "ALTER TABLE projects DROP COLUMN running_jobs_limit, DROP COLUMN queued_jobs_limit,"
        " DROP COLUMN stored_bytes_limit, DROP COLUMN file_rows_limit"
    )
    op.execute("ALTER TABLE api_keys DROP COLUMN scopes")
