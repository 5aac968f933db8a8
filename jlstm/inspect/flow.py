"""How gradients come back through time: exact Jacobians, multiplied backwards step by step."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jlstm.cell import Params, PyTree
from jlstm.inspect.run import Run, in_order, run
from jlstm.layers import RNN, Bidirectional, Layer, Stack, cell_states
from jlstm.layers.bidirectional import MERGES


class Flow(NamedTuple):
    """How large derivatives are, for the carry after each step t; T is the step that is run last."""

    loss: Float[Array, " time"]
    state: Float[Array, " time"]
    forget: Float[Array, " time"] | None


def gradient_flow(
    layer: Layer,
    params: Params,
    xs: Float[Array, "*batch time features"],
    loss_fn: Callable[[Any], Float[Array, ""]] | None = None,
) -> Any:
    """Return how much of a gradient arrives at every step, exactly, without dropout.

    The carry after step t is varied, one of its parts at a time while the others are held. Then

        loss[t]    ‖∂L/∂h_t‖, the Euclidean norm over all sequences and units; h_t counts as output of its step, too
        state[t]   ‖∂c_T/∂c_t‖, of cells without c ‖∂h_T/∂h_t‖: the root mean square of the Jacobian's singular values, over all
                   sequences, which is its Frobenius norm / √units; 1 where the state is kept as it is, and at T
        forget[t]  the root mean square, over all sequences and units, of f_(t+1) ··· f_T; None for cells without forget gates

    Through c alone a gradient comes back as the product of the forget gates; what `state` has beyond `forget` went through h.
    The Jacobians are carried backwards as `units` rows, so that this costs about `units` backward passes and O(time) memory.

    Args:
        layer: an RNN whose cell returns the `h` of its carry, as LSTM and Elman networks do, or layers of those.
        params: as `init` makes them.
        xs: inputs, as for `Layer.apply`.
        loss_fn: L as a function of the layer's outputs; None sums up those at the last step of `xs`.

    Returns:
        A `Flow`, its steps in the order of the inputs; of a Stack a tuple with one entry a layer, of a Bidirectional a dict with
        `"forward"` and `"backward"`. L always is that of the whole.

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
    jax.eval_shape(lambda: cell_states(layer, params, xs))  # refuses what does not fit, and computes nothing
    if layer.spatial_in:
        raise TypeError(f"gradient_flow needs layers without spatial axes, since it follows each unit, got {layer!r}")
    if jnp.shape(xs)[0 if layer.time_major else -2] == 0:
        raise ValueError("gradient_flow needs at least one time step, got xs without any")
    loss = loss_fn or partial(_sum_of_last, 0 if layer.time_major else -2)
    if isinstance(layer, Stack):
        return _flow_stack(layer, params, xs, loss)
    if isinstance(layer, Bidirectional):
        return _flow_both(layer, params, xs, loss)
    if isinstance(layer, RNN):
        return _flow_cell(layer, params, xs, loss)
    raise TypeError(f"gradient_flow needs an RNN or layers of those, got {layer!r}")


def _sum_of_last(time_axis: int, ys: Any) -> Any:
    return sum(jnp.take(leaf, -1, axis=time_axis).sum() for leaf in jax.tree.leaves(ys))


def _flow_stack(layer: Stack, params: Params, xs: Any, loss: Callable) -> tuple:
    flows = []
    for k, one in enumerate(layer.layers):

        def of_this(ys: Any, above: tuple = layer.layers[k + 1 :], of_above: Params = params[k + 1 :]) -> Array:
            return loss(Stack(above).apply(of_above, ys)[1] if above else ys)

        flows.append(gradient_flow(one, params[k], xs, of_this))
        _, xs = one.apply(params[k], xs)
    return tuple(flows)


def _flow_both(layer: Bidirectional, params: Params, xs: Any, loss: Callable) -> dict:
    layers = {"forward": layer.layer, "backward": layer.layer.flipped()}
    ys = {name: one.apply(params[name], xs)[1] for name, one in layers.items()}
    merge = MERGES[layer.merge]

    def of_this(name: str, y: Any) -> Array:
        both = ys | {name: y}
        return loss(merge(both["forward"], both["backward"]))

    return {name: gradient_flow(one, params[name], xs, partial(of_this, name)) for name, one in layers.items()}


def _flow_cell(layer: RNN, params: Params, xs: Any, loss: Callable) -> Flow:
    _, ys = layer.apply(params, xs)
    it = run(layer, params, xs, None, None, None, None)
    if getattr(getattr(it.after, "h", None), "shape", None) != in_order(layer, ys).shape:
        raise TypeError(
            f"gradient_flow needs a cell that carries h and returns it, as LSTMCell and ElmanCell do, got {layer.cell!r}"
        )
    norms = _backwards(layer, it, in_order(layer, jax.grad(loss)(ys)))
    forget = _forget_products(layer, it) if hasattr(layer.cell, "gates") else None
    return jax.tree.map(lambda leaf: jnp.flip(leaf) if layer.reverse else leaf, Flow(*norms, forget))


def _backwards(layer: RNN, it: Run, d_ys: Array) -> tuple[Array, Array]:
    """Carry the loss's gradient and the rows of the last state's Jacobian backwards; return the norms of both at every step."""
    name = "c" if hasattr(it.after, "c") else "h"
    nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), it.after)
    state = getattr(nothing, name)
    units = state.shape[-1]
    eye = jnp.expand_dims(jnp.eye(units, dtype=state.dtype), range(1, state.ndim))
    rows = jax.tree.map(lambda leaf: jnp.zeros((units, *leaf.shape), leaf.dtype), nothing)
    rows = rows._replace(**{name: jnp.broadcast_to(eye, (units, *state.shape))})

    def back(cotangents: tuple[PyTree, PyTree], step: tuple[PyTree, PyTree, Array]) -> Any:
        (d_carry, rows), (before, z, d_y) = cotangents, step
        norms = _norm(d_carry.h + d_y), _norm(getattr(rows, name)) / state.size**0.5
        _, pullback = jax.vjp(lambda carry: layer.cell.step(it.params, it.context, carry, z), before)
        (d_before,) = pullback((d_carry, d_y))
        rows = jax.vmap(lambda row: pullback((row, jnp.zeros_like(d_y)))[0])(rows)
        return (d_before, rows), norms

    return lax.scan(back, (nothing, rows), (it.before, it.zs, d_ys), reverse=True)[1]


def _forget_products(layer: Any, it: Run) -> Array:
    gates = jax.vmap(lambda before, z: layer.cell.gates(it.params, it.context, before, z))(it.before, it.zs)
    later = jnp.concatenate([gates.f[1:], jnp.ones_like(gates.f[:1])])
    products = lax.cumprod(later, axis=0, reverse=True)
    return jax.vmap(_norm)(products) / (products[0].size ** 0.5)


def _norm(values: Array) -> Array:
    """The Euclidean norm, scaled first: the square of 1e-25 is zero in float32."""
    largest = jnp.max(jnp.abs(values))
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(jnp.sum((values / scale) ** 2))
