"""Gate activations at every step, and gate saturation."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jlstm._src import checks
from jlstm._src.arrays import select
from jlstm.cell import Params, PyTree
from jlstm.introspect.run import in_input_order, run
from jlstm.layers import RNN, Composite, Layer, cell_states


class Trace(NamedTuple):
    """Gates and carries of a cell at every step. They are zero at steps that do not count.

    The parts of `gates` and `carry` are also attributes: `trace.f` is `trace.gates.f`, `trace.c` is `trace.carry.c`.

    Attributes:
        gates: Gate activations, a NamedTuple. For an LSTM: i, f, g and o, each of shape (*batch, time, units).
        carry: Carry after each step. For an LSTM: h and c.
        counts: Whether a step counts. The others are padding.
    """

    gates: Any
    carry: Any
    counts: Bool[Array, "*batch time"]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the available gates and parts of the carry."""
        return tuple(self._parts())

    def __getattr__(self, name: str) -> Any:
        if name not in (parts := self._parts()):
            raise AttributeError(f"this trace has no {name!r}: it has {', '.join(parts)}")
        return parts[name]

    def _parts(self) -> dict[str, Any]:
        """Return all arrays by name. The carry of a custom cell may be a dict, or may have no names."""
        carry = self.carry._asdict() if hasattr(self.carry, "_asdict") else self.carry
        return (carry if isinstance(carry, dict) else {}) | self.gates._asdict()


class Saturation(NamedTuple):
    """Shares of steps at which each gate was nearly shut or nearly open.

    Attributes:
        below: Shares of steps nearly shut: a NamedTuple like `Trace.gates`, each entry of shape (units,).
        above: Shares of steps nearly open, in the same form.
    """

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
    """Return all gates and carries at every step, without dropout.

    For an LSTM, `c = f · c_before + i · g` at every step that counts. For a wrapped cell, the gates are those of the inner cell.

    Args:
        layer: A layer whose cells have gates: every cell but `ElmanCell`, wrapped or not, and custom cells with `Cell.gates`.
        params: As for `Layer.apply`.
        xs: As for `Layer.apply`.
        carry: As for `Layer.apply`.
        lengths: As for `Layer.apply`.
        mask: As for `Layer.apply`.
        resets: As for `Layer.apply`.

    Returns:
        A `Trace` whose arrays have the same time axis as `xs`. For a Stack, a tuple with one entry per layer. For a
        Bidirectional, a dict with `"forward"` and `"backward"`.

    Raises:
        TypeError: A cell has no gates, or `Layer.apply` raises it.
        ValueError: `Layer.apply` raises it.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.introspect import trace
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> trace(layer, params, jax.numpy.ones((2, 5, 3))).f.shape
        (2, 5, 4)
    """
    sequence = {"lengths": lengths, "mask": mask, "resets": resets}
    jax.eval_shape(lambda: cell_states(layer, params, xs, carry, **sequence))  # traced only for its errors; nothing is computed
    return _trace(layer, params, xs, carry, sequence)


def _trace(layer: Layer, params: Params, xs: Any, carry: PyTree | None, sequence: dict[str, Any]) -> Any:
    if isinstance(layer, Composite):
        calls = layer.calls(params, xs, carry, **sequence)
        return layer.join({key: _trace(call.child, call.params, call.xs, call.carry, sequence) for key, call in calls})
    if not isinstance(layer, RNN):
        raise TypeError(f"trace needs an RNN or layers of those, got {checks.brief(layer)}")
    return _trace_cell(layer, params, xs, carry, **sequence)


def _trace_cell(layer: RNN, params: Params, xs: Any, carry: Any, lengths: Any, mask: Any, resets: Any) -> Trace:
    trajectory = run(layer, params, xs, carry, lengths, mask, resets)
    if (gates := trajectory.gates()) is None:
        raise TypeError(f"trace needs a cell with gates, and {layer.cell!r} has none: jlstm.cell_states has what it carries")
    gates = select(trajectory.counts, gates, jax.tree.map(jnp.zeros_like, gates))
    return Trace(*in_input_order(layer, (gates, trajectory.carry_after, trajectory.counts), trajectory.counts.ndim - 1))


def saturation(traces: Any, low: float = 0.05, high: float = 0.95) -> Any:
    """Return the shares of steps at which each unit's gates are nearly shut (below `low`) or nearly open (above `high`).

    A unit whose forget gate is always open is an integrator. A unit whose forget gate is always shut is feed-forward. The
    candidate g can be negative, so |g| is compared. Steps that do not count are left out.

    Args:
        traces: The result of `trace`, for one layer or for several.
        low: Threshold below which a gate is nearly shut.
        high: Threshold above which a gate is nearly open.

    Returns:
        A `Saturation` for each `Trace`. Its entries have shape (units,).

    Raises:
        TypeError: `traces` is not a result of `trace`.
        ValueError: The thresholds do not satisfy 0 ≤ low ≤ high ≤ 1.

    Reference: Karpathy, Johnson & Li 2015, "Visualizing and Understanding Recurrent Networks",
    https://arxiv.org/abs/1506.02078. They use the thresholds 0.1 and 0.9.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.introspect import saturation, trace
        >>> layer = jlstm.LSTM(4, forget_bias=5)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> saturation(trace(layer, params, jax.numpy.zeros((2, 5, 3)))).above.f.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    low, high = checks.number("low", low), checks.number("high", high)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"low and high must be shares with 0 ≤ low ≤ high ≤ 1, got {low} and {high}")
    if not jax.tree.leaves(traces, is_leaf=lambda node: isinstance(node, Trace)):
        raise TypeError(f"traces must be what jlstm.introspect.trace returns, got {checks.brief(traces)}")
    return jax.tree.map(lambda trace_: _saturation_cell(trace_, low, high), traces, is_leaf=lambda node: isinstance(node, Trace))


def _saturation_cell(trace_: Any, low: float, high: float) -> Saturation:
    if not isinstance(trace_, Trace):
        raise TypeError(f"traces must be what jlstm.introspect.trace returns, got {checks.brief(trace_)}")

    def share(which: Array) -> Array:
        counts = jnp.expand_dims(trace_.counts, range(trace_.counts.ndim, which.ndim))
        total = counts.sum() * math.prod(which.shape[trace_.counts.ndim : -1])  # a ConvLSTM has a gate at every position
        # At least 1: if no step counts, the share is 0, and not 0 / 0.
        return (which & counts).sum(range(which.ndim - 1)) / jnp.maximum(total, 1)

    # The size, since the candidate g lies in [-1, 1]: it counts as open near either end.
    below = jax.tree.map(lambda gate: share(abs(gate) < low), trace_.gates)
    return Saturation(below, jax.tree.map(lambda gate: share(abs(gate) > high), trace_.gates))
