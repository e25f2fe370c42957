"""Stage `evaluate`: ask the base, the tuned and the guarded model the same questions.

What is judged is the package as storage gave it back, named by its SHA-256. The base and the
aligned model are the same for every job, so their answers are kept under the home folder.
"""

import hashlib
import shutil
from typing import Any, Final

import torch

from core.stages import ArtifactName, Stage
from defense.evaluation.task_accuracy import task_questions
from defense.protocols import PairScores, Tensors
from defense.training.adapter_files import read_adapter, read_tensors
from defense.training.lora import Adapter
from worker.archive import extract_archive
from worker.base_models import LoadedModel
from worker.pipeline.adapted_model import (
    adapted_model,
    aligned_adapter,
    continued_adapter,
    lora_settings,
)
from worker.pipeline.base_model import recorded_base_model
from worker.pipeline.examination import Examiner, Paper, cached
from worker.pipeline.findings import harm_sources, model_results, second_judge
from worker.pipeline.general_losses import LossMeter
from worker.pipeline.held_out import read_held_out
from worker.pipeline.judged_answers import JudgedSets, answer_lines
from worker.pipeline.lessons import REFERENCE
from worker.row_sources import PromptRow, read_rows, spread
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.EVALUATE
READS: Final = (
    ArtifactName.TRAINING_ROWS,
    ArtifactName.VALIDATION_ROWS,
    ArtifactName.SCREENING,
    ArtifactName.BASE_MODEL,
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.TRAINING,
    ArtifactName.PACKAGE,
)
WRITES: Final = (ArtifactName.EVALUATION, ArtifactName.ANSWERS)

WEIGHTS: Final = "adapter_model.safetensors"


def run(context: TrainerContext) -> None:
    """Write the results of all models, and every answer."""
    workspace = context.workspace
    paper = _paper(context)
    folder = workspace.root / "evaluated_package"
    extract_archive(workspace.artifact(ArtifactName.PACKAGE), folder)
    weights_sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    guarded = read_adapter(folder)
    shutil.rmtree(folder)
    trained = read_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER))
    examination = _Examination(context, recorded_base_model(context), paper)
    examination.examine_all(guarded, trained)
    found = _findings(context, paper, examination)
    workspace.write_json(ArtifactName.EVALUATION, {"adapter_sha256": weights_sha256, **found})
    with workspace.output(ArtifactName.ANSWERS).open("w", encoding="utf-8") as file:
        file.writelines(answer_lines(paper.prompt_sets, examination.answers))


def _findings(context: TrainerContext, paper: Paper, examination: "_Examination") -> dict[str, Any]:
    options, answers = context.tools.options, examination.answers
    classifier, second = context.tools.classifier, context.tools.second_judge
    files = {
        "safety": options.safety_evaluation_prompts,
        "second_safety": options.second_safety_evaluation_prompts,
    }
    judge = {"name": second.name, "version": second.version}
    return {
        "classifier": {"name": classifier.name, "version": classifier.version},
        "prompts": paper.sizes,
        "answer_tokens": options.evaluation_answer_tokens,
        "models": {
            name: {**model_results(paper, sets), **examination.task[name]}
            for name, sets in answers.items()
        },
        "harm_sources": harm_sources(paper, files, answers),
        "second_judge": second_judge(paper, judge, answers),
        "losses": examination.losses.as_json(),
    }


