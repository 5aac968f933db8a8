"""Which backend runs what."""

from typing import Any

import jax

from jlstm import backends, checks
from jlstm.cell import Params
from jlstm.layers.layer import Layer


def explain(layer: Layer, params: Params, xs: Any, *args: Any, **options: Any) -> str:
    """Say which backend runs a call of `layer.apply`, and why the faster ones do not, one line for each run of a cell.

    Of a Stack and a Bidirectional a line begins with the layer and the direction. Where a layer has dropout and no key is given,
    the last line says that it is off.

    Nothing is computed: arrays may be `jax.ShapeDtypeStruct`s. The same lines go to the log "jlstm.backends" (level DEBUG) when a
    call is traced.

    Args:
        layer: any layer; of a Flax module its `layer`.
        params: as `init` makes them.
        xs: inputs.
        args: the carry, if any.
        options: as for `Layer.apply`.

    Raises:
        ValueError, TypeError: what `Layer.apply` raises.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4, backend="fused")
        >>> params = layer.init(jax.random.key(0), 3)
        >>> print(jlstm.explain(layer, params, jax.numpy.ones((2, 5, 3))))
        LSTMCell(units=4) is run by fused
        >>> print(jlstm.explain(jlstm.LSTM(4, backend="fused", activation="relu"), params, jax.numpy.ones((2, 5, 3))))
        LSTMCell(units=4, activation='relu') is run by scan; not by fused: it is for the activations sigmoid and tanh
    """
    checks.instance("layer", layer, Layer, "LSTM(units)")
    with backends.recorded() as choices:
        jax.eval_shape(lambda *arrays: layer.apply(*arrays, **options), params, xs, *args)
    off = layer.stochastic and options.get("key") is None and options.get("noise") is None
    return "\n".join([*map(str, choices), *(["dropout is off, since no key is given"] if off else [])])
