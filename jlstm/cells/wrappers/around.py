"""Connections around a cell, and a carry that is learned."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm import checks
from jlstm.arrays import broadcast_leading
from jlstm.cell import Params, PyTree, Reduced
from jlstm.cells.wrappers.base import Both, Wrapper
from jlstm.initializers import draw


def _same_size(wrapper: Wrapper, features: int) -> None:
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
    """The output plus the input: y' = y + x.

    Args:
        cell: one with as many features out as in.

    Raises:
        ValueError: at `init`, if it has not.

    Reference: Wu et al. 2016.
    """

    @property
    def gives_h(self) -> bool:
        """No: the sum."""
        return False

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """The inner cell's parameters."""
        _same_size(self, features)
        return self.cell.init(key, features, dtype)

    def enter(self, params: Params, drawn: PyTree, xs: Array, fresh: PyTree) -> tuple[Array, PyTree]:
        """The inputs, twice."""
        return xs, xs

    def leave(self, drawn: PyTree, beside: PyTree, y: Array) -> Array:
        """The sum."""
        return y + beside


@dataclass(frozen=True, repr=False)
class Highway(Wrapper):
    """The output through a gate, the input through the rest of it: y' = t ⊙ y + (1 - t) ⊙ x, t = σ(x W + b).

    Parameters: `cell`, the inner cell's; `kernel` W (features, features), `bias` b (features,), which starts at -1, so that
    most of the input passes.

    Args:
        cell: one with as many features out as in.

    Raises:
        ValueError: at `init`, if it has not.

    Reference: Srivastava, Greff & Schmidhuber 2015.
    Differs from: TensorFlow contrib's HighwayWrapper computes 1 - t, from weights of the other sign.
    """

    @property
    def gives_h(self) -> bool:
        """No: the sum."""
        return False

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """Draw all."""
        _same_size(self, features)
        for_cell, for_kernel = jax.random.split(key)
        kernel = draw("glorot_uniform", for_kernel, (features, features), dtype)
        return {"cell": self.cell.init(for_cell, features, dtype), "kernel": kernel, "bias": -jnp.ones(features, dtype)}

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        """The entry `cell`."""
        return params["cell"]

    def enter(self, params: Params, drawn: PyTree, xs: Array, fresh: PyTree) -> tuple[Array, PyTree]:
        """The inputs, and beside them the gate."""
        sums = xs @ params["kernel"]
        return xs, (xs, jax.nn.sigmoid(sums + broadcast_leading(params["bias"], sums)))

    def leave(self, drawn: PyTree, beside: PyTree, y: Array) -> Array:
        """The sum."""
        x, t = beside
        return t * y + (1 - t) * x


@dataclass(frozen=True, repr=False)
class LearnedCarry(Wrapper):
    """A carry to begin with that is a parameter, the same for all sequences; resets put it back.

    Parameters: `cell`, the inner cell's; `carry`, as it carries, without batch axes, which starts at the cell's own.

    Args:
        cell: any.
    """

    def init(self, key: Array, features: int, dtype: jax.typing.DTypeLike = "float32") -> Params:
        """Draw the cell's, and take its carry."""
        inner = self.cell.init(key, features, dtype)
        return {"cell": inner, "carry": self.cell.begin(inner, (), dtype)[0]}

    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any, **noise: Any) -> tuple[PyTree, Both]:
        """Return the learned carry."""
        checks.instance("params", params, dict, "{'cell': …, 'carry': …}")
        _, context = super().begin(params, batch_shape, dtype, **noise)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), params["carry"]), context

    def inner_params(self, params: Params, drawn: PyTree) -> Params:
        """The entry `cell`."""
        return params["cell"]

    def reduced(self, params: Params, context: Both, xs: Any) -> Reduced | None:
        """The inner cell, which by itself would begin otherwise."""
        inner = super().reduced(params, context, xs)
        return inner and inner._replace(begins_alike=False)
