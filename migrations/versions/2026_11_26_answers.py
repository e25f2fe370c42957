"""What models answered in an evaluation, as a file of its own.

Revision: 2026_11_26_answers, after 2026_11_25_stage_timings.
"""

from alembic import op

revision = "2026_11_26_answers"
down_revision = "2026_11_25_stage_timings"
branch_labels = None
depends_on = None

# The check allows more than before. A gateway of the release before cannot list such files, so
# gateways are replaced before workers.
ANSWERS = """
ALTER TABLE files DROP CONSTRAINT ck_files_kind;
ALTER TABLE files ADD CONSTRAINT ck_files_kind CHECK
    (kind IN ('upload', 'validation_report', 'metrics', 'report', 'answers', 'adapter_archive'));
"""
BEFORE = """
DELETE FROM files WHERE kind = 'answers';
ALTER TABLE files DROP CONSTRAINT ck_files_kind;
ALTER TABLE files ADD CONSTRAINT ck_files_kind CHECK
    (kind IN ('upload', 'validation_report', 'metrics', 'report', 'adapter_archive'));
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(ANSWERS)


def downgrade() -> None:
    """Undo this revision; the answers' bytes stay in storage, unnamed."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(BEFORE)
