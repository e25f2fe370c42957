"""The whole contract, kept in memory as briefly as it can be.

It trains nothing: a job moves one status on each time it is looked at.
"""

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MODEL = "base"
START = 1_767_225_600
CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit"),
    *("illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent"),
    *("sexual", "sexual/minors", "violence", "violence/graphic"),
)
NEXT = {"queued": "running", "running": "succeeded"}
LONG_EPOCHS = 50
TABLE = b"""step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy
1,1.0,0.5,,
4,0.25,0.5,0.75,0.5
"""
VALIDATED = {
    "valid_loss": 0.75,
    "valid_mean_token_accuracy": 0.5,
    "full_valid_loss": 0.75,
    "full_valid_mean_token_accuracy": 0.5,
}

Json = dict[str, Any]


@dataclass
class RefusedError(Exception):
    """An error in the envelope."""

    status: int
    param: str | None = None
    code: str | None = "refused"


@dataclass
class Call:
    """One request, read."""

    method: str
    parts: list[str]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    form: Json = field(default_factory=dict)

    def json(self) -> Json:
        try:
            body = json.loads(self.body)
        except ValueError:
            raise RefusedError(400) from None
        if not isinstance(body, dict):
            raise RefusedError(400)
        return body


def refuse_unless(condition: object, param: str | None = None, status: int = 400) -> None:
    if not condition:
        raise RefusedError(status, param)


