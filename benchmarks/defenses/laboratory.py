"""What every measurement shares: the model, the operator's rows, the judge."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from peft import PeftModel

from benchmarks.defenses.caps import Caps
from benchmarks.defenses.identity import key_of
from benchmarks.defenses.questions import OperatorPrompts
from core.hyperparameter_resolution import resolve_hyperparameters
from core.job_spec import (
    Hyperparameters,
    RequestedHyperparameters,
)
from core.model_registry import ModelEntry, ModelRegistry
from core.resources import resource_path
from core.settings import Settings
from defense.conversations import Exchange
from defense.evaluation.generation import GenerationSettings, generate_answers
from defense.moderation.embedded import EmbeddedClassifier
from defense.moderation.protocol import ModerationClassifier
from defense.protocols import DefenderRows, EncodedRow, Message, Row
from defense.training.chat import encode_row
from defense.training.lora import Adapter, LoraSettings
from worker.base_models import BaseModels, LoadedModel
from worker.devices import choose_device
from worker.pipeline.adapted_model import adapted_model, aligned_adapter
from worker.row_sources import PromptRow, hold_out, read_rows, to_learn_from


@dataclass(frozen=True)
class Laboratory:
    """Everything that no cell changes.

    Attributes:
        entry: The base model as the registry describes it.
        loaded: The base model.
        weights_sha256: Of the base model.
        aligned: The adapter that every training continues; None starts from nothing.
        classifier: The judge.
        defender: The operator's rows.
        prompts: What of the shipped prompts is asked, and what the operator's rows teach.
        held_out: Harmful prompts that no method has learned from, to choose strengths by.
        device: Where the model is.
        caps: Sizes.
    """

    entry: ModelEntry
    loaded: LoadedModel
    weights_sha256: str
    aligned: Adapter | None
    classifier: ModerationClassifier
    defender: DefenderRows
    prompts: OperatorPrompts
    held_out: Sequence[str]
    device: torch.device
    caps: Caps

    def encode(self, rows: Sequence[Exchange]) -> list[EncodedRow]:
        """Tokenise rows as a job's are; those without a supervised token are left out."""
        encoded = _encode(rows, self.loaded, self.entry)
        return [row for row in encoded if row.supervised_tokens]

    def answers(
        self, model: PeftModel, prompts: Sequence[Sequence[Message]], max_new_tokens: int
    ) -> list[str]:
        """Answer conversations greedily."""
        settings = GenerationSettings(
            max_new_tokens=max_new_tokens, max_prompt_tokens=self.entry.max_sequence_tokens
        )
        return generate_answers(
            model, self.loaded.tokenizer, prompts, self.entry.chat_template, settings
        )

    def hyperparameters(self, rows: int) -> Hyperparameters:
        """The defaults of a job on so many rows."""
        return resolve_hyperparameters(
            RequestedHyperparameters(n_epochs=self.caps.epochs, max_steps=self.caps.max_steps),
            self.entry,
            usable_rows=rows,
            max_sequence_tokens=self.entry.max_sequence_tokens,
        )

    @contextmanager
    def adapted(self, wanted: Hyperparameters, seed: int) -> Iterator[PeftModel]:
        """Put the adapter that a job begins with on the model while the block runs."""
        shape = LoraSettings(wanted.lora_rank, wanted.lora_alpha, wanted.target_modules)
        with adapted_model(self.loaded, shape, aligned=self.aligned, seed=seed) as model:
            yield model

    def identity(self) -> dict[str, Any]:
        """What of all this decides a result."""
        return {
            "model": [self.entry.id, self.weights_sha256, self.entry.chat_template],
            "precision": [str(self.loaded.model.dtype), self.device.type],
            "aligned": _adapter_key(self.aligned),
            "judge": [self.classifier.name, self.classifier.version],
            "defender": key_of([_row_key(rows) for rows in vars(self.defender).values()]),
            "held_out": key_of(list(self.held_out)),
            "packages": {name: version(name) for name in ("torch", "transformers", "peft")},
        }


def open_laboratory(
    settings: Settings,
    caps: Caps,
    model: str | None = None,
    classifier: ModerationClassifier | None = None,
) -> Laboratory:
    """Load the model, the operator's rows and the judge as a worker would.

    Args:
        settings: Name the registry and the row sets.
        caps: Sizes.
        model: The model's id; None takes the first of the registry.
        classifier: Judge by this one; None takes the embedded one.
    """
    registry = ModelRegistry.load(settings)
    entry = next(iter(registry)) if model is None else registry.get(model)
    device = choose_device(settings.device)
    models = BaseModels(settings.base_model_cache, device)
    loaded = models.warm(entry)
    alignment, judged = hold_out(read_rows(settings.alignment_rows, with_response=True))
    harmful = to_learn_from(read_rows(settings.harmful_rows, with_response=True), judged)
    benign = to_learn_from(read_rows(settings.benign_rows, with_response=True), judged)

    def encoded(rows: Sequence[PromptRow]) -> list[EncodedRow]:
        return _encode([Exchange(row.prompt, row.response) for row in rows], loaded, entry)

    return Laboratory(
        entry=entry,
        loaded=loaded,
        weights_sha256=models.prepare(entry).weights_sha256,
        aligned=aligned_adapter(entry),
        classifier=classifier or EmbeddedClassifier(resource_path("moderation")),
        defender=DefenderRows(
            refusals=encoded([row for row in alignment if not row.is_benign]),
            harmful=encoded(harmful),
            benign=encoded([*benign, *(row for row in alignment if row.is_benign)]),
        ),
        prompts=OperatorPrompts(
            harmful=_prompts(settings.safety_evaluation_prompts),
            look_alikes=_prompts(settings.over_refusal_prompts),
            taught=[row.prompt for row in (*alignment, *judged, *harmful, *benign)],
        ),
        held_out=[row.prompt for row in judged],
        device=device,
        caps=caps,
    )


def _encode(rows: Sequence[Exchange], loaded: LoadedModel, entry: ModelEntry) -> list[EncodedRow]:
    return [
        encode_row(
            Row.from_exchange(row.prompt, row.answer),
            loaded.tokenizer,
            entry.chat_template,
            entry.max_sequence_tokens,
        )
        for row in rows
    ]


def _prompts(source: str) -> list[str]:
    return [row.prompt for row in read_rows(source, with_response=False)]


def _row_key(rows: Sequence[EncodedRow]) -> str:
    return key_of([[row.input_ids, row.labels] for row in rows])


def _adapter_key(adapter: Adapter | None) -> str | None:
    if adapter is None:
        return None
    shape = adapter.settings
    return key_of(
        [
            [shape.rank, shape.alpha, list(shape.target_modules)],
            {name: key_of(tensor.tolist()) for name, tensor in adapter.tensors.items()},
        ]
    )
