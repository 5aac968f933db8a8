"""Gradient flow through time, from exact Jacobians multiplied step by step."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jlstm._src import checks
from jlstm._src.arrays import select
from jlstm._src.loop import lengths_to_mask
from jlstm.cell import Params, PyTree
from jlstm.introspect.run import Trajectory, in_input_order, run
from jlstm.layers import RNN, Composite, Layer, cell_states


class Flow(NamedTuple):
    """Norms of derivatives with respect to the carry after each step t. `gradient_flow` defines them.

    Attributes:
        loss: ‖∂L/∂h_t‖, shape (time,).
        state: Root mean square of the singular values of ∂c_T/∂c_t, or ∂h_T/∂h_t without c, shape (time,).
        forget: Root mean square of the product of the later forget gates, shape (time,), or None without forget gates.
    """

    loss: Float[Array, " time"]
    state: Float[Array, " time"]
    forget: Float[Array, " time"] | None


class Sequence(NamedTuple):
    """The keyword arguments of `Layer.apply` that describe the sequences. Composite layers pass them on to their parts."""

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
    """Return the exact norms of gradients at every step, without dropout.

    Let L be the loss, T the last step that is run, and h_t and c_t the parts of the carry after step t. Each derivative varies
    one part of the carry and holds the others fixed:

        loss[t]    ‖∂L/∂h_t‖, the Euclidean norm over all sequences and units. It includes the output of step t.
        state[t]   ‖∂c_T/∂c_t‖, or ‖∂h_T/∂h_t‖ for cells without c: the root mean square of the Jacobian's singular values over
                   all sequences, that is, its Frobenius norm / √units. It is 1 at T and wherever the state is unchanged.
        forget[t]  The root mean square over all sequences and units of f_(t+1) ··· f_T. None for cells without forget gates f.

    Only sequences whose step t counts are included. If there is none, the value is zero. A reset stops the gradient: all values
    before it are zero. Through c alone, the gradient is multiplied by the forget gates. The difference between `state` and
    `forget` is thus the gradient that flows through h. The method carries `units` rows of the Jacobian backwards, which costs
    about `units` backward passes and O(time) memory.

    Args:
        layer: An RNN whose cell returns the `h` of its carry, as LSTM and Elman networks do, or a Stack or Bidirectional of them.
            The cell may be wrapped: the effect of `Dropout`, `Residual` or `Highway` on the outputs is part of L.
        params: Parameters of the layer.
        xs: Inputs, as for `Layer.apply`.
        loss_fn: L as a function of the layer's outputs. None means the sum of the outputs at the last counting step of each
            sequence.
        carry: As for `Layer.apply`.
        lengths: As for `Layer.apply`.
        mask: As for `Layer.apply`.
        resets: As for `Layer.apply`.

    Returns:
        A `Flow` with steps in the order of the inputs. For a Stack, a tuple with one entry per layer. For a Bidirectional, a dict
        with `"forward"` and `"backward"`. L is always the loss of the whole layer. `jlstm.plot.flow` draws any of these.

    Raises:
        TypeError: The cell does not carry and return `h`, or the layer has spatial axes.
        ValueError: `xs` has no time steps, or `Layer.apply` raises it.

    References:
        Hochreiter 1991, "Untersuchungen zu dynamischen neuronalen Netzen", diploma thesis, TU München.
        Bengio, Simard & Frasconi 1994, "Learning Long-Term Dependencies with Gradient Descent is Difficult",
        https://doi.org/10.1109/72.279181.
        Pascanu, Mikolov & Bengio 2013, "On the difficulty of training Recurrent Neural Networks",
        https://arxiv.org/abs/1211.5063.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.introspect import gradient_flow
        >>> layer = jlstm.LSTM(4)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> flow = gradient_flow(layer, params, jax.numpy.ones((2, 5, 3)))
        >>> flow.state.shape, round(float(flow.state[-1]), 6)
        ((5,), 1.0)
    """
    if loss_fn is not None:
        checks.function("loss_fn", loss_fn, "of the layer's outputs")
    sequence = Sequence(lengths, mask, resets)
    # Traced only for its errors; nothing is computed.
    jax.eval_shape(lambda: cell_states(layer, params, xs, carry, **sequence._asdict()))
    if layer.spatial_in:
        raise TypeError(f"gradient_flow needs layers without spatial axes, since it follows each unit, got {checks.brief(layer)}")
    time_axis = 0 if layer.time_major else -2
    if (time := jnp.shape(xs)[time_axis]) == 0:
        raise ValueError("gradient_flow needs at least one time step, got xs without any")
    # As a mask, since the default loss looks for the last step that counts.
    if lengths is not None:
        mask = lengths_to_mask(lengths, time)
        mask = jnp.moveaxis(mask, -1, 0) if layer.time_major else mask
    return _flow(layer, params, xs, partial(_sum_of_last, time_axis, mask) if loss_fn is None else loss_fn, carry, sequence)


def _sum_of_last(time_axis: int, mask: Array | None, ys: Any) -> Any:
    """Return the sum of the outputs at the last counting step of each sequence."""
    if mask is None:
        return sum(jnp.take(leaf, -1, axis=time_axis).sum() for leaf in jax.tree.leaves(ys))
    axis = time_axis if time_axis == 0 else -1
    countdown = jnp.flip(jnp.cumsum(jnp.flip(mask, axis), axis), axis)  # counting steps from here on; 1 at the last one
    return sum(jnp.where((mask & (countdown == 1))[..., None], leaf, 0).sum() for leaf in jax.tree.leaves(ys))


def _flow(layer: Layer, params: Params, xs: Any, loss: Callable, carry: PyTree, sequence: Sequence) -> Any:
    if isinstance(layer, Composite):
        flows = {}
        for key, call in layer.calls(params, xs, carry, **sequence._asdict()):
            child_loss = partial(_loss_of_child, loss, call.outputs)
            flows[key] = _flow(call.child, call.params, call.xs, child_loss, call.carry, sequence)
        return layer.join(flows)
    if isinstance(layer, RNN):
        return _flow_cell(layer, params, xs, loss, carry, sequence)
    raise TypeError(f"gradient_flow needs an RNN or layers of those, got {checks.brief(layer)}")


def _loss_of_child(loss: Callable, outputs: Callable, ys: Any) -> Array:
    return loss(outputs(ys))


def _flow_cell(layer: RNN, params: Params, xs: Any, loss: Callable, carry: PyTree, sequence: Sequence) -> Flow:
    trajectory = run(layer, params, xs, carry, *sequence)
    h, batch_axes = getattr(trajectory.carry_after, "h", None), trajectory.counts.ndim - 1
    if h is None or not trajectory.cell.gives_h or h.shape[-1] != trajectory.cell.features_out:
        raise TypeError(
            f"gradient_flow needs a cell that carries h and returns it, as LSTMCell and ElmanCell do, got {layer.cell!r}"
        )
    # Zero at steps that do not count, as `apply` returns them.
    ys = _where(trajectory.counts, jax.vmap(trajectory.step)(trajectory.carry_before, trajectory.zs)[1])
    # Steps are in the order of the run, and `loss` takes them in the order of the inputs.
    d_ys = jax.grad(lambda ys: loss(in_input_order(layer, trajectory.finish(ys), batch_axes)))(ys)
    norms = _backwards(trajectory, _where(trajectory.counts, d_ys))
    gates = trajectory.gates()
    forget = _forget_products(trajectory, gates.f) if hasattr(gates, "f") else None
    return jax.tree.map(lambda leaf: jnp.flip(leaf) if layer.reverse else leaf, Flow(*norms, forget))


def _backwards(trajectory: Trajectory, d_ys: Array) -> tuple[Array, Array]:
    """Carry the gradient of the loss and the rows of ∂c_T/∂c_t backwards. Return the norms of both at every step."""
    name = "c" if hasattr(trajectory.carry_after, "c") else "h"
    # The loss depends on the outputs alone, so its gradient by the last carry is zero.
    zeros = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), trajectory.carry_after)
    state = getattr(zeros, name)
    units = state.shape[-1]
    eye = jnp.expand_dims(jnp.eye(units, dtype=state.dtype), range(1, state.ndim))
    # Row k starts as the gradient of c_T[k] with respect to the carry after T: e_k for c, zero for h.
    rows = jax.tree.map(lambda leaf: jnp.zeros((units, *leaf.shape), leaf.dtype), zeros)
    rows = rows._replace(**{name: jnp.broadcast_to(eye, (units, *state.shape))})

    def back(cotangents: tuple[PyTree, PyTree], step: tuple[PyTree, PyTree, Array, Array, Array | None]) -> Any:
        (d_carry, rows), (carry, z, d_y, counts, reset) = cotangents, step
        jacobian = jnp.moveaxis(getattr(rows, name), 0, -1)  # batch axes first, to broadcast against `counts`
        norms = _norm(_where(counts, d_carry.h + d_y)), _mean_norm(counts, jacobian, units)
        _, pullback = jax.vjp(lambda carry: trajectory.step(carry, z), carry)

        def through(d_after: PyTree, d_y: Array) -> PyTree:
            (d_before,) = pullback((d_after, d_y))
            # A skipped step hands the carry on unchanged, and a reset cuts the dependence on the carry before it.
            return select(counts, d_before if reset is None else _where(~reset, d_before), d_after)

        return (through(d_carry, d_y), jax.vmap(lambda row: through(row, jnp.zeros_like(d_y)))(rows)), norms

    steps = (trajectory.carry_before, trajectory.zs, d_ys, trajectory.counts, trajectory.resets)
    return lax.scan(back, (zeros, rows), steps, reverse=True)[1]


def _forget_products(trajectory: Trajectory, f: Array) -> Array:
    # A step that does not count keeps the state: factor 1. A reset cuts it: factor 0.
    factors = f if trajectory.resets is None else _where(~trajectory.resets, f)
    factors = select(trajectory.counts, factors, jnp.ones_like(factors))
    # ∂c_T/∂c_t has the factors of the steps after t only: none at the last step, where it is 1.
    later_factors = jnp.concatenate([factors[1:], jnp.ones_like(factors[:1])])
    products = lax.cumprod(later_factors, axis=0, reverse=True)
    return jax.vmap(lambda counts, product: _mean_norm(counts, product, product.shape[-1]))(trajectory.counts, products)


def _mean_norm(counts: Array, values: Array, units: int) -> Array:
    """Return the norm over the sequences that count, divided by √(their number · units)."""
    return _norm(_where(counts, values)) / jnp.sqrt(jnp.maximum(counts.sum(), 1) * units).astype(values.dtype)


def _where(where: Array, tree: PyTree) -> PyTree:
    return select(where, tree, jax.tree.map(jnp.zeros_like, tree))


def _norm(values: Array) -> Array:
    """Return the Euclidean norm of scaled values: in float32 the square of 1e-25 would be zero."""
    largest = jnp.max(jnp.abs(values), initial=0)
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(jnp.sum((values / scale) ** 2))
