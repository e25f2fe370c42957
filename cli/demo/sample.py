"""Answer prompts with the downloaded adapter, using plain ``transformers`` and ``peft`` only.

Run as its own process (``python -m cli.demo.sample``): the demo itself stays without torch, and
what is shown is what anyone would get from the files. Reads a JSON request from standard input,
writes JSON to standard output.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cli.models import prepared_folder
from core.settings import Settings

MAX_NEW_TOKENS = 40


def main() -> None:
    """Read the request, answer each conversation without and with the adapter."""
    request = json.load(sys.stdin)
    json.dump(answers(request), sys.stdout)


def answers(request: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return for each conversation the base model's answer and the guarded one."""
    import torch  # noqa: PLC0415
    from peft import PeftModel  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    folder = prepared_folder(Settings(), request["model"])
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, request["adapter"]).eval()

    def answer(conversation: Sequence[Mapping[str, str]]) -> str:
        tokens = tokenizer.apply_chat_template(
            conversation,
            chat_template=request["chat_template"],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.no_grad():
            produced = model.generate(**tokens, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        length = tokens["input_ids"].shape[1]
        return str(tokenizer.decode(produced[0, length:], skip_special_tokens=True)).strip()

    results = []
    for conversation in request["conversations"]:
        with model.disable_adapter():
            without = answer(conversation)
        results.append({"base": without, "guarded": answer(conversation)})
    return results


if __name__ == "__main__":
    main()
