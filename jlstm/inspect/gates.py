"""What every gate let through at every step, and how often it was saturated."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jlstm import checks
from jlstm.backends.scan import select
from jlstm.cell import Params, PyTree
from jlstm.cells import Gates
from jlstm.inspect.run import as_given, run
from jlstm.layers import RNN, Bidirectional, Layer, Stack, cell_states


class Trace(NamedTuple):
    """All that an LSTM computed: its gates after their activation functions, its cell states and its outputs, step by step."""

    i: Float[Array, "*batch time units"]
    f: Float[Array, "*batch time units"]
    g: Float[Array, "*batch time units"]
    o: Float[Array, "*batch time units"]
    c: Float[Array, "*batch time units"]
    h: Float[Array, "*batch time units"]


class Saturation(NamedTuple):
    """For each gate and unit, the share of steps at which it was nearly shut and nearly open."""

    below: Gates
    above: Gates


def trace(
    layer: Layer,
    params: Params,
    xs: Float[Array, "*batch time features"],
    carry: PyTree | None = None,
    *,
    lengths: Int[Array, "*batch"] | None = None,
    mask: Bool[Array, "*batch time"] | None = None,
    resets: Bool[Array, "*batch time"] | None = None,
) -> Any:
    """Return every gate, cell state and output at every step, without dropout.

    At every step that counts `c = f · c_before + i · g`.

    Args:
        layer: of cells that offer `gates`, as `LSTMCell` does.
        params, xs, carry, lengths, mask, resets: as for `Layer.apply`.

    Returns:
        A `Trace`, whose arrays have time where `xs` has it, and are zero where a step does not count; of a Stack a tuple with one
        entry a layer, of a Bidirectional a dict with `"forward"` and `"backward"`.

    Raises:
        TypeError: a cell that offers no gates.
        ValueError, TypeError: what `Layer.apply` raises.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.inspect import trace
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> trace(layer, params, jax.numpy.ones((2, 5, 3))).f.shape
        (2, 5, 4)
    """
    sequence = {"lengths": lengths, "mask": mask, "resets": resets}
    jax.eval_shape(lambda: cell_states(layer, params, xs, carry, **sequence))  # refuses what does not fit, and computes nothing
    if isinstance(layer, Stack):
        traces = []
        for one, p, c in zip(layer.layers, params, carry or (None,) * len(layer.layers), strict=True):
            traces.append(trace(one, p, xs, c, **sequence))
            _, xs = one.apply(p, xs, c, **sequence)
        return tuple(traces)
    if isinstance(layer, Bidirectional):
        both = {"forward": layer.layer, "backward": layer.layer.flipped()}
        return {name: trace(one, params[name], xs, carry and carry[name], **sequence) for name, one in both.items()}
    if not isinstance(layer, RNN) or not hasattr(layer.cell, "gates"):
        raise TypeError(f"trace needs a cell with gates such as LSTMCell, got {layer!r}: jlstm.cell_states has what it carries")
    return _trace_cell(layer, params, xs, carry, lengths, mask, resets)


def _trace_cell(layer: Any, params: Params, xs: Any, carry: Any, lengths: Any, mask: Any, resets: Any) -> Trace:
    it = run(layer, params, xs, carry, lengths, mask, resets)
    gates = jax.vmap(lambda before, z: layer.cell.gates(it.params, it.context, before, z))(it.before, it.zs)
    if it.mask is not None:
        gates = select(it.mask, gates, jax.tree.map(jnp.zeros_like, gates))
    return as_given(layer, Trace(**gates._asdict(), c=it.after.c, h=it.after.h))


def saturation(traces: Any, low: float = 0.05, high: float = 0.95) -> Any:
    """Return how often each unit's gates were nearly shut, below `low`, or nearly open, above `high`.

    A forget gate that is always open makes its unit an integrator, one that is always shut a feed-forward unit. Of the candidate
    g, which has a sign, |g| is compared. Steps that do not count, at which a trace is zero, are left out.

    Args:
        traces: what `trace` returns, of one layer or of several.
        low: below this a gate is nearly shut.
        high: above this it is nearly open.

    Returns:
        `Saturation(below, above)` for each `Trace`, both `Gates` of shares with shape (units,); their mean is the gate's.

    Raises:
        ValueError: not 0 ≤ low ≤ high ≤ 1.

    Reference: Karpathy, Johnson & Li 2015, who take 0.1 and 0.9.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.inspect import saturation, trace
        >>> layer = jlstm.LSTM(4, forget_bias=5)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> saturation(trace(layer, params, jax.numpy.zeros((2, 5, 3)))).above.f.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    low, high = checks.number("low", low), checks.number("high", high)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"low and high must be shares with 0 ≤ low ≤ high ≤ 1, got {low} and {high}")
    return jax.tree.map(lambda one: _saturation_cell(one, low, high), traces, is_leaf=lambda node: isinstance(node, Trace))


def _saturation_cell(one: Trace, low: float, high: float) -> Saturation:
    gates = Gates(one.i, one.f, abs(one.g), one.o)
    counts = jnp.any(jnp.stack(gates) != 0, axis=(0, -1))
    total = jnp.maximum(counts.sum(), 1)

    def share(which: Array) -> Array:
        return (which & counts[..., None]).sum(range(which.ndim - 1)) / total

    return Saturation(
        *(Gates(*(share(which) for which in side)) for side in ([g < low for g in gates], [g > high for g in gates]))
    )
