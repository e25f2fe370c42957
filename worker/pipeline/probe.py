"""A few prompts, and the logits that tell one model from another on them."""

from typing import Final

import torch
from peft import PeftModel
from torch import Tensor

from defense.protocols import Message
from defense.training.chat import encode_prompt
from worker.base_models import LoadedModel
from worker.row_sources import read_rows, spread
from worker.trainer_tools import TrainerContext

PROBE_PROMPTS: Final = 4


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
