"""An archive that does not compute what the guarded model computed is never let through."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import JobFailedError
from core.job_state import JobErrorCode
from core.stages import ArtifactName
from defense.training.adapter_files import CONFIG_NAME, WEIGHTS_NAME, write_tensors
from defense.training.lora import LoraSettings, adapter_state, attach_adapter, detach_adapter
from tests.tiny_models import TARGET_MODULES, tiny_llama
from tests.tiny_registry import write_rows
from tests.unit.worker.pipeline.builders import ALPHA, RANK, tiny_entry, tiny_spec
from worker.archive import extract_archive, write_archive
from worker.base_models import BaseModels
from worker.pipeline.stages import package, verify_archive
from worker.trainer_tools import TrainerContext
from worker.workspace import Workspace

STRENGTH = 0.7
TENSOR_LENGTH = 0.3


@dataclass(frozen=True)
class Packaged:
    """A workspace after stage `package`, and the context of the next stage."""

    context: TrainerContext

    def tamper(self, change: Callable[[Path], object]) -> None:
        """Unpack the archive, change the folder, and pack it again."""
        workspace = self.context.workspace
        folder = workspace.root / "tampered"
        extract_archive(workspace.artifact(ArtifactName.ARCHIVE), folder)
        change(folder)
        files: dict[str, bytes | Path] = {path.name: path for path in folder.iterdir()}
        write_archive(workspace.artifact(ArtifactName.ARCHIVE), files)

    def shift_logits(self, by: float) -> None:
        """Change what `package` measured, as a worker that rounds otherwise would."""
        path = self.context.workspace.artifact(ArtifactName.PROBE_LOGITS)
        tensors = load_file(path)
        save_file({**tensors, "logits": tensors["logits"] + by}, path)

    def check(self) -> dict[str, Any]:
        """Run the stage and read what it found."""
        verify_archive.run(self.context)
        path = self.context.workspace.output(ArtifactName.ARCHIVE_CHECK)
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def random_tensors(seed: int) -> dict[str, torch.Tensor]:
    """An adapter or perturbation whose every tensor has one length, as training makes them."""
    model = attach_adapter(tiny_llama(), LoraSettings(RANK, ALPHA, TARGET_MODULES))
    shapes = adapter_state(model)
    detach_adapter(model)
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(old.shape, generator=generator) for name, old in shapes.items()}
    return {name: TENSOR_LENGTH * tensor / tensor.norm() for name, tensor in drawn.items()}


def make_context(folder: Path) -> TrainerContext:
    """A trainer with the tiny model, and a workspace with an adapter and a perturbation."""
    entry = tiny_entry(folder / "model")
    prompts = [{"prompt": f"tell me {word}"} for word in ("a story", "how", "why", "the way")]
    rows = write_rows(folder / "rows.jsonl", prompts)
    tools = SimpleNamespace(
        base_models=BaseModels(folder / "cache", torch.device("cpu")),
        options=SimpleNamespace(safety_evaluation_prompts=rows, benign_rows=rows),
    )
    workspace = Workspace.create(folder / "workspaces", "ftjob-1", 1)
    facts = {"weights_sha256": tools.base_models.prepare(entry).weights_sha256}
    for name, value in (
        (ArtifactName.BASE_MODEL, facts),
        (ArtifactName.STRENGTH, {"strength": STRENGTH}),
    ):
        workspace.artifact(name).write_text(json.dumps(value), encoding="utf-8")
    write_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER), random_tensors(1))
    write_tensors(workspace.artifact(ArtifactName.PERTURBATION), random_tensors(2))
    return TrainerContext("ftjob-1", tiny_spec(), workspace, Mock(), tools, entry)  # type: ignore[arg-type]


@pytest.fixture
def packaged(tmp_path: Path) -> Packaged:
    return run_package(make_context(tmp_path))


@pytest.fixture(params=[(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)])
def moved(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Packaged:
    """A job packaged in one precision, whose next stage runs on a worker of another."""
    before, after = request.param
    monkeypatch.setattr("worker.base_models.compute_dtype", lambda _: before)
    packaged = run_package(make_context(tmp_path))
    monkeypatch.setattr("worker.base_models.compute_dtype", lambda _: after)
    tools = SimpleNamespace(base_models=BaseModels(tmp_path / "cache", torch.device("cpu")))
    return Packaged(replace(packaged.context, tools=tools))  # type: ignore[arg-type]


def run_package(context: TrainerContext) -> Packaged:
    package.run(context)
    workspace = context.workspace
    names = (ArtifactName.PACKAGE, ArtifactName.ARCHIVE), (ArtifactName.PROBE_LOGITS,) * 2
    for written, read in names:
        shutil.copy(workspace.output(written), workspace.artifact(read))
    return Packaged(context)


def change_config(folder: Path, name: str, value: object) -> None:
    path = folder / CONFIG_NAME
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, name: value}), encoding="utf-8")


def drop_tensor(folder: Path, part: str) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    del tensors[next(name for name in sorted(tensors) if part in name)]
    save_file(tensors, folder / WEIGHTS_NAME)


def cut_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    name = min(tensors)
    save_file({**tensors, name: tensors[name][:1].contiguous()}, folder / WEIGHTS_NAME)


def add_perturbation(folder: Path, share: float) -> None:
    """Make the perturbation too strong by this share of its strength."""
    perturbation, strength = random_tensors(2), share * STRENGTH
    tensors = load_file(folder / WEIGHTS_NAME)
    moved = {name: tensor + strength * perturbation[name] for name, tensor in tensors.items()}
    save_file(moved, folder / WEIGHTS_NAME)


def set_not_a_number(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    name = min(tensors)
    save_file({**tensors, name: torch.full_like(tensors[name], math.nan)}, folder / WEIGHTS_NAME)


def truncate(folder: Path) -> None:
    path = folder / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:100])


OTHER_ADAPTERS = [
    pytest.param(lambda folder: add_perturbation(folder, 0.1), id="too strong"),
    pytest.param(lambda folder: add_perturbation(folder, -0.1), id="too weak"),
    pytest.param(set_not_a_number, id="not a number"),
]


def test_an_untouched_archive_computes_exactly_what_the_model_in_memory_did(
    packaged: Packaged,
) -> None:
    found = packaged.check()

    assert found["largest_logit_difference"] == 0
    assert found["prompts"] == 8
    assert found["reference"] == "packaged"


def test_a_sound_archive_passes_on_a_worker_of_another_precision(moved: Packaged) -> None:
    found = moved.check()

    assert found["largest_logit_difference"] == 0
    assert found["reference"] == "computed again"


@pytest.mark.parametrize("change", OTHER_ADAPTERS)
def test_another_adapter_fails_the_job_on_a_worker_of_another_precision(
    moved: Packaged, change: Callable[[Path], object]
) -> None:
    moved.tamper(change)

    with pytest.raises(JobFailedError) as raised:
        moved.check()

    assert raised.value.code == JobErrorCode.ARCHIVE_MISMATCH


@pytest.mark.parametrize("shift", [1e-2, -1e-2, math.inf, math.nan])
def test_the_model_is_computed_again_if_the_packaged_logits_differ(
    packaged: Packaged, shift: float
) -> None:
    packaged.shift_logits(shift)

    found = packaged.check()

    assert found["largest_logit_difference"] == 0
    assert found["reference"] == "computed again"


def test_logits_within_the_limit_are_not_computed_again(packaged: Packaged) -> None:
    packaged.shift_logits(1e-4)

    found = packaged.check()

    assert found["reference"] == "packaged"
    assert 0 < found["largest_logit_difference"] < found["limit"]


@pytest.mark.parametrize("change", OTHER_ADAPTERS)
def test_another_adapter_fails_the_job_though_the_packaged_logits_say_nothing(
    packaged: Packaged, change: Callable[[Path], object]
) -> None:
    packaged.shift_logits(math.nan)
    packaged.tamper(change)

    with pytest.raises(JobFailedError) as raised:
        packaged.check()

    assert raised.value.code == JobErrorCode.ARCHIVE_MISMATCH


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: change_config(folder, "lora_alpha", 5), id="other alpha"),
        pytest.param(lambda folder: change_config(folder, "r", 3), id="other rank"),
        pytest.param(
            lambda folder: change_config(folder, "target_modules", ["q_proj"]), id="fewer modules"
        ),
        pytest.param(lambda folder: drop_tensor(folder, "lora_A"), id="no A"),
        pytest.param(lambda folder: drop_tensor(folder, "lora_B"), id="no B"),
        pytest.param(cut_tensor, id="smaller tensor"),
        *OTHER_ADAPTERS,
        pytest.param(truncate, id="half a file"),
        pytest.param(lambda folder: (folder / CONFIG_NAME).write_text("{"), id="no config"),
        pytest.param(lambda folder: (folder / WEIGHTS_NAME).unlink(), id="no weights"),
    ],
)
def test_an_archive_with_another_adapter_fails_the_job(
    packaged: Packaged, change: Callable[[Path], object]
) -> None:
    packaged.tamper(change)

    with pytest.raises(JobFailedError) as raised:
        packaged.check()

    assert raised.value.code == JobErrorCode.ARCHIVE_MISMATCH
    assert str(packaged.context.workspace.root) not in raised.value.message


def test_a_file_that_is_no_archive_fails_the_job(packaged: Packaged) -> None:
    packaged.context.workspace.artifact(ArtifactName.ARCHIVE).write_bytes(b"no archive")

    with pytest.raises(JobFailedError) as raised:
        packaged.check()

    assert raised.value.code == JobErrorCode.ARCHIVE_MISMATCH


def test_a_lack_of_memory_is_not_taken_for_a_bad_archive(
    packaged: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    loader = Mock(side_effect=fault)
    monkeypatch.setattr("peft.PeftModel.from_pretrained", loader)

    with pytest.raises(RuntimeError) as raised:
        packaged.check()

    assert raised.value is fault
