"""What gateway tests start from: callers, files and jobs in every state."""

import json
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from core.database import Database
from core.job_state import JobStatus, Verdict
from core.models import DEFAULT_SCOPES, FileKind, Scope
from core.provision import create_key
from core.repositories.checkpoints import CheckpointRepository
from core.repositories.files import FileRepository
from core.repositories.gate_decisions import GateDecisionRepository
from core.repositories.job_leases import Claim, JobLeaseRepository, Outcome
from core.settings import Settings
from core.storage.local import LocalStorage
from core.storage.protocol import WORKER_PREFIXES, StoredObject, released_key, staging_key

MODEL = "smollm2-135m-instruct"
ANSWERS = b'{"id": "safety-001", "model": "guarded"}\n'
ARCHIVE = b"CANARY-TENSOR-" * 40


def row(answer: str = "Hello") -> bytes:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}).encode() + b"\n"


GOOD_ROWS = row() * 10
BAD_ROWS = row() * 2 + b'{"messages": [{"role": "robot", "content": "Hi"}]}\n'


class Answer(Protocol):
    """What tests read of a response, whichever client brought it."""

    status_code: int

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def text(self) -> str: ...
    def json(self) -> Any: ...  # noqa: ANN401 - any JSON


@dataclass
class Gateway:
    """A gateway on the module's database, and the worker's view of its storage.

    Tests of one module share their tables, for emptying them takes longer than most tests; so
    each test has projects of its own, and counts what it added.
    """

    app: FastAPI
    settings: Settings
    database: Database
    storage: LocalStorage
    clients: ExitStack

    def __post_init__(self) -> None:
        """Remember what was there before this test."""
        self._mark = uuid.uuid4().hex[:12]
        self._before = {table: self._count(table) for table in ("files", "jobs", "outbox")}

    def project(self, name: str) -> str:
        """The name of a project that only this test has."""
        return f"{name}-{self._mark}"

    def caller(self, project_name: str, scopes: Collection[Scope] = DEFAULT_SCOPES) -> TestClient:
        """Make a key of a project, and a client that sends it."""
        with self.database.session() as session:
            key = create_key(session, project_name=self.project(project_name), scopes=scopes)
        client = TestClient(self.app, headers={"Authorization": f"Bearer {key.text}"})
        return self.clients.enter_context(client)

    def anonymous(self) -> TestClient:
        return self.clients.enter_context(TestClient(self.app))

    def count(self, table: str) -> int:
        """How many rows this test has added."""
        return self._count(table) - self._before[table]

    def _count(self, table: str) -> int:
        with self.database.session() as session:
            statement = text(f"SELECT count(*) FROM {table}")  # noqa: S608 - a test's own word
            return int(session.execute(statement).scalar_one())

    def stored_files(self) -> list[Path]:
        """Everything under the storage root, half-written objects included."""
        return [path for path in self.settings.storage_path.rglob("*") if path.is_file()]


def upload(client: TestClient, content: bytes = GOOD_ROWS, purpose: str = "fine-tune") -> Answer:
    return client.post(
        "/v1/files", data={"purpose": purpose}, files={"file": ("train.jsonl", content)}
    )


def upload_id(client: TestClient, content: bytes = GOOD_ROWS, purpose: str = "fine-tune") -> str:
    response = upload(client, content, purpose)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def job_body(training_file: str, **more: object) -> dict[str, Any]:
    return {"model": MODEL, "training_file": training_file, **more}


def create_job(client: TestClient, **more: object) -> dict[str, Any]:
    training_file = upload_id(client)
    response = client.post("/v1/fine_tuning/jobs", json=job_body(training_file, **more))
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def claim(gateway: Gateway) -> Claim:
    with gateway.database.session() as session:
        held = JobLeaseRepository(session).claim_next("worker-1", 60.0)
    assert held is not None
    return held


def stage_archive(gateway: Gateway, held: Claim, archive: bytes = ARCHIVE) -> StoredObject:
    """Do what `package` does: put the archive where only workers read."""
    return gateway.storage.put_bytes(staging_key(held.job_id, held.fence, "adapter.tar"), archive)


