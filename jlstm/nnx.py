"""Any layer as a Flax NNX module, with the layer's own parameter tree.

`Recurrent` returns `(carry, ys)`, `Outputs` the outputs alone, as `nnx.Sequential` wants. Parameters are `nnx.Param`s
under the layer's names; those of a Stack are called `"0"`, `"1"`, ….
"""

from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

from jlstm import checks
from jlstm.cell import Params, PyTree
from jlstm.layers import Layer


class Recurrent(nnx.Module):
    """A layer over a sequence: takes what `Layer.apply` takes after the parameters, returns what it returns.

    Dropout follows `nnx.Dropout`: on from the start and after `train()`, off after `eval()`; a key given by hand comes first.

    Args:
        layer: any layer.
        features: size of the inputs' last axis.
        rngs: its `params` stream draws the parameters, its `dropout` stream, if the layer has dropout, the masks.

    Examples:
        >>> import jax, jlstm
        >>> from flax import nnx
        >>> from jlstm.nnx import Recurrent
        >>> model = Recurrent(jlstm.LSTM(4), features=3, rngs=nnx.Rngs(0))
        >>> carry, ys = model(jax.numpy.ones((2, 5, 3)))
        >>> model.kernel.shape, ys.shape
        ((3, 16), (2, 5, 4))
    """

    def __init__(self, layer: Layer, features: int, *, rngs: nnx.Rngs) -> None:
        checks.instance("layer", layer, Layer, "LSTM(units)")
        self.layer = layer
        params = layer.init(rngs.params(), features)
        self.stacked = isinstance(params, tuple)
        entries = {str(i): entry for i, entry in enumerate(params)} if isinstance(params, tuple) else params
        self.names = tuple(entries)
        for name, entry in entries.items():
            if hasattr(type(self), name) or name in ("layer", "stacked", "names", "deterministic", "rngs"):
                raise ValueError(f"the layer has a parameter {name!r}, which this module has for something else: rename it")
            setattr(self, name, nnx.data(jax.tree.map(nnx.Param, entry)))
        self.deterministic = False
        if layer.stochastic and not ("dropout" in rngs or "default" in rngs):
            raise ValueError(
                "the layer has dropout but rngs has no such stream: pass nnx.Rngs(0) or nnx.Rngs(params=0, dropout=1)"
            )
        self.rngs: Any = nnx.data(rngs.dropout.fork() if layer.stochastic else None)

    def __call__(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> tuple[PyTree, Array]:
        """`Layer.apply`, with `lengths`, `mask`, `resets`, `key`, `noise` by name."""
        given = sequence.get("key") is not None or sequence.get("noise") is not None
        if self.layer.stochastic and not given and not self.deterministic:
            sequence = sequence | {"key": self.rngs()}
        return self.layer.apply(self.params, xs, carry, **sequence)

    def step(self, carry: PyTree | None, x: Array) -> tuple[PyTree, Array]:
        """`Layer.step`: one time step, without dropout, for `nnx.scan` and streaming."""
        return self.layer.step(self.params, carry, x)

    @property
    def params(self) -> Params:
        """The parameters as `Layer.apply` takes them."""
        entries = {name: nnx.as_pure(getattr(self, name)) for name in self.names}
        return tuple(entries.values()) if self.stacked else entries


class Outputs(Recurrent):
    """The same, returning the outputs alone."""

    def __call__(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> Array:  # type: ignore[override]  # all that differs
        """The `ys` of `Layer.apply`."""
        return super().__call__(xs, carry, **sequence)[1]
