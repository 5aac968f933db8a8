"""Connections around a cell, and a carry that is learned."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm import checks
from jlstm.cell import Noisy, Params, PyTree
from jlstm.cells.normalization import along
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

    def project(self, params: Params, context: Both, xs: Any) -> Both:
        """The inputs, beside what the inner cell projects."""
        return super().project(params, context, xs)._replace(own=xs.xs if isinstance(xs, Noisy) else xs)

    def step(self, params: Params, context: Both, carry: PyTree, z: Both) -> tuple[PyTree, Array]:
        """The cell's step and the sum."""
        carry, y = super().step(params, context, carry, z)
        return carry, y + z.own


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

    def begin(self, params: Params, *rest: Any, **noise: Any) -> tuple[PyTree, Both]:
        """The inner cell's."""
        return super().begin(params["cell"], *rest, **noise)

    def features_in(self, params: Params) -> int:
        """The inner cell's."""
        return self.cell.features_in(params["cell"])

    def each_step(self, params: Params, *rest: Any, **noise: Any) -> Both | None:
        """The inner cell's."""
        return super().each_step(params["cell"], *rest, **noise)

    def project(self, params: Params, context: Both, xs: Any) -> Both:
        """The inputs and the gate, beside what the inner cell projects."""
        plain = xs.xs if isinstance(xs, Noisy) else xs
        sums = plain @ params["kernel"]
        return (
            super().project(params["cell"], context, xs)._replace(own=(plain, jax.nn.sigmoid(sums + along(params["bias"], sums))))
        )

    def step(self, params: Params, context: Both, carry: PyTree, z: Both) -> tuple[PyTree, Array]:
        """The cell's step and the sum."""
        carry, y = super().step(params["cell"], context, carry, z)
        x, t = z.own
        return carry, t * y + (1 - t) * x


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
        _, context = super().begin(params["cell"], batch_shape, dtype, **noise)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), params["carry"]), context

    def features_in(self, params: Params) -> int:
        """The inner cell's."""
        return self.cell.features_in(params["cell"])

    def each_step(self, params: Params, *rest: Any, **noise: Any) -> Both | None:
        """The inner cell's."""
        return super().each_step(params["cell"], *rest, **noise)

    def project(self, params: Params, context: Both, xs: Any) -> Both:
        """The inner cell's."""
        return super().project(params["cell"], context, xs)

    def step(self, params: Params, context: Both, carry: PyTree, z: Both) -> tuple[PyTree, Array]:
        """The inner cell's."""
        return super().step(params["cell"], context, carry, z)
