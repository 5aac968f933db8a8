"""The function `explain`: which backend runs a layer, and why the faster ones do not."""

from dataclasses import dataclass
from typing import Any

import jax

from jlstm import backends
from jlstm._src import checks
from jlstm.cell import Params
from jlstm.layers.layer import Layer


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Which backends run the cells of a layer. It prints as one line for each cell.

    Attributes:
        choices: the choice for each cell, in the order in which they run.
        dropout_is_off: whether the layer has dropout, and neither a key nor masks were passed.
    """

    choices: tuple[backends.Choice, ...]
    dropout_is_off: bool

    def __str__(self) -> str:
        return "\n".join([*map(str, self.choices), *(["dropout is off, since no key is given"] if self.dropout_is_off else [])])

    __repr__ = __str__


def explain(layer: Layer, params: Params, xs: Any, *args: Any, **options: Any) -> Explanation:
    """Say which backend runs a call of `layer.apply`, and why the faster ones do not.

    Nothing is computed: arrays may be `jax.ShapeDtypeStruct`s. The same lines go to the log "jlstm.backends" (level DEBUG) when a
    call is traced.

    Args:
        layer: any layer. For a Flax module, pass its attribute `layer`.
        params: parameters as `init` returns them.
        xs: inputs.
        args: the carry, if any.
        options: keyword arguments of `Layer.apply`.

    Returns:
        An `Explanation`, which prints as one line for each cell that runs. In a Stack or a Bidirectional the line begins with the
        layer and the direction. The kernel for CPUs is named with its instruction set, as in "cpu (avx2)". If the layer has
        dropout and neither `key` nor `dropout_masks` is passed, the last line says that dropout is off. Its `choices` hold the
        same as data, for example `explain(…).choices[0].backend`.

    Raises:
        ValueError, TypeError: as `Layer.apply` does.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.GRU(4, backend="fused", reset_after=False)
        >>> params = layer.init(jax.random.key(0), 3)
        >>> print(jlstm.explain(layer, params, jax.numpy.ones((2, 5, 3))))
        GRUCell(units=4, reset_after=False) is run by scan; not by fused: the reset gate acts before the product with U
    """
    checks.instance("layer", layer, Layer, "LSTM(units)")
    for name, tree in {"params": params, "xs": xs}.items():
        checks.arrays(name, tree)
    with backends.recorded() as choices:
        # A trace is enough, since backends are chosen while JAX traces: nothing is computed.
        jax.eval_shape(lambda *arrays: layer.apply(*arrays, **options), params, xs, *args)
    off = layer.stochastic and options.get("key") is None and options.get("dropout_masks") is None
    return Explanation(tuple(choices), off)
