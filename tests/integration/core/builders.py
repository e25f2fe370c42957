"""Rows that tests start from, each valid and as small as the tables allow."""

import hashlib
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.database import Database
from core.ids import new_id
from core.job_state import JobStatus, Verdict
from core.models import File, Job, Project
from core.repositories.files import FileRepository
from core.repositories.gate_decisions import GateDecisionRepository
from core.repositories.job_leases import Claim, JobLeaseRepository, Outcome
from core.repositories.jobs import JobRepository, NewJob
from core.repositories.projects import ProjectRepository
from core.storage.protocol import StoredObject

ARCHIVE_SHA256 = hashlib.sha256(b"adapter").hexdigest()
LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class Tenant:
    """A project and a file of its own to train on."""

    project_id: str
    file_id: str


def add_project(session: Session, name: str = "acme") -> Project:
    return ProjectRepository(session).add(name)


def add_upload(session: Session, project_id: str, content: bytes = b"rows") -> File:
    file_id = new_id("file")
    stored = StoredObject(f"uploads/{file_id}", hashlib.sha256(content).hexdigest(), len(content))
    return FileRepository(session).add_upload(
        project_id, file_id=file_id, filename="rows.jsonl", purpose="fine-tune", stored=stored
    )


def add_tenant(database: Database, name: str = "acme") -> Tenant:
    with database.session() as session:
        project = add_project(session, name)
        return Tenant(project.id, add_upload(session, project.id).id)


def new_job(tenant: Tenant, **changes: object) -> NewJob:
    fields: dict[str, object] = {
        "model": "smollm2-135m-instruct",
        "training_file": tenant.file_id,
        "seed": 1,
        "spec": {"model": "smollm2-135m-instruct"},
        **changes,
    }
    return NewJob(**fields)  # type: ignore[arg-type]


def add_job(database: Database, tenant: Tenant, **changes: object) -> Job:
    with database.session() as session:
        return JobRepository(session).add(tenant.project_id, new_job(tenant, **changes))


def claim(database: Database, holder: str = "worker-1", seconds: float = LEASE_SECONDS) -> Claim:
    with database.session() as session:
        claimed = JobLeaseRepository(session).claim_next(holder, seconds)
    assert claimed is not None
    return claimed


def read_job(database: Database, job_id: str) -> Job:
    with database.session() as session:
        job = JobLeaseRepository(session).get_for_worker(job_id)
    assert job is not None
    return job


def decide(
    session: Session, held: Claim, verdict: Verdict = Verdict.RELEASED, sha256: str = ARCHIVE_SHA256
) -> None:
    GateDecisionRepository(session).record(
        held.job_id, held.fence, archive_sha256=sha256, verdict=verdict, policy={}, reasons=[]
    )


def succeed(session: Session, held: Claim, sha256: str = ARCHIVE_SHA256) -> Job:
    return JobLeaseRepository(session).finish(held.job_id, held.fence, success(held, sha256))


def success(held: Claim, sha256: str = ARCHIVE_SHA256) -> Outcome:
    return Outcome(
        JobStatus.SUCCEEDED, archive_sha256=sha256, fine_tuned_model=f"ft:base:acme::{held.job_id}"
    )


def failure(code: str = "internal_error") -> Outcome:
    error = {"code": code, "message": "It broke.", "param": None}
    return Outcome(JobStatus.FAILED, error=error)
