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
from jlstm._src.description import features_in
from jlstm._src.packages import needed_by
from jlstm.cell import Params, PyTree
from jlstm.layers import Layer, param_shapes

with needed_by("jlstm.nnx", "jlstm[flax]"):
    from flax import nnx


class Recurrent(nnx.Module):
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
        params = _params(layer, features, params, rngs)
        # The parameters of a Stack are a tuple. Attributes need names, so its entries are called 0, 1, …
        self.stacked = isinstance(params, tuple)
        entries = {str(i): entry for i, entry in enumerate(params)} if isinstance(params, tuple) else params
        self.names = tuple(entries)
        for name, entry in entries.items():
            if hasattr(type(self), name) or name in ("layer", "stacked", "names", "deterministic", "rngs"):
                raise ValueError(f"the layer has a parameter {name!r}, which this module has for something else: rename it")
            setattr(self, name, nnx.data(jax.tree.map(nnx.Param, entry)))
        self.deterministic = False
        self.rngs: Any = nnx.data(_stream(rngs) if layer.stochastic else None)

    def __call__(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> tuple[PyTree, Array]:
        """Run `Layer.apply`; `sequence` holds its keyword arguments `lengths`, `mask`, `resets`, `key` and `dropout_masks`."""
        has_masks = sequence.get("key") is not None or sequence.get("dropout_masks") is not None
        if self.layer.stochastic and not has_masks and not self.deterministic:
            sequence = sequence | {"key": self.rngs()}
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

    def set_view(self, deterministic: bool | None = None) -> None:
        """Turn dropout off or on, for `nnx.view`; None leaves it as it is."""
        if deterministic is not None:
            checks.flag("deterministic", deterministic)
            self.deterministic = deterministic

    @property
    def features_out(self) -> int:
        """The size of the outputs' last axis."""
        return self.layer.features_out

    @property
    def params(self) -> Params:
        """The parameters as `Layer.apply` takes them; may be set to other ones of the same shapes."""
        entries = {name: nnx.as_pure(getattr(self, name)) for name in self.names}
        return tuple(entries.values()) if self.stacked else entries

    @params.setter
    def params(self, params: Params) -> None:
        """Set the values of all variables."""
        checks.tree("params", params, self.params, "pass parameters of this layer")
        for k, name in enumerate(self.names):
            values = params[k if self.stacked else name]
            jax.tree.map(
                lambda variable, value: variable.set_value(jnp.asarray(value)), getattr(self, name), values, is_leaf=_is_variable
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "params":  # Flax would store the value as an attribute, and not call the setter
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _params(layer: Layer, features: int | None, params: Params | None, rngs: nnx.Rngs | None) -> Params:
    if params is not None:
        if features is not None:
            raise ValueError("features and params are both given, expected one of them: params tell how many features there are")
        checks.tree("params", params, param_shapes(layer, features_in(layer, params)), "pass what init of this layer returned")
        return jax.tree.map(jnp.asarray, params)
    if features is None or rngs is None:
        raise TypeError(
            "Recurrent needs features and rngs to draw parameters, or params: write Recurrent(layer, 28, rngs=nnx.Rngs(0))"
        )
    checks.instance("rngs", rngs, nnx.Rngs, "nnx.Rngs(0)")
    return layer.init(rngs.params(), features)


def _stream(rngs: nnx.Rngs | None) -> Any:
    if rngs is None or not ("dropout" in rngs or "default" in rngs):
        raise ValueError("the layer has dropout but rngs has no such stream: pass nnx.Rngs(0) or nnx.Rngs(params=0, dropout=1)")
    return rngs.dropout.fork()


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
