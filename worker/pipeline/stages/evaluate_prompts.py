"""Stage `evaluate_prompts`: ask all models of a job the prompts that its project has uploaded.

They are judged like the operator's, and reported beside them. The gate looks at the operator's
alone: whoever chose the prompts could choose the verdict.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import nn

from core.datasets.prompts import read_prompts
from core.stages import ArtifactName, Stage
from defense.protocols import Tensors
from defense.training.adapter_files import read_adapter, read_tensors
from defense.training.lora import Adapter
from worker.archive import extract_archive
from worker.base_models import LoadedModel
from worker.pipeline.adapted_model import adapted_model, aligned_adapter
from worker.pipeline.base_model import recorded_base_model
from worker.pipeline.examination import Examiner, Paper
from worker.pipeline.findings import model_results, source_results
from worker.row_sources import PromptRow
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.EVALUATE_PROMPTS
READS: Final = (
    ArtifactName.BASE_MODEL,
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.PACKAGE,
)
WRITES: Final = (ArtifactName.PROMPTS_EVALUATION,)


def run(context: TrainerContext) -> None:
    """Write the results of all models."""
    follow_up = context.spec.follow_up
    assert follow_up is not None, "the plan of other jobs has no such stage"  # noqa: S101
    assert follow_up.prompts is not None, "nor that of a job without prompts"  # noqa: S101
    loaded = recorded_base_model(context)
    paper = Paper(safety=_prompts(context))
    examiner = Examiner(context, loaded, paper)
    results: dict[str, Any] = {}
    adapters = _adapters(context)
    for done, (name, adapter) in enumerate(adapters.items(), start=1):
        with _model(loaded, adapter) as model:
            answers = examiner.examine_safety(model)
            by_category = source_results(paper.safety, answers["safety"])["by_category"]
            results[name] = {**model_results(paper, answers), "by_category": by_category}
        context.reporter.progress(done, len(adapters))
    classifier = context.tools.classifier
    context.workspace.write_json(
        ArtifactName.PROMPTS_EVALUATION,
        {
            "file_id": follow_up.prompts.file_id,
            "prompts": follow_up.prompts.prompts,
            "classifier": {"name": classifier.name, "version": classifier.version},
            "answer_tokens": context.tools.options.evaluation_answer_tokens,
            "models": results,
        },
    )


def _prompts(context: TrainerContext) -> list[PromptRow]:
    with context.workspace.prompts_file.open("rb") as file:
        found = list(read_prompts(file, context.tools.options.max_row_bytes))
    return [PromptRow(prompt.text, "", prompt.category) for prompt in found]


def _adapters(context: TrainerContext) -> dict[str, Adapter | None]:
    """Give the adapter of each model that is asked, in the order of the report."""
    workspace = context.workspace
    folder = workspace.root / "package_of_prompts"
    extract_archive(workspace.artifact(ArtifactName.PACKAGE), folder)
    guarded = read_adapter(folder)
    shutil.rmtree(folder)
    trained: Tensors = read_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER))
    aligned = aligned_adapter(context.entry)
    before: dict[str, Adapter | None] = {"base": None}
    if aligned is not None:
        before["aligned"] = aligned
    return {**before, "tuned": Adapter(guarded.settings, trained), "guarded": guarded}


@contextmanager
def _model(loaded: LoadedModel, adapter: Adapter | None) -> Iterator[nn.Module]:
    if adapter is None:
        yield loaded.model
        return
    with adapted_model(loaded, adapter.settings, tensors=adapter.tensors) as model:
        yield model
