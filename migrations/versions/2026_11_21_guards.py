"""Guards inside the database, which no forgotten check in the code can pass.

Revision: 2026_11_21_guards, after 2026_11_21_tables.
"""

from alembic import op

revision = "2026_11_21_guards"
down_revision = "2026_11_21_tables"
branch_labels = None
depends_on = None

# The legal moves are those of `core.job_state.LEGAL_MOVES` at this revision.
JOBS_GUARD = """
CREATE FUNCTION jobs_guard_state() RETURNS trigger LANGUAGE plpgsql AS $guard$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status NOT IN ('validating_files', 'queued') THEN
            RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_legal_move',
                MESSAGE = 'a job cannot begin as ' || NEW.status;
        END IF;
        RETURN NEW;
    END IF;

    IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('validating_files', 'queued'), ('validating_files', 'failed'),
        ('validating_files', 'cancelled'),
        ('queued', 'running'), ('queued', 'failed'), ('queued', 'cancelled'),
        ('running', 'queued'), ('running', 'succeeded'), ('running', 'failed'),
        ('running', 'cancelled')
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_legal_move',
            MESSAGE = 'a job cannot go from ' || OLD.status || ' to ' || NEW.status;
    END IF;

    IF OLD.status IN ('succeeded', 'failed', 'cancelled') AND (
        OLD.error, OLD.safety, OLD.archive_sha256, OLD.fine_tuned_model, OLD.result_file_ids,
        OLD.finished_at, OLD.fence, OLD.trained_tokens
    ) IS DISTINCT FROM (
        NEW.error, NEW.safety, NEW.archive_sha256, NEW.fine_tuned_model, NEW.result_file_ids,
        NEW.finished_at, NEW.fence, NEW.trained_tokens
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_terminal',
            MESSAGE = 'what came of a finished job cannot change';
    END IF;

    IF NEW.fence < OLD.fence
        OR (NEW.status = 'running' AND OLD.status <> 'running' AND NEW.fence = OLD.fence) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_fence',
            MESSAGE = 'the fence of a job grows with every claim and never shrinks';
    END IF;

    IF NEW.status = 'succeeded' AND OLD.status <> 'succeeded' AND NOT EXISTS (
        SELECT FROM gate_decisions
        WHERE job_id = NEW.id AND archive_sha256 = NEW.archive_sha256 AND verdict = 'released'
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_gate',
            MESSAGE = 'a job succeeds only with an archive that the gate has released';
    END IF;
    RETURN NEW;
END
$guard$;

CREATE TRIGGER jobs_guard_state BEFORE INSERT OR UPDATE ON jobs
    FOR EACH ROW EXECUTE FUNCTION jobs_guard_state();
"""

FILES_GUARD = """
CREATE FUNCTION files_guard_archive() RETURNS trigger LANGUAGE plpgsql AS $guard$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.project_id, OLD.job_id, OLD.kind, OLD.sha256, OLD.storage_key)
        IS DISTINCT FROM (NEW.project_id, NEW.job_id, NEW.kind, NEW.sha256, NEW.storage_key) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'files_identity',
            MESSAGE = 'a file keeps its owner, its kind and its bytes';
    END IF;
    IF NEW.kind = 'adapter_archive' AND NOT EXISTS (
        SELECT FROM gate_decisions JOIN jobs ON jobs.id = gate_decisions.job_id
        WHERE jobs.id = NEW.job_id AND jobs.project_id = NEW.project_id
            AND gate_decisions.archive_sha256 = NEW.sha256
            AND gate_decisions.verdict = 'released'
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'files_gate',
            MESSAGE = 'an adapter archive becomes a file only after the gate has released it';
    END IF;
    IF NEW.kind <> 'upload' AND EXISTS (
        SELECT FROM gate_decisions
        WHERE job_id = NEW.job_id AND archive_sha256 = NEW.sha256 AND verdict = 'blocked'
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'files_gate',
            MESSAGE = 'a blocked archive does not become a file under any other kind';
    END IF;
    RETURN NEW;
END
$guard$;

CREATE TRIGGER files_guard_archive BEFORE INSERT OR UPDATE ON files
    FOR EACH ROW EXECUTE FUNCTION files_guard_archive();
"""

GATE_GUARD = """
CREATE FUNCTION gate_decisions_guard() RETURNS trigger LANGUAGE plpgsql AS $guard$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'gate_decisions_final',
        MESSAGE = 'a gate decision is final';
END
$guard$;

CREATE TRIGGER gate_decisions_guard BEFORE UPDATE OR DELETE ON gate_decisions
    FOR EACH ROW EXECUTE FUNCTION gate_decisions_guard();
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for guard in (JOBS_GUARD, FILES_GUARD, GATE_GUARD):
        op.execute(guard)


def downgrade() -> None:
    """Undo this revision."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER gate_decisions_guard ON gate_decisions")
    op.execute("DROP TRIGGER files_guard_archive ON files")
    op.execute("DROP TRIGGER jobs_guard_state ON jobs")
    op.execute("DROP FUNCTION gate_decisions_guard, files_guard_archive, jobs_guard_state")
