"""The result of a loss function, its checks, and weighted means over a batch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jlstm.cell import Params, PyTree
from jlstm.data import Batch


class Outcome(NamedTuple):
    """The result of a loss function.

    Attributes:
        losses: One loss per example. Training minimizes their weighted mean.
        metrics: Other measurements by name, each with one number or boolean per example, averaged in the same way.
        carry: Carry for the next batch of the pass, as in truncated backpropagation through time, or None.
    """

    losses: Float[Array, " size"]
    metrics: Mapping[str, Array] = {}
    carry: PyTree = None


LossFunction = Callable[[Params, Any, Array | None, PyTree], Outcome]

RESERVED = ("loss", "grad_norm", "learning_rate", "skipped", "weight")  # names that records and their sums use


def outcome_of(loss_fn: LossFunction, params: Params, batch: Batch, key: Array | None, carry: PyTree) -> Outcome:
    """Call a loss function and check its result.

    Args:
        loss_fn: The loss function.
        params: Parameters.
        batch: The batch whose examples to pass.
        key: Random key for dropout, or None.
        carry: Carry to start from, or None.

    Returns:
        The outcome.

    Raises:
        TypeError: The result is not an Outcome.
        ValueError: Losses or metrics do not have one number per example, a metric has a reserved name, or the carry changes its
            structure, shapes or dtypes.
    """
    outcome = loss_fn(params, batch.examples, key, carry)
    if not isinstance(outcome, Outcome):
        raise TypeError(f"loss_fn must return jlstm.train.Outcome(losses, metrics, carry), got {type(outcome).__name__}")
    for name, values in {"losses": outcome.losses, **outcome.metrics}.items():
        if jnp.shape(values) != batch.weights.shape:
            raise ValueError(
                f"loss_fn must return one number an example, {name} of shape {batch.weights.shape}, got {jnp.shape(values)}: "
                "leave the mean over the batch to fit"
            )
        if name in RESERVED:
            raise ValueError(f"a metric cannot be called {name!r}, a record has that already: choose another name")
    if _shapes(outcome.carry) != _shapes(carry):
        raise ValueError(
            f"loss_fn must return a carry like the one that it is given, {_shapes(carry)}, got {_shapes(outcome.carry)}: "
            "give begin (size -> carry) for the first, and return Outcome(losses, metrics, carry)"
        )
    return outcome


def mean(values: Float[Array, " size"], weights: Float[Array, " size"]) -> Float[Array, ""]:
    """Return the weighted mean, summed in float32 or wider. Values of weight zero may be NaN."""
    # Values of weight zero are replaced, since 0 · NaN is NaN.
    dtype = np.promote_types(values.dtype, "float32")
    weights = weights.astype(dtype)
    return (jnp.where(weights > 0, values.astype(dtype), 0) * weights).sum() / weights.sum()


def sums(outcome: Outcome, weights: Float[Array, " size"]) -> dict[str, Float[Array, ""]]:
    """Return the sum of the weights as `weight`, and the weighted sums of losses and metrics by name."""
    values = {"loss": outcome.losses, **outcome.metrics}
    weighted = {name: (jnp.where(weights > 0, value.astype("float32"), 0) * weights).sum() for name, value in values.items()}
    return weighted | {"weight": weights.sum()}


def _shapes(carry: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}", carry)
