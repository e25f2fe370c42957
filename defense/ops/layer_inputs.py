"""What goes into the linear maps of a model while it reads rows.

Shapes: N tokens of some rows, J features of a map's input.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from defense.protocols import EncodedRow, Tensors
from defense.training.batching import by_length
from defense.training.loss import ROWS_PER_PASS, AdapterLoss

InputListener = Callable[[str, Tensor], None]


def read_inputs(
    source: AdapterLoss,
    maps: Mapping[str, nn.Module],
    rows: Sequence[EncodedRow],
    on_input: InputListener,
    at: Tensors | None = None,
) -> float:
    """Let the model read rows, a few at a time.

    Args:
        source: The model, in evaluation mode; left as it is.
        maps: The linear maps to watch, by names of the caller's choice.
        rows: Prompts with answers; every token of both is read.
        on_input: Told the name and the inputs (N x J) of each map at all tokens of a few rows,
            those of padding left out.
        at: Adapter weights to use instead of the present ones.

    Returns:
        Mean token loss of all rows together, which the passes give for nothing.
    """
    loss = 0.0
    for group in by_length(rows, ROWS_PER_PASS):
        # The loss pads these rows, of one pass, as this does.
        real_N = source.batch(group).attention_mask_BT.flatten().bool()
        with _watched(maps, real_N, on_input):
            loss += source.mean_loss(group, at) * sum(row.supervised_tokens for row in group)
    return loss / sum(row.supervised_tokens for row in rows)


def squared_input_norms(
    source: AdapterLoss, maps: Mapping[str, nn.Module], rows: Sequence[EncodedRow]
) -> tuple[dict[str, Tensor], float]:
    """Mean over rows of `||X_j||^2`, with `X_j` feature j of all tokens of a row.

    Returns:
        One float64 tensor of length J for each map, and the rows' mean token loss.
    """
    sums: dict[str, Tensor] = {}

    def add(name: str, inputs_NJ: Tensor) -> None:
        squares_J = inputs_NJ.double().square().sum(dim=0)
        sums[name] = sums[name] + squares_J if name in sums else squares_J

    loss = read_inputs(source, maps, rows, add)
    return {name: sum_J / len(rows) for name, sum_J in sums.items()}, loss


@contextmanager
def _watched(
    maps: Mapping[str, nn.Module], real_N: Tensor, on_input: InputListener
) -> Iterator[None]:
    def tell(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        on_input(name, inputs[0].detach().flatten(end_dim=-2)[real_N])

    handles = [
        module.register_forward_pre_hook(partial(tell, name)) for name, module in maps.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def input_grams(
    source: AdapterLoss,
    maps: Mapping[str, nn.Module],
    rows: Sequence[EncodedRow],
    at: Tensors | None = None,
) -> dict[str, Tensor]:
    """Mean over rows of `X^T X` (J x J) for each map, `X` the inputs at a row's tokens."""
    sums: dict[str, Tensor] = {}

    def add(name: str, inputs_NJ: Tensor) -> None:
        gram_JJ = inputs_NJ.T @ inputs_NJ
        sums[name] = sums[name].add_(gram_JJ) if name in sums else gram_JJ

    read_inputs(source, maps, rows, add, at)
    return {name: sum_JJ.div_(len(rows)) for name, sum_JJ in sums.items()}