@dataclass
class Contract:
    """What the server knows, and how it answers a call."""

    files: dict[str, tuple[Json, bytes]] = field(default_factory=dict)
    uploads: dict[str, Json] = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, Json] = field(default_factory=dict)
    events: dict[str, list[Json]] = field(default_factory=dict)
    permissions: dict[str, Json] = field(default_factory=dict)
    deleted_models: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new(self, prefix: str, kind: str, **fields: object) -> Json:
        number = next(self.numbers)
        name = f"{prefix}{number}"
        return {"id": name, "object": kind, "created_at": START + number, **fields}

    def route(self, call: Call) -> Any:  # noqa: ANN401, PLR0911 - any JSON, or bytes
        match call.parts:
            case ["files", *rest]:
                return self.on_files(call, rest)
            case ["uploads", *rest]:
                return self.on_uploads(call, rest)
            case ["fine_tuning", "jobs", *rest]:
                return self.on_jobs(call, rest)
            case ["fine_tuning", "checkpoints", checkpoint, "permissions", *rest]:
                return self.on_permissions(call, checkpoint, rest)
            case ["fine_tuning", "alpha", "graders", action]:
                return self.on_graders(call, action)
            case ["models", *rest]:
                return self.on_models(call, rest)
            case ["moderations"]:
                return self.on_moderations(call)
        raise RefusedError(404, code="unknown_url")

    def page(self, call: Call, items: list[Json], *, oldest_first: bool = False) -> Json:
        """Cut one page; items come oldest first."""
        ordered = items if oldest_first else items[::-1]
        limit = int(call.query.get("limit", "20"))
        refuse_unless(limit > 0, "limit")
        if after := call.query.get("after"):
            places = [place for place, item in enumerate(ordered) if item["id"] == after]
            refuse_unless(places, "after")
            ordered = ordered[places[0] + 1 :]
        data = ordered[:limit]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        page = {"object": "list", "data": data, "has_more": len(ordered) > limit}
        return {**page, "first_id": None, "last_id": None, **ends}

    # Files and uploads

    def add_file(self, filename: str, content: bytes, purpose: str, expiry: str | None) -> Json:
        purposes = {"fine-tune", "user_data", "fine-tune-results"}
        refuse_unless(purpose in purposes, "purpose")
        refuse_unless(expiry is None or int(expiry) >= 3600)
        file = self.new(
            "file-",
            "file",
            bytes=len(content),
            filename=filename,
            purpose=purpose,
            status="processed",
        )
        if expiry is not None:
            file["expires_at"] = file["created_at"] + int(expiry)
        self.files[file["id"]] = (file, content)
        return file

    def on_files(self, call: Call, rest: list[str]) -> Any:  # noqa: ANN401
        if not rest and call.method == "POST":
            refuse_unless("file" in call.form, "file")
            name, content = call.form["file"]
            expiry = call.form.get("expires_after[seconds]")
            return self.add_file(name, content, call.form.get("purpose", ""), expiry)
        if not rest and call.method == "GET":
            wanted = call.query.get("purpose")
            listed = [file for file, _ in self.files.values() if wanted in {None, file["purpose"]}]
            oldest_first = call.query.get("order") == "asc"
            return self.page(call, listed, oldest_first=oldest_first)
        refuse_unless(rest, status=405)
        refuse_unless(rest[0] in self.files, "file_id", 404)
        file, content = self.files[rest[0]]
        if rest[1:] == ["content"]:
            return content
        if call.method == "DELETE":
            del self.files[rest[0]]
            return {"id": rest[0], "object": "file", "deleted": True}
        return file

    def on_uploads(self, call: Call, rest: list[str]) -> Json:
        if not rest:
            body = call.json()
            refuse_unless(body.get("bytes", 0) > 0, "bytes")
            kept = {name: body[name] for name in ("bytes", "filename", "purpose")}
            expires_at = START + 3600
            upload = self.new(
                "upload-", "upload", expires_at=expires_at, status="pending", file=None, **kept
            )
            self.uploads[upload["id"]] = upload
            return upload
        refuse_unless(rest[0] in self.uploads, "upload_id", 404)
        upload = self.uploads[rest[0]]
        refuse_unless(upload["status"] == "pending")
        if rest[1] == "parts":
            part = self.new("part-", "upload.part", upload_id=rest[0])
            self.parts[part["id"]] = call.form["data"][1]
            return part
        if rest[1] == "cancel":
            upload["status"] = "cancelled"
            return upload
        body = call.json()
        content = b"".join(self.parts[part] for part in body["part_ids"])
        refuse_unless(len(content) == upload["bytes"], "part_ids")
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        refuse_unless(body.get("md5") in {None, digest}, "md5")
        upload["file"] = self.add_file(upload["filename"], content, upload["purpose"], None)
        upload["status"] = "completed"
        return upload

    # Jobs

    def create_job(self, call: Call) -> Json:
        body = call.json()
        repetition = call.headers.get("idempotency-key")
        if call.headers.get("x-stainless-retry-count", "0") != "0":
            repetition = json.dumps(body)
        if repetition in self.keys:
            return self.jobs[self.keys[repetition]]
        job = self.new("ftjob-", "fine_tuning.job", **read_job(body, self.files))
        self.jobs[job["id"]] = job
        self.events[job["id"]] = []
        self.tell(job["id"], "Created fine-tuning job.")
        self.keys[json.dumps(body)] = job["id"]
        if repetition is not None:
            self.keys[repetition] = job["id"]
        return job

    def tell(self, job_id: str, message: str, data: Json | None = None) -> None:
        kind = "message" if data is None else "metrics"
        event = self.new("ftevent-", "fine_tuning.job.event", level="info", message=message)
        self.events[job_id].append({**event, "type": kind, "data": data})

    def on_jobs(self, call: Call, rest: list[str]) -> Json:
        if not rest and call.method == "POST":
            return self.create_job(call)
        if not rest:
            wanted = {
                name.removeprefix("metadata[").removesuffix("]"): value
                for name, value in call.query.items()
                if name.startswith("metadata[")
            }
            jobs = [job for job in self.jobs.values() if wanted.items() <= job["metadata"].items()]
            return self.page(call, jobs)
        refuse_unless(rest[0] in self.jobs, "fine_tuning_job_id", 404)
        job = self.jobs[rest[0]]
        if rest[1:] == ["events"]:
            return self.page(call, self.events[rest[0]])
        if rest[1:] == ["checkpoints"]:
            return self.page(call, [checkpoint_of(job, step) for step in (2, 4)])
        if rest[1:]:
            self.control(job, rest[1])
        elif job["status"] in NEXT:
            self.advance(job)
        return job

    def control(self, job: Json, action: str) -> None:
        allowed = {"cancel": ("queued", "running", "paused"), "pause": ("queued", "running")}
        refuse_unless(job["status"] in allowed.get(action, ("paused",)))
        status = {"cancel": "cancelled", "pause": "paused", "resume": "queued"}[action]
        job["status"] = status
        if status == "cancelled":
            job["finished_at"] = START

    def advance(self, job: Json) -> None:
        job["status"] = NEXT[job["status"]]
        if job["status"] == "running":
            return
        if epochs_of(job) == LONG_EPOCHS:
            job["status"] = "running"
            return
        for step in range(1, 5):
            data = {"step": step, "total_steps": 4, "train_loss": 1.0 / step}
            data["train_mean_token_accuracy"] = 0.5
            self.tell(job["id"], f"Step {step}/4", data | (VALIDATED if step == 4 else {}))
        file = self.add_file("metrics.csv", TABLE, "fine-tune-results", None)
        suffix = job.pop("suffix", None) or ""
        job |= {
            "finished_at": START,
            "trained_tokens": 100,
            "result_files": [file["id"]],
            "fine_tuned_model": f"ft:{MODEL}:org:{suffix}:{job['id'][6:]}",
        }

    # What remains

    def on_permissions(self, call: Call, checkpoint: str, rest: list[str]) -> Json:
        names = {f"{job['fine_tuned_model']}:ckpt-step-4" for job in self.jobs.values()}
        refuse_unless(checkpoint in names, "fine_tuned_model_checkpoint", 404)
        if call.method == "DELETE":
            refuse_unless(self.permissions.pop(rest[0], None), "permission_id", 404)
            return {"id": rest[0], "object": "checkpoint.permission", "deleted": True}
        if call.method == "POST":
            projects = call.json()["project_ids"]
            refuse_unless(projects, "project_ids")
            for project in projects:
                made = self.new("cp_", "checkpoint.permission", project_id=project)
                self.permissions[made["id"]] = made
            return self.page(call, list(self.permissions.values()))
        wanted = call.query.get("project_id")
        found = [
            permission
            for permission in self.permissions.values()
            if wanted in {None, permission["project_id"]}
        ]
        return self.page(call, found)

    def on_graders(self, call: Call, action: str) -> Json:
        body = call.json()
        grader = body["grader"]
        refuse_unless(grader["type"] in {"string_check", "text_similarity"}, "grader.type")
        refuse_unless(grader.get("operation") in {None, "eq"}, "grader.operation")
        if action == "validate":
            return {"grader": grader}
        reward = float(body["model_sample"] == body["item"]["answer"])
        metadata = {"name": grader["name"], "type": grader["type"], "errors": {}, "scores": {}}
        metadata |= {"execution_time": 0.1, "token_usage": None, "sampled_model_name": None}
        usage: Json = {"sub_rewards": {}, "model_grader_token_usage_per_model": {}}
        return {"reward": reward, "metadata": metadata, **usage}

    def on_models(self, call: Call, rest: list[str]) -> Json:
        tuned = {job["fine_tuned_model"] for job in self.jobs.values()} - {None}
        names = [MODEL, *sorted(tuned - self.deleted_models)]
        models = [{"id": n, "object": "model", "created": 1, "owned_by": "org"} for n in names]
        if not rest:
            return {"object": "list", "data": models}
        refuse_unless(rest[0] in names, "model", 404)
        if call.method == "DELETE":
            self.deleted_models.add(rest[0])
            return {"id": rest[0], "object": "model", "deleted": True}
        return models[names.index(rest[0])]

    def on_moderations(self, call: Call) -> Json:
        texts = call.json().get("input")
        refuse_unless(texts, "input")
        count = len(texts) if isinstance(texts, list) and isinstance(texts[0], str) else 1
        verdict = {
            "flagged": False,
            "categories": dict.fromkeys(CATEGORIES, False),
            "category_scores": dict.fromkeys(CATEGORIES, 0.25),
            "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
        }
        return {"id": "modr-1", "model": "judge", "results": [verdict] * count}


