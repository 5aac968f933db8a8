"""Layers as Flax NNX modules. The parameters of a module are those of the layer.

`Recurrent` returns `(carry, ys)`. `Outputs` returns only the outputs, as `nnx.Sequential` needs. Parameters are `nnx.Param`s with
the names that they have in the layer; those of a Stack are called `"0"`, `"1"`, ….

This module needs `pip install "jlstm[flax]"`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm._src import checks
from jlstm._src.arguments import answered
from jlstm._src.packages import needed_by
from jlstm.cell import Params, PyTree
from jlstm.layers import Layer
from jlstm.layers.shapes import check_params

with needed_by("jlstm.nnx", "jlstm[flax]"):
    from flax import nnx

    from jlstm._src.params_module import ParamsModule


class Recurrent(ParamsModule):
    """A layer with its parameters. Calls take the arguments of `Layer.apply` that follow `params`, and return the same results.

    Dropout works as in `nnx.Dropout`: it is on at first and after `train()`, and off after `eval()` and in `nnx.view(model,
    deterministic=True)`. A `key` or `dropout_masks` that is passed to the call is always used.

    Args:
        layer: any layer.
        features: size of the last axis of the inputs, to draw new parameters.
        params: parameters of the layer in place of new ones, for example from `jlstm.load` or `jlstm.convert`.
        rngs: the `params` stream draws the parameters. The `dropout` stream draws the masks, if the layer has dropout.

    Raises:
        TypeError: `layer` is not a Layer, or neither `params` nor both `features` and `rngs` are passed.
        ValueError: both `features` and `params` are passed, `params` are not those of the layer, or `rngs` lacks a stream.

    Examples:
        >>> import jax, jlstm
        >>> from flax import nnx
        >>> from jlstm.nnx import Recurrent
        >>> model = Recurrent(jlstm.LSTM(4), features=3, rngs=nnx.Rngs(0))
        >>> carry, ys = model(jax.numpy.ones((2, 5, 3)))
        >>> model.kernel.shape, ys.shape
        ((3, 16), (2, 5, 4))
        >>> same = Recurrent(jlstm.LSTM(4), params=model.params)
    """

    @answered("Recurrent")
    def __init__(
        self, layer: Layer, features: int | None = None, *, params: Params | None = None, rngs: nnx.Rngs | None = None
    ) -> None:
        checks.instance("layer", layer, Layer, "LSTM(units)")
        self.layer = layer
        super().__init__(_params(layer, features, params, rngs), stochastic=layer.stochastic, rngs=rngs)

    def __call__(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> tuple[PyTree, Array]:
        """Run `Layer.apply`; `sequence` holds its keyword arguments `lengths`, `mask`, `resets`, `key` and `dropout_masks`."""
        if sequence.get("dropout_masks") is None:
            sequence = self.with_key(sequence)
        return self.layer.apply(self.params, xs, carry, **sequence)

    def step(self, carry: PyTree | None, x: Array, *, reset: Array | None = None) -> tuple[PyTree, Array]:
        """Run `Layer.step`: one time step, without dropout, for `nnx.scan` and streaming."""
        return self.layer.step(self.params, carry, x, reset=reset)

    def initial_carry(self, batch_shape: tuple[int, ...], dtype: Any = None) -> PyTree:
        """Return `Layer.initial_carry`: where a sequence starts from when no carry is passed."""
        return self.layer.initial_carry(self.params, batch_shape, dtype)

    def last_output(self, carry: PyTree) -> Any:
        """Return `Layer.last_output`: the output of the last step that counts."""
        return self.layer.last_output(carry)

    @property
    def features_out(self) -> int:
        """The size of the outputs' last axis."""
        return self.layer.features_out


def _params(layer: Layer, features: int | None, params: Params | None, rngs: nnx.Rngs | None) -> Params:
    if params is not None:
        if features is not None:
            raise ValueError("features and params are both given, expected one of them: params tell how many features there are")
        check_params(layer, params)
        return jax.tree.map(jnp.asarray, params)
    if features is None or rngs is None:
        raise TypeError(
            "Recurrent needs features and rngs to draw parameters, or params: write Recurrent(layer, 28, rngs=nnx.Rngs(0))"
        )
    checks.instance("rngs", rngs, nnx.Rngs, "nnx.Rngs(0)")
    return layer.init(rngs.params(), features)


class Outputs(Recurrent):
    """A `Recurrent` that returns the outputs alone, as `nnx.Sequential` needs.

    Examples:
        >>> import jax, jlstm
        >>> from flax import nnx
        >>> from jlstm.nnx import Outputs
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(Outputs(jlstm.LSTM(4), features=3, rngs=rngs), nnx.Linear(4, 2, rngs=rngs))
        >>> model(jax.numpy.ones((2, 5, 3))).shape
        (2, 5, 2)
    """

    def __call__(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> Array:  # type: ignore[override]  # the purpose of this class
        """Return the outputs `ys` of `Layer.apply`."""
        return super().__call__(xs, carry, **sequence)[1]
