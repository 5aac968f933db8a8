"""What every gate let through at every step, and how often it was saturated."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jlstm import checks
from jlstm.backends.scan import select
from jlstm.cell import Params, PyTree
from jlstm.inspect.run import as_given, run
from jlstm.layers import RNN, Bidirectional, Layer, Stack, cell_states


class Trace(NamedTuple):
    """All that happened inside a cell, step by step; zero where a step does not count.

    The parts of `gates` and `carry` can be asked for by name: `trace.f` is `trace.gates.f`, `trace.c` is `trace.carry.c`.

    Attributes:
        gates: what the gates let through, a NamedTuple: of an LSTM i, f, g and o, each (*batch, time, units).
        carry: what was carried after each step: of an LSTM h and c.
        counts: which steps count; the others are padding.
    """

    gates: Any
    carry: Any
    counts: Bool[Array, "*batch time"]

    @property
    def names(self) -> tuple[str, ...]:
        """What can be asked for."""
        return tuple(self._parts())

    def __getattr__(self, name: str) -> Any:
        if name not in (parts := self._parts()):
            raise AttributeError(f"this trace has no {name!r}: it has {', '.join(parts)}")
        return parts[name]

    def _parts(self) -> dict[str, Any]:
        """All arrays by name; a carry of somebody's own may be a dict, or have no names."""
        carry = self.carry._asdict() if hasattr(self.carry, "_asdict") else self.carry
        return (carry if isinstance(carry, dict) else {}) | self.gates._asdict()


class Saturation(NamedTuple):
    """For each gate and unit, the share of steps at which it was nearly shut and nearly open; NamedTuples like `Trace.gates`."""

    below: Any
    above: Any


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
    """Return every gate and every carry at every step, without dropout.

    Of an LSTM, `c = f · c_before + i · g` at every step that counts. Of a cell around another one the gates are the inner cell's.

    Args:
        layer: of cells that have gates: all but `ElmanCell`, wrapped or not, and any of your own that defines `Cell.gates`.
        params, xs, carry, lengths, mask, resets: as for `Layer.apply`.

    Returns:
        A `Trace`, whose arrays have time where `xs` has it; of a Stack a tuple with one entry a layer, of a Bidirectional a dict
        with `"forward"` and `"backward"`.

    Raises:
        TypeError: a cell that has no gates.
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
        for inner, p, c in zip(layer.layers, params, carry or (None,) * len(layer.layers), strict=True):
            traces.append(trace(inner, p, xs, c, **sequence))
            _, xs = inner.apply(p, xs, c, **sequence)
        return tuple(traces)
    if isinstance(layer, Bidirectional):
        both = {"forward": layer.layer, "backward": layer.layer.flipped()}
        return {name: trace(inner, params[name], xs, carry and carry[name], **sequence) for name, inner in both.items()}
    if not isinstance(layer, RNN):
        raise TypeError(f"trace needs an RNN or layers of those, got {layer!r}")
    return _trace_cell(layer, params, xs, carry, lengths, mask, resets)


def _trace_cell(layer: RNN, params: Params, xs: Any, carry: Any, lengths: Any, mask: Any, resets: Any) -> Trace:
    seen = run(layer, params, xs, carry, lengths, mask, resets)
    if (gates := seen.gates()) is None:
        raise TypeError(f"trace needs a cell with gates, and {layer.cell!r} has none: jlstm.cell_states has what it carries")
    gates = select(seen.counts, gates, jax.tree.map(jnp.zeros_like, gates))
    return Trace(*as_given(layer, (gates, seen.after, seen.counts), seen.counts.ndim - 1))


def saturation(traces: Any, low: float = 0.05, high: float = 0.95) -> Any:
    """Return how often each unit's gates were nearly shut, below `low`, or nearly open, above `high`.

    A forget gate that is always open makes its unit an integrator, one that is always shut a feed-forward unit. Of the candidate
    g, which has a sign, |g| is compared. Steps that do not count are left out.

    Args:
        traces: what `trace` returns, of one layer or of several.
        low: below this a gate is nearly shut.
        high: above this it is nearly open.

    Returns:
        `Saturation(below, above)` for each `Trace`, both like its `gates`, of shares with shape (units,); their mean is the
        gate's.

    Raises:
        TypeError: something else than traces.
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
    return jax.tree.map(lambda seen: _saturation_cell(seen, low, high), traces, is_leaf=lambda node: isinstance(node, Trace))


def _saturation_cell(seen: Any, low: float, high: float) -> Saturation:
    if not isinstance(seen, Trace):
        raise TypeError(f"traces must be what jlstm.inspect.trace returns, got {checks.brief(seen)}")

    def share(which: Array) -> Array:
        counts = jnp.expand_dims(seen.counts, range(seen.counts.ndim, which.ndim))
        of_units = counts.sum() * math.prod(which.shape[seen.counts.ndim : -1])  # of a ConvLSTM, at all places
        return (which & counts).sum(range(which.ndim - 1)) / jnp.maximum(of_units, 1)

    below = jax.tree.map(lambda gate: share(abs(gate) < low), seen.gates)
    return Saturation(below, jax.tree.map(lambda gate: share(abs(gate) > high), seen.gates))