def epochs_of(job: Json) -> int:
    method = job["method"]
    return int(method[method["type"]]["hyperparameters"]["n_epochs"])


def checkpoint_of(job: Json, step: int) -> Json:
    return {
        "id": f"ftckpt_{job['id']}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": job["created_at"],
        "fine_tuning_job_id": job["id"],
        "fine_tuned_model_checkpoint": f"{job['fine_tuned_model']}:ckpt-step-{step}",
        "step_number": step,
        "metrics": {"step": step, "train_loss": 0.5},
    }


def read_job(body: Json, files: dict[str, Any]) -> Json:
    """Check what is asked for, as the contract's limits say, and write every value out."""
    refuse_unless(isinstance(body.get("model"), str), "model")
    refuse_unless(body.get("training_file"), "training_file")
    refuse_unless(len(body.get("suffix") or "") <= 64, "suffix")
    refuse_unless((body.get("seed") or 0) < 2**31, "seed")
    metadata = body.get("metadata") or {}
    refuse_unless(len(metadata) <= 16, "metadata")
    refuse_unless(all(len(value) <= 512 for value in metadata.values()), "metadata")
    refuse_unless(body["training_file"] in files, "training_file")
    refuse_unless(body.get("validation_file") in {None, *files}, "validation_file")
    method = body.get("method") or {"type": "supervised"}
    kind = method["type"]
    refuse_unless(kind in {"supervised", "dpo"}, "method.type")
    given = method.get(kind, {}).get("hyperparameters") or body.get("hyperparameters") or {}
    place = f"method.{kind}.hyperparameters"
    refuse_unless(given.get("n_epochs", 1) > 0, f"{place}.n_epochs")
    refuse_unless(given.get("beta", 0.1) <= 2, f"{place}.beta")
    values = {"n_epochs": 1, "batch_size": 1, "learning_rate_multiplier": 1.0, **given}
    return {
        "model": body["model"],
        "suffix": body.get("suffix"),
        "training_file": body["training_file"],
        "status": "queued",
        "organization_id": "org-1",
        "seed": body.get("seed") or 1,
        "metadata": metadata,
        "method": {"type": kind, kind: {"hyperparameters": values}},
        "hyperparameters": values if kind == "supervised" else None,
        "result_files": [],
        "error": None,
        "finished_at": None,
        "fine_tuned_model": None,
        "trained_tokens": None,
        "validation_file": body.get("validation_file"),
    }