class _Examination:
    """All models in turn; says how far it is.

    Attributes:
        answers: What each model answered to the prompts that judges read.
        task: What was measured of each on the user's rows.
        losses: What was measured of each on the operator's.
    """

    def __init__(self, context: TrainerContext, loaded: LoadedModel, paper: Paper) -> None:
        self._context = context
        self._loaded = loaded
        self._examiner = Examiner(context, loaded, paper)
        self._cache = context.tools.options.home / "evaluations"
        self._done = 0
        self.losses = LossMeter(context, loaded.pad_token_id)
        self.answers: dict[str, JudgedSets] = {}
        self.task: dict[str, dict[str, Any]] = {}

    def examine_all(self, guarded: Adapter, trained: Tensors) -> None:
        """Ask every model, and take its losses."""
        self._base()
        aligned = aligned_adapter(self._context.entry)
        if aligned is not None:
            self._aligned(aligned)
        self._start(aligned)
        tuned = Adapter(guarded.settings, trained)
        self._adapter("tuned", tuned)
        unchanged = all(
            torch.equal(guarded.tensors[name], tensor) for name, tensor in trained.items()
        )
        if unchanged:
            self.answers["guarded"], self.task["guarded"] = (
                self.answers["tuned"],
                self.task["tuned"],
            )
            self.losses.repeat("tuned", "guarded")
        else:
            self._adapter("guarded", guarded)

    def _base(self) -> None:
        model = self._loaded.model
        name = self._examiner.fingerprint(self._base_sha256())
        path = self._cache / f"{name}.json"
        self.answers["base"] = cached(path, lambda: self._examiner.examine_safety(model))
        self._step()
        self.task["base"] = self._examiner.examine_task(model)
        settings = lora_settings(self._context.spec)
        with adapted_model(self._loaded, settings) as fresh:  # which computes what the base does
            self.losses.measure("base", fresh)

    def _aligned(self, aligned: Adapter) -> None:
        name = self._examiner.fingerprint(self._base_sha256(), adapter_sha256(aligned))
        with adapted_model(self._loaded, aligned.settings, tensors=aligned.tensors) as model:
            self.answers["aligned"] = cached(
                self._cache / f"{name}.json", lambda: self._examiner.examine_safety(model)
            )
            self.task["aligned"] = {}
            self.losses.measure("aligned", model)
        self._step()

    def _start(self, aligned: Adapter | None) -> None:
        """Take the losses of the model as training found it, which may be a tuned one."""
        spec = self._context.spec
        if spec.parent is None and spec.initial_adapter is None:
            self.losses.repeat("base" if aligned is None else "aligned", "start")
            return
        start = continued_adapter(self._context, self._loaded)
        assert start is not None, "the job continues an adapter"  # noqa: S101
        with adapted_model(self._loaded, start.settings, tensors=start.tensors) as model:
            self.losses.measure("start", model)

    def _adapter(self, name: str, adapter: Adapter) -> None:
        with adapted_model(self._loaded, adapter.settings, tensors=adapter.tensors) as model:
            self.answers[name] = self._examiner.examine_safety(model)
            self._step()
            self.task[name] = self._examiner.examine_task(model)
            self.losses.measure(name, model)

    def _base_sha256(self) -> str:
        return str(self._context.workspace.read_json(ArtifactName.BASE_MODEL)["weights_sha256"])

    def _step(self) -> None:
        self._done += 1
        self._context.reporter.progress(self._done, 4)


def _paper(context: TrainerContext) -> Paper:
    options = context.tools.options
    count = options.evaluation_prompt_count
    held_out = read_held_out(context.workspace)
    # Only of preferences is there anything to compare with.
    reference = context.workspace.read_json(ArtifactName.TRAINING).get(REFERENCE, {})
    pairs = [row for row in held_out if str(row.line) in reference]
    questions = [] if pairs else task_questions([row.row for row in held_out])
    return Paper(
        safety=_prompts(options.safety_evaluation_prompts, count),
        second_safety=_prompts(
            options.second_safety_evaluation_prompts, options.second_evaluation_prompt_count
        ),
        over_refusal=_prompts(options.over_refusal_prompts, count),
        task=questions[:count],
        pairs=[row.pair for row in pairs],
        reference=[PairScores(**reference[str(row.line)]) for row in pairs],
    )


def _prompts(source: str, count: int) -> list[PromptRow]:
    return spread(read_rows(source, with_response=False), count)


def adapter_sha256(adapter: Adapter) -> str:
    """Name an adapter by what it does to a model: its tensors and how they are scaled."""
    tensors = adapter.tensors
    digest = hashlib.sha256(f"{adapter.settings.rank} {adapter.settings.alpha}".encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
