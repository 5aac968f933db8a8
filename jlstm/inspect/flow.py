"""How gradients come back through time: exact Jacobians, multiplied backwards step by step."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jlstm.backends.scan import select
from jlstm.cell import Params, PyTree
from jlstm.inspect.run import Run, as_given, run
from jlstm.layers import RNN, Bidirectional, Layer, Stack, cell_states
from jlstm.layers.bidirectional import MERGES
from jlstm.loop import lengths_to_mask


class Flow(NamedTuple):
    """How large derivatives are, for the carry after each step t; T is the step of a sequence that is run last."""

    loss: Float[Array, " time"]
    state: Float[Array, " time"]
    forget: Float[Array, " time"] | None


class Sequence(NamedTuple):
    """What `Layer.apply` takes by name, and how a layer of several hands on to each of its parts."""

    lengths: Any
    mask: Any
    resets: Any


def gradient_flow(
    layer: Layer,
    params: Params,
    xs: Float[Array, "*batch time features"],
    loss_fn: Callable[[Any], Float[Array, ""]] | None = None,
    carry: PyTree | None = None,
    *,
    lengths: Int[Array, "*batch"] | None = None,
    mask: Bool[Array, "*batch time"] | None = None,
    resets: Bool[Array, "*batch time"] | None = None,
) -> Any:
    """Return how much of a gradient arrives at every step, exactly, without dropout.

    The carry after step t is varied, one of its parts at a time while the others are held. Then

        loss[t]    ‖∂L/∂h_t‖, the Euclidean norm over all sequences and units; h_t counts as output of its step, too
        state[t]   ‖∂c_T/∂c_t‖, of cells without c ‖∂h_T/∂h_t‖: the root mean square of the Jacobian's singular values, over all
                   sequences, which is its Frobenius norm / √units; 1 where the state is kept as it is, and at T
        forget[t]  the root mean square, over all sequences and units, of f_(t+1) ··· f_T; None for cells without forget gates f

    over those sequences whose step t counts; zero where none does. A reset cuts the way back: before it all are zero.
    Through c alone a gradient comes back as the product of the forget gates; what `state` has beyond `forget` went through h.
    The Jacobians are carried backwards as `units` rows, so that this costs about `units` backward passes and O(time) memory.

    Args:
        layer: an RNN whose cell returns the `h` of its carry, as LSTM and Elman networks do, or layers of those. Around such a
            cell there may be others: what `Dropout`, `Residual` or `Highway` does to the outputs is a part of L.
        params: as `init` makes them.
        xs: inputs, as for `Layer.apply`.
        loss_fn: L as a function of the layer's outputs; None sums up those at the last step that counts of each sequence.
        carry, lengths, mask, resets: as for `Layer.apply`.

    Returns:
        A `Flow`, its steps in the order of the inputs; of a Stack a tuple with one entry a layer, of a Bidirectional a dict with
        `"forward"` and `"backward"`. L always is that of the whole. `jlstm.plot.flow` draws any of these.

    Raises:
        TypeError: a cell that does not carry `h` and return it, or that has spatial axes.
        ValueError, TypeError: what `Layer.apply` raises.

    Reference: Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.inspect import gradient_flow
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> flow = gradient_flow(layer, params, jax.numpy.ones((2, 5, 3)))
        >>> flow.state.shape, round(float(flow.state[-1]), 6)
        ((5,), 1.0)
    """
    sequence = Sequence(lengths, mask, resets)
    # refuses what does not fit, and computes nothing
    jax.eval_shape(lambda: cell_states(layer, params, xs, carry, **sequence._asdict()))
    if layer.spatial_in:
        raise TypeError(f"gradient_flow needs layers without spatial axes, since it follows each unit, got {layer!r}")
    time_axis = 0 if layer.time_major else -2
    if (time := jnp.shape(xs)[time_axis]) == 0:
        raise ValueError("gradient_flow needs at least one time step, got xs without any")
    if lengths is not None:
        mask = lengths_to_mask(lengths, time)
        mask = jnp.moveaxis(mask, -1, 0) if layer.time_major else mask
    return _flow(layer, params, xs, loss_fn or partial(_sum_of_last, time_axis, mask), carry, sequence)


def _sum_of_last(time_axis: int, mask: Array | None, ys: Any) -> Any:
    """The sum of each sequence's outputs at its last step that counts; outputs at others are zero."""
    if mask is None:
        return sum(jnp.take(leaf, -1, axis=time_axis).sum() for leaf in jax.tree.leaves(ys))
    axis = time_axis if time_axis == 0 else -1
    later = jnp.flip(jnp.cumsum(jnp.flip(mask, axis), axis), axis)
    return sum(jnp.where((mask & (later == 1))[..., None], leaf, 0).sum() for leaf in jax.tree.leaves(ys))


def _flow(layer: Layer, params: Params, xs: Any, loss: Callable, carry: PyTree, sequence: Sequence) -> Any:
    if isinstance(layer, Stack):
        return _flow_stack(layer, params, xs, loss, carry, sequence)
    if isinstance(layer, Bidirectional):
        return _flow_both(layer, params, xs, loss, carry, sequence)
    if isinstance(layer, RNN):
        return _flow_cell(layer, params, xs, loss, carry, sequence)
    raise TypeError(f"gradient_flow needs an RNN or layers of those, got {layer!r}")


