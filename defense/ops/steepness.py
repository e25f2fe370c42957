"""The two tensor functions of Panacea's training term (arXiv:2501.18100, equations 1 to 3).

With `h` the mean loss of harmful answers, the term `lambda * (h(w + eps) - h(w))` is to be made
large: harmful answers should be easy to unlearn by a small move. `eps` is the move of length
`rho` that raises `h` fastest to first order, and is held fixed when the term is differentiated.
"""

from torch import Tensor

from defense.ops.tensors import added, resized, scaled
from defense.protocols import Tensors


def ascent_probe(harmful_gradient: Tensors, radius: float) -> dict[str, Tensor]:
    """`eps = rho * grad h / ||grad h||`, one norm over all weights; zero for a zero gradient."""
    return resized(harmful_gradient, radius)


def steepness_gradient(at_weights: Tensors, at_probe: Tensors, weight: float) -> dict[str, Tensor]:
    """What the term adds to the gradient that is descended: `lambda (grad h(w) - grad h(w+eps))`.

    Args:
        at_weights: Gradient of the harmful loss at the weights.
        at_probe: The same rows' gradient at the probed weights.
        weight: lambda.
    """
    return scaled(added(at_weights, at_probe, -1.0), weight)
