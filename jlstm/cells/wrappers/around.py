"""Residual and highway connections around a cell, and a learned initial carry."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src import checks
from jlstm._src.arrays import broadcast_leading
from jlstm.cell import Params, PyTree, Reduced
from jlstm.cells.wrappers.base import Nested, Wrapper
from jlstm.initializers import draw


def _check_sizes(wrapper: Wrapper, features: int) -> None:
    """Require that inputs and outputs of a wrapper have the same sizes, so that they can be added."""
    if wrapper.features_out != features:
        name, size = type(wrapper).__name__, wrapper.features_out
        raise ValueError(f"{name} adds inputs to outputs: inputs must have {size} features as the outputs have, got {features}")
    if wrapper.spatial_out != (sizes := wrapper.spatial_in):
        name, out = type(wrapper).__name__, wrapper.spatial_out
        raise ValueError(
            f"{name} adds inputs to outputs: the cell must keep their spatial sizes {sizes}, but makes {out} of them"
        )


@dataclass(frozen=True, repr=False)
class Residual(Wrapper):
    """Add the input to the output: y' = y + x.

    Args:
        cell: a cell that returns as many features as it gets.

    Raises:
        TypeError: `cell` is not a Cell.
        ValueError: at `init`, if the sizes of inputs and outputs differ.

    Reference: Wu et al., 2016, "Google's neural machine translation system", https://arxiv.org/abs/1609.08144.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(Residual(jlstm.LSTMCell(3)))
        >>> params, xs = layer.init(jax.random.key(0), features=3), jax.numpy.ones((2, 5, 3))
        >>> _, ys = layer.apply(params, xs)
        >>> _, inner = jlstm.LSTM(3).apply(params, xs)
        >>> bool(jax.numpy.allclose(ys, inner + xs))
        True
    """

    @property
    def gives_h(self) -> bool:
        """False: the output is a sum with the input, not the h of the carry."""
        return False

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        _check_sizes(self, features)
        return self.cell.init(key, features, dtype)

    def enter(self, params: Params, drawn: PyTree, xs: Array, fresh: PyTree) -> tuple[Array, PyTree]:
        # The second one reaches `leave` as `beside`.
        return xs, xs

    def leave(self, drawn: PyTree, beside: PyTree, y: Array) -> Array:
        return y + beside


@dataclass(frozen=True, repr=False)
class Highway(Wrapper):
    """Mix output and input by a gate: y' = t ⊙ y + (1 - t) ⊙ x, with t = σ(x W + b).

    Parameters: `cell`, the parameters of the inner cell; `kernel` W (features, features); `bias` b (features,), which starts at
    -1, so that most of the input passes at first.

    Args:
        cell: a cell that returns as many features as it gets.

    Raises:
        TypeError: `cell` is not a Cell.
        ValueError: at `init`, if the sizes of inputs and outputs differ.

    Reference: Srivastava, Greff & Schmidhuber, 2015, "Highway networks", https://arxiv.org/abs/1505.00387.
    Differs from: TensorFlow contrib's HighwayWrapper computes 1 - t, from weights of the other sign.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(Highway(jlstm.LSTMCell(3)))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> params["kernel"].shape, params["cell"]["kernel"].shape
        ((3, 3), (3, 12))
    """

    @property
    def gives_h(self) -> bool:
        """False: the output is a sum with the input, not the h of the carry."""
        return False

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        _check_sizes(self, features)
        for_cell, for_kernel = jax.random.split(key)
        # A bias of -1 makes t = σ(-1) ≈ 0.27 at first, so that most of the input passes (Srivastava et al., 2015).
        kernel = draw("glorot_uniform", for_kernel, (features, features), dtype)
        return {"cell": self.cell.init(for_cell, features, dtype), "kernel": kernel, "bias": -jnp.ones(features, dtype)}

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        return params["cell"]

    def enter(self, params: Params, drawn: PyTree, xs: Array, fresh: PyTree) -> tuple[Array, PyTree]:
        """Return the inputs for the inner cell, and inputs and gate for `leave`. The gate does not see the carry."""
        sums = xs @ params["kernel"]
        return xs, (xs, jax.nn.sigmoid(sums + broadcast_leading(params["bias"], sums)))

    def leave(self, drawn: PyTree, beside: PyTree, y: Array) -> Array:
        x, t = beside
        return t * y + (1 - t) * x


@dataclass(frozen=True, repr=False)
class LearnedCarry(Wrapper):
    """Learn the initial carry: it is a parameter, the same for all sequences. Resets put it back.

    Parameters: `cell`, the parameters of the inner cell; `carry`, the initial carry without batch axes, which starts with the
    initial carry of the inner cell.

    Args:
        cell: any cell.

    Raises:
        TypeError: `cell` is not a Cell.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.RNN(LearnedCarry(jlstm.LSTMCell(4)))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> params["carry"].h.shape, layer.initial_carry(params, batch_shape=(2,)).h.shape
        ((4,), (2, 4))
    """

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        inner = self.cell.init(key, features, dtype)
        # Batch shape (): one carry without batch axes, which `begin` broadcasts to any batch.
        return {"cell": inner, "carry": self.cell.begin(inner, (), dtype)[0]}

    def outer_carry(self, params: Params, batch_shape: tuple[int, ...], carry: PyTree) -> PyTree:
        """Return the learned carry, for each sequence of the batch."""
        # A reset goes back to this carry too, since a run takes its initial carry from `begin`.
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), params["carry"])

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        checks.instance("params", params, dict, "{'cell': …, 'carry': …}")
        return params["cell"]

    def reduced(self, params: Params, context: Nested, xs: Any) -> Reduced | None:
        """Return the run of the inner cell, marked as one with another initial carry."""
        inner = super().reduced(params, context, xs)
        # With resets `reduce` must keep this wrapper: the inner cell alone would reset to its own initial carry.
        return inner and inner._replace(same_initial_carry=False)