def _flow_stack(layer: Stack, params: Params, xs: Any, loss: Callable, carry: PyTree, sequence: Sequence) -> tuple:
    carry, options = carry or (None,) * len(layer.layers), sequence._asdict()
    flows = []
    for k, part in enumerate(layer.layers):

        def of_this(ys: Any, above: int = k + 1) -> Array:
            for upper, p, c in zip(layer.layers[above:], params[above:], carry[above:], strict=True):
                _, ys = upper.apply(p, ys, c, **options)
            return loss(ys)

        flows.append(_flow(part, params[k], xs, of_this, carry[k], sequence))
        _, xs = part.apply(params[k], xs, carry[k], **options)
    return tuple(flows)


def _flow_both(layer: Bidirectional, params: Params, xs: Any, loss: Callable, carry: PyTree, sequence: Sequence) -> dict:
    layers = {"forward": layer.layer, "backward": layer.layer.flipped()}
    carry = carry or dict.fromkeys(layers)
    ys = {name: part.apply(params[name], xs, carry[name], **sequence._asdict())[1] for name, part in layers.items()}
    merge = MERGES[layer.merge]

    def of_this(name: str, y: Any) -> Array:
        both = ys | {name: y}
        return loss(merge(both["forward"], both["backward"]))

    return {name: _flow(part, params[name], xs, partial(of_this, name), carry[name], sequence) for name, part in layers.items()}


def _flow_cell(layer: RNN, params: Params, xs: Any, loss: Callable, carry: PyTree, sequence: Sequence) -> Flow:
    seen = run(layer, params, xs, carry, *sequence)
    h, batch_axes = getattr(seen.after, "h", None), seen.counts.ndim - 1
    if h is None or not seen.cell.gives_h or h.shape[-1] != seen.cell.features_out:
        raise TypeError(
            f"gradient_flow needs a cell that carries h and returns it, as LSTMCell and ElmanCell do, got {layer.cell!r}"
        )
    ys = _where(seen.counts, jax.vmap(seen.step)(seen.before, seen.zs)[1])
    d_ys = jax.grad(lambda ys: loss(as_given(layer, seen.finish(ys), batch_axes)))(ys)
    norms = _backwards(seen, _where(seen.counts, d_ys))
    gates = seen.gates()
    forget = _forget_products(seen, gates.f) if hasattr(gates, "f") else None
    return jax.tree.map(lambda leaf: jnp.flip(leaf) if layer.reverse else leaf, Flow(*norms, forget))


def _backwards(seen: Run, d_ys: Array) -> tuple[Array, Array]:
    """Carry the loss's gradient and the rows of the last state's Jacobian backwards; return the norms of both at every step."""
    name = "c" if hasattr(seen.after, "c") else "h"
    nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), seen.after)
    state = getattr(nothing, name)
    units = state.shape[-1]
    eye = jnp.expand_dims(jnp.eye(units, dtype=state.dtype), range(1, state.ndim))
    rows = jax.tree.map(lambda leaf: jnp.zeros((units, *leaf.shape), leaf.dtype), nothing)
    rows = rows._replace(**{name: jnp.broadcast_to(eye, (units, *state.shape))})

    def back(cotangents: tuple[PyTree, PyTree], step: tuple[PyTree, PyTree, Array, Array, Array | None]) -> Any:
        (d_carry, rows), (before, z, d_y, counts, reset) = cotangents, step
        of_rows = jnp.moveaxis(getattr(rows, name), 0, -1)  # batch axes first, as `counts` has them
        norms = _norm(_where(counts, d_carry.h + d_y)), _mean_norm(counts, of_rows, units)
        _, pullback = jax.vjp(lambda carry: seen.step(carry, z), before)

        def through(d_after: PyTree, d_y: Array) -> PyTree:
            (d_before,) = pullback((d_after, d_y))
            return select(counts, d_before if reset is None else _where(~reset, d_before), d_after)

        return (through(d_carry, d_y), jax.vmap(lambda row: through(row, jnp.zeros_like(d_y)))(rows)), norms

    steps = (seen.before, seen.zs, d_ys, seen.counts, seen.resets)
    return lax.scan(back, (nothing, rows), steps, reverse=True)[1]


def _forget_products(seen: Run, f: Array) -> Array:
    kept = f if seen.resets is None else _where(~seen.resets, f)
    kept = select(seen.counts, kept, jnp.ones_like(kept))
    later = jnp.concatenate([kept[1:], jnp.ones_like(kept[:1])])
    products = lax.cumprod(later, axis=0, reverse=True)
    return jax.vmap(lambda counts, product: _mean_norm(counts, product, product.shape[-1]))(seen.counts, products)


def _mean_norm(counts: Array, values: Array, units: int) -> Array:
    """The norm over those sequences that count, divided by √(their number · units)."""
    return _norm(_where(counts, values)) / jnp.sqrt(jnp.maximum(counts.sum(), 1) * units).astype(values.dtype)


def _where(where: Array, tree: PyTree) -> PyTree:
    return select(where, tree, jax.tree.map(jnp.zeros_like, tree))


def _norm(values: Array) -> Array:
    """The Euclidean norm, scaled first: the square of 1e-25 is zero in float32."""
    largest = jnp.max(jnp.abs(values), initial=0)
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(jnp.sum((values / scale) ** 2))