def judge_checkpoint(
    gateway: Gateway, held: Claim, step: int, verdict: Verdict = Verdict.RELEASED
) -> StoredObject:
    """Do what `gate` and `release_checkpoint` do, on a snapshot's archive; give it as staged."""
    content = checkpoint_archive(step)
    name = f"step-{step}.adapter.tar"
    staged = gateway.storage.put_bytes(staging_key(held.job_id, held.fence, name), content)
    with gateway.database.session() as session:
        GateDecisionRepository(session).record(
            held.job_id,
            held.fence,
            archive_sha256=staged.sha256,
            verdict=verdict,
            policy={},
            reasons=[],
        )
        if verdict is Verdict.RELEASED:
            key = released_key(held.job_id, held.fence, name)
            archive = FileRepository(session).add_result(
                held.project_id,
                job_id=held.job_id,
                kind=FileKind.ADAPTER_ARCHIVE,
                filename=name,
                stored=gateway.storage.put_bytes(key, content),
            )
            CheckpointRepository(session).add(
                held.job_id,
                model=f"ft:{MODEL}:acme::{held.job_id[-8:]}:ckpt-step-{step}",
                step_number=step,
                metrics={"step": step, "train_loss": 1 / step, "full_valid_loss": 2 / step},
                file_id=archive.id,
            )
    return staged


def checkpoint_archive(step: int) -> bytes:
    return b"CANARY-CHECKPOINT-%d-" % step * 40


def finish(
    gateway: Gateway,
    held: Claim,
    verdict: Verdict,
    archive: bytes = ARCHIVE,
    *,
    steps: int = 100,
    report: Mapping[str, object] | None = None,
) -> None:
    """Do what `gate` and `release` do, on the staged archive."""
    written = json.dumps({"verdict": verdict.value, **(report or {})}).encode()
    staged = stage_archive(gateway, held, archive)
    with gateway.database.session() as session:
        GateDecisionRepository(session).record(
            held.job_id,
            held.fence,
            archive_sha256=staged.sha256,
            verdict=verdict,
            policy={},
            reasons=["too many harmful answers"],
        )
        names = [(FileKind.METRICS, "metrics.csv", b"step,train_loss\n")]
        if verdict is Verdict.RELEASED:
            names.append((FileKind.ADAPTER_ARCHIVE, "adapter.tar", archive))
        names.append((FileKind.REPORT, "report.json", written))
        file_ids = [
            FileRepository(session)
            .add_result(
                held.project_id,
                job_id=held.job_id,
                kind=kind,
                filename=name,
                stored=gateway.storage.put_bytes(
                    released_key(held.job_id, held.fence, name), content
                ),
            )
            .id
            for kind, name, content in names
        ]
        FileRepository(session).add_result(
            held.project_id,
            job_id=held.job_id,
            kind=FileKind.ANSWERS,
            filename="answers.jsonl",
            stored=gateway.storage.put_bytes(
                released_key(held.job_id, held.fence, "answers.jsonl"), ANSWERS
            ),
        )
        outcome = _outcome(held, verdict, staged.sha256, file_ids)
        if outcome.fine_tuned_model is not None:
            CheckpointRepository(session).add(
                held.job_id,
                model=outcome.fine_tuned_model,
                step_number=steps,
                metrics={"step": steps},
                file_id=file_ids[1],
            )
        JobLeaseRepository(session).finish(held.job_id, held.fence, outcome)


def _outcome(held: Claim, verdict: Verdict, sha256: str, file_ids: list[str]) -> Outcome:
    if verdict is Verdict.RELEASED:
        return Outcome(
            JobStatus.SUCCEEDED,
            safety={"verdict": "released"},
            trained_tokens=1234,
            archive_sha256=sha256,
            fine_tuned_model=f"ft:{MODEL}:acme::{held.job_id[-8:]}",
            result_file_ids=file_ids,
        )
    return Outcome(
        JobStatus.FAILED,
        error={"code": "model_policy_violation", "message": "Blocked.", "param": None},
        safety={"verdict": "blocked", "reasons": ["too many harmful answers"]},
        result_file_ids=file_ids,
    )


def worker_storage(settings: Settings) -> LocalStorage:
    return LocalStorage(settings.storage_path, WORKER_PREFIXES)


def in_pieces(content: bytes, size: int = 65_536) -> Iterator[bytes]:
    """A body without a declared length."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def error_of(response: Answer) -> dict[str, Any]:
    """The error of an answer, once its envelope is right."""
    body = response.json()
    assert set(body) == {"error"}, body
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert isinstance(error["code"], str)
    assert response.headers["x-request-id"].startswith("req_")
    return error


def wait_for_a_lock(gateway: Gateway, answered: Callable[[], bool]) -> None:
    """Wait until a request waits for what another transaction holds, or is answered."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not answered():
        with gateway.database.session() as session:
            if session.execute(waiting).scalar_one():
                return
        time.sleep(0.01)
