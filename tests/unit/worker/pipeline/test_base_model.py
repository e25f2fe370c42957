"""The base model of a job: the same weights to the end, named without the operator's folders."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from core.errors import JobFailedError
from core.job_state import JobErrorCode
from core.model_registry import AlignedAdapter, Source
from core.stages import ArtifactName
from tests.tiny_models import TARGET_MODULES, tiny_llama
from tests.unit.worker.pipeline.builders import RANK, tiny_entry, tiny_spec
from worker.base_models import BaseModels
from worker.pipeline.base_model import check_base_model, public_source, recorded_base_model
from worker.pipeline.stages import prepare_base_model
from worker.trainer_tools import TrainerContext
from worker.workspace import Workspace


@dataclass(frozen=True)
class Prepared:
    """A job whose base model was prepared by one trainer; the next one is fresh."""

    folder: Path
    context: TrainerContext


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    folder = tmp_path / "canary" / "model"
    aligned = Source.parse(f"path:{tmp_path}/canary/adapter")
    entry = tiny_entry(folder).model_copy(
        update={
            "aligned_adapter": AlignedAdapter(
                source=aligned, rank=RANK, target_modules=TARGET_MODULES
            )
        }
    )
    workspace = Workspace.create(tmp_path / "workspaces", "ftjob-1", 1)

    def trainer() -> TrainerContext:
        tools = SimpleNamespace(base_models=BaseModels(tmp_path / "cache", torch.device("cpu")))
        return TrainerContext("ftjob-1", tiny_spec(), workspace, Mock(), tools, entry)  # type: ignore[arg-type]

    prepare_base_model.run(trainer())
    name = ArtifactName.BASE_MODEL
    workspace.output(name).rename(workspace.artifact(name))
    return Prepared(folder, trainer())


def test_a_job_goes_on_with_the_weights_it_began_with(prepared: Prepared) -> None:
    context = prepared.context

    loaded = recorded_base_model(context)

    assert loaded is context.tools.base_models.warm(context.entry)


def test_a_job_does_not_go_on_with_other_weights(prepared: Prepared) -> None:
    tiny_llama(seed=1).save_pretrained(prepared.folder)

    with pytest.raises(JobFailedError) as raised:
        check_base_model(prepared.context)

    assert raised.value.code == JobErrorCode.BASE_MODEL_CHANGED
    assert "canary" not in raised.value.message


def test_the_report_names_the_base_model_without_the_operators_folders(prepared: Prepared) -> None:
    recorded = prepared.context.workspace.read_json(ArtifactName.BASE_MODEL)

    assert recorded["source"] == "path:model"
    assert recorded["aligned_adapter"] == "path:adapter"
    assert "canary" not in json.dumps(recorded)


@pytest.mark.parametrize(
    "text", ["hub:org/name@main/model.gguf", "package:wheel/model.gguf", "resource:adapters/x"]
)
def test_a_source_that_names_no_folder_of_the_operator_is_shown_whole(text: str) -> None:
    assert public_source(Source.parse(text)) == text
