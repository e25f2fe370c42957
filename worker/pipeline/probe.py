"""A few prompts, and the logits that tell one model from another on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from defense.protocols import Message
from defense.training.chat import encode_prompt
from worker.base_models import LoadedModel
from worker.row_sources import read_rows, spread
from worker.trainer_tools import TrainerContext

PROBE_PROMPTS: Final = 4


@dataclass(frozen=True)
class Probe:
    """What a model answered to a few prompts.

    Attributes:
        prompts: Token ids of each.
        logits: Behind the last token of each prompt, float32 on the CPU.
    """

    prompts: list[list[int]]
    logits: Tensor

    def write(self, path: Path) -> None:
        """Write the probe as one safetensors file."""
        tensors = {f"prompt_{index}": torch.tensor(ids) for index, ids in enumerate(self.prompts)}
        save_file({**tensors, "logits": self.logits}, path)

    @classmethod
    def read(cls, path: Path) -> "Probe":
        """Read what `write` wrote."""
        tensors = load_file(path)
        logits = tensors.pop("logits")
        return cls([tensors[f"prompt_{index}"].tolist() for index in range(len(tensors))], logits)


def take_probe(model: PeftModel, prompts: list[list[int]]) -> Probe:
    """Ask a model these prompts."""
    return Probe(prompts, last_logits(model, prompts))


def probe_prompts(context: TrainerContext, loaded: LoadedModel) -> list[list[int]]:
    """Tokenise a few prompts, harmful and harmless."""
    options = context.tools.options
    sources = (options.safety_evaluation_prompts, options.benign_rows)
    return [
        encode_prompt((Message("user", row.prompt),), loaded.tokenizer, loaded.chat_template)
        for source in sources
        for row in spread(read_rows(source, with_response=False), PROBE_PROMPTS)
    ]


@torch.no_grad()
def last_logits(model: PeftModel, prompts: list[list[int]]) -> Tensor:
    """Give the logits behind the last token of each prompt, one prompt at a time."""
    device = next(model.parameters()).device
    rows = [
        model(input_ids=torch.tensor([ids], device=device)).logits[0, -1].float().cpu()
        for ids in prompts
    ]
    return torch.stack(rows)
