"""Layers as Flax linen modules. The parameters of a module are those of the layer.

`Recurrent` returns `(carry, ys)`. `Outputs` returns only the outputs, as `nn.Sequential` needs. `Step` runs one step, as
`nn.scan` needs. All three have the same parameters; those of a Stack are called `"0"`, `"1"`, ….

This module needs `pip install "jlstm[flax]"`.
"""

from typing import Any

import jax
from jaxtyping import Array

from jlstm._src import checks
from jlstm._src.packages import needed_by
from jlstm.cell import Params, PyTree
from jlstm.layers import Layer

with needed_by("jlstm.linen", "jlstm[flax]"):
    from flax import linen as nn


class Recurrent(nn.Module):
    """A layer as a module. Calls take the arguments of `Layer.apply` that follow `params`, and return the same results.

    Dropout is on if `key` or `dropout_masks` is passed or if `apply` gets a `"dropout"` rng. Otherwise it is off.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.linen import Recurrent
        >>> model, xs = Recurrent(jlstm.LSTM(4)), jax.numpy.ones((2, 5, 3))
        >>> (carry, ys), variables = model.init_with_output(jax.random.key(0), xs)
        >>> sorted(variables["params"])
        ['bias', 'kernel', 'recurrent_kernel']
    """

    layer: Layer

    @nn.compact
    def __call__(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> tuple[PyTree, Array]:
        """Run `Layer.apply`; `sequence` holds its keyword arguments `lengths`, `mask`, `resets`, `key` and `dropout_masks`."""
        return _apply(self, xs, carry, sequence)


class Outputs(nn.Module):
    """A `Recurrent` that returns the outputs alone, as `nn.Sequential` needs.

    Examples:
        >>> import jax, jlstm
        >>> from flax import linen as nn
        >>> from jlstm.linen import Outputs
        >>> model, xs = nn.Sequential([Outputs(jlstm.LSTM(4)), nn.Dense(2)]), jax.numpy.ones((2, 5, 3))
        >>> ys, variables = model.init_with_output(jax.random.key(0), xs)
        >>> ys.shape
        (2, 5, 2)
    """

    layer: Layer

    @nn.compact
    def __call__(self, xs: Array, carry: PyTree | None = None, **sequence: Any) -> Array:
        """Return the outputs `ys` of `Layer.apply`."""
        return _apply(self, xs, carry, sequence)[1]


class Step(nn.Module):
    """One time step of a layer without dropout, `(carry, x) -> (carry, y)`, as `nn.scan` needs.

    The optional third argument `reset` is that of `Layer.step`.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.linen import Step
        >>> model, x = Step(jlstm.LSTM(4)), jax.numpy.ones((2, 3))
        >>> (carry, y), variables = model.init_with_output(jax.random.key(0), None, x)
        >>> carry, y = model.apply(variables, carry, x)  # the next step
        >>> y.shape
        (2, 4)
    """

    layer: Layer

    @nn.compact
    def __call__(self, carry: PyTree | None, x: Array, reset: Array | None = None) -> tuple[PyTree, Array]:
        """Run `Layer.step`."""
        return self.layer.step(_params(self, x.shape[-1]), carry, x, reset=reset)


def _apply(module: Any, xs: Array, carry: PyTree | None, sequence: dict[str, Any]) -> tuple[PyTree, Array]:
    xs = checks.inputs("xs", xs, axes=("time", "features"))
    params = _params(module, xs.shape[-1])
    has_masks = sequence.get("key") is not None or sequence.get("dropout_masks") is not None
    if module.layer.stochastic and not has_masks and module.has_rng("dropout"):
        sequence = sequence | {"key": module.make_rng("dropout")}
    return module.layer.apply(params, xs, carry, **sequence)


def _params(module: Any, features: int) -> Params:
    checks.instance("layer", module.layer, Layer, "LSTM(units)")
    # The keys of the parameters are needed also where none are drawn.
    shapes = jax.eval_shape(lambda: module.layer.init(jax.random.key(0), features))
    names = range(len(shapes)) if isinstance(shapes, tuple) else shapes
    if module.is_initializing():
        # The layer draws all parameters at once, as without Flax. `param` only stores them under their names.
        drawn = module.layer.init(module.make_rng("params"), features)
        entries = {name: module.param(str(name), lambda _, name=name: drawn[name]) for name in names}
    else:
        entries = {name: module.get_variable("params", str(name)) for name in names}
    return tuple(entries.values()) if isinstance(shapes, tuple) else entries
