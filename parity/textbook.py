"""The independent truth: the LSTM in float64 NumPy, one step after the other, gate by gate, with gradients written by hand.

It shares no code with `jlstm`; layers serve only as descriptions. Arrays are (batch, time, features); backpropagation
through time follows Werbos 1990.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import jlstm

Arrays = Any
Function = Callable[[np.ndarray], np.ndarray]


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)), without overflow."""
    return np.exp(-np.logaddexp(0, -z))


ACTIVATIONS: dict[str, tuple[Function, Function]] = {  # each with its derivative
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), lambda z: np.exp(np.minimum(z, 0))),
    "hard_sigmoid": (lambda z: np.clip(z / 6 + 0.5, 0, 1), lambda z: (np.abs(z) < 3) / 6),
    "hard_sigmoid_0.2": (lambda z: np.clip(0.2 * z + 0.5, 0, 1), lambda z: (np.abs(z) < 2.5) * 0.2),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), lambda z: (np.abs(z) < 1) * 1.0),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "linear": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "silu": (lambda z: z * sigmoid(z), lambda z: sigmoid(z) * (1 + z * sigmoid(-z))),
    "softplus": (lambda z: np.logaddexp(0, z), sigmoid),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: 1 / (1 + np.abs(z)) ** 2),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
}

MERGES: dict[str | None, tuple[Callable, Callable]] = {  # each with its pullback, from the cotangent and the merged (f, b)
    "concat": (lambda f, b: np.concatenate([f, b], -1), lambda d, fb: np.split(d, [fb[0].shape[-1]], -1)),
    "sum": (lambda f, b: f + b, lambda d, _: (d, d)),
    "mul": (lambda f, b: f * b, lambda d, fb: (d * fb[1], d * fb[0])),
    "ave": (lambda f, b: (f + b) / 2, lambda d, _: (d / 2, d / 2)),
    None: (lambda f, b: {"forward": f, "backward": b}, lambda d, _: (d["forward"], d["backward"])),
}


def run(
    layer: jlstm.Layer,
    params: Arrays,
    xs: np.ndarray,
    carry: Arrays = None,
    mask: np.ndarray | None = None,
    resets: np.ndarray | None = None,
    noise: Arrays = None,
    *,
    last: bool = False,
    zero_output: bool = False,
    flip: bool = False,
) -> tuple[Arrays, Arrays, Callable[[Arrays, Arrays], tuple[Arrays, np.ndarray, Arrays]]]:
    """Run a layer and return the last carry, the outputs, and the pullback `(d_carry, d_ys) -> (d_params, d_xs, d_carry)`.

    With `last` the outputs are (batch, 1, features): the output of the last step that counts, and zeros where none does or,
    with `zero_output`, where the last step does not. With `flip` every direction is the other one.

    Raises:
        TypeError: a kind of layer that the textbook does not know.
        ValueError: an activation that it does not know.
    """
    given: dict[str, Any] = {"mask": mask, "resets": resets, "flip": flip}
    if isinstance(layer, jlstm.Stack):
        return _stack(layer, params, xs, carry, noise, last=last, zero_output=zero_output, **given)
    if isinstance(layer, jlstm.Bidirectional):
        return _bidirectional(layer, params, xs, carry, noise, last=last, zero_output=zero_output, **given)
    if isinstance(layer, jlstm.RNN) and isinstance(layer.cell, jlstm.LSTMCell):
        return _lstm(layer, params, xs, carry, noise, last=last, zero_output=zero_output, **given)
    raise TypeError(f"the textbook knows LSTM, Bidirectional and Stack, got {layer!r}")


def knows(layer: Any) -> bool:
    """Whether `run` is the truth of a layer: of LSTM cells, with no option besides biases, activations and dropout."""
    if isinstance(layer, jlstm.Stack):
        return all(map(knows, layer.layers))
    if isinstance(layer, jlstm.Bidirectional):
        return knows(layer.layer)
    cell = getattr(layer, "cell", None)
    if not isinstance(cell, jlstm.LSTMCell):
        return False
    names = {str(name) for name in (cell.recurrent_activation, cell.activation, cell.output_activation or cell.activation)}
    plain = jlstm.LSTMCell(cell.units)
    return names <= ACTIVATIONS.keys() and all(getattr(cell, name) == getattr(plain, name) for name in _UNKNOWN)


_UNKNOWN = ("peephole", "projection", "cell_clip", "gate_clip", "coupled", "layer_norm", "recurrent_dropout_on")


def initial_bias(layer: Any) -> list[np.ndarray]:
    """What biases start from, in the order of the layers: zeros, and the forget bias in the second quarter."""
    if isinstance(layer, jlstm.Stack):
        return [bias for one in layer.layers for bias in initial_bias(one)]
    if isinstance(layer, jlstm.Bidirectional):
        return initial_bias(layer.layer) * 2
    cell = layer.cell
    return [np.repeat([0, cell.forget_bias or 0, 0, 0], cell.units)] if cell.use_bias else []


def _lstm(
    layer: Any,
    params: Arrays,
    xs: np.ndarray,
    carry: Arrays,
    noise: Arrays,
    *,
    last: bool,
    zero_output: bool,
    mask: Any,
    resets: Any,
    flip: bool,
) -> tuple[jlstm.Carry, np.ndarray, Callable]:
    batch, time, _ = xs.shape
    units = params["recurrent_kernel"].shape[0]
    mask = np.ones((batch, time), bool) if mask is None else mask
    resets = np.zeros((batch, time), bool) if resets is None else resets
    h, c = (np.zeros((batch, units)),) * 2 if carry is None else carry
    order = range(time)[::-1] if layer.reverse != flip else range(time)
    ys, pullbacks = np.zeros((batch, time, units)), {}
    for t in order:
        counts, fresh = mask[:, t, None], resets[:, t, None]
        h_before, c_before = np.where(fresh, 0, h), np.where(fresh, 0, c)
        h_after, c_after, pullbacks[t] = _step(layer.cell, params, np.where(counts, xs[:, t], 0), h_before, c_before, noise or {})
        h, c = np.where(counts, h_after, h), np.where(counts, c_after, c)
        ys[:, t] = np.where(counts, h_after, 0)
    shown = mask[:, [order[-1]]] if zero_output else mask.any(1, keepdims=True)

    def pullback(d_carry: Any, d_ys: np.ndarray) -> tuple[Arrays, np.ndarray, Any]:
        d_h, d_c = d_carry
        if last:
            d_h, d_ys = d_h + shown * d_ys[:, 0], np.zeros_like(ys)
        d_params, d_xs = {name: np.zeros_like(value) for name, value in params.items()}, np.zeros_like(xs)
        for t in reversed(order):
            counts, carried = mask[:, t, None], ~resets[:, t, None]
            d_step, d_x, d_h_before, d_c_before = pullbacks[t](counts * (d_h + d_ys[:, t]), counts * d_c)
            d_h, d_c = ~counts * d_h + counts * carried * d_h_before, ~counts * d_c + counts * carried * d_c_before
            d_xs[:, t] = counts * d_x
            for name in params:
                d_params[name] += d_step[name]
        before: Any = (d_h, d_c)
        return d_params, d_xs, jlstm.Carry(*before)

    final: Any = (h, c)
    return jlstm.Carry(*final), (shown * h)[:, None] if last else ys, pullback


def _step(
    cell: jlstm.LSTMCell, params: Arrays, x: np.ndarray, h: np.ndarray, c: np.ndarray, noise: Mapping[str, np.ndarray]
) -> Any:
    names = (cell.recurrent_activation, cell.activation, cell.output_activation or cell.activation)
    unknown = [name for name in names if name not in ACTIVATIONS]
    if unknown:
        raise ValueError(f"the textbook does not know the activation {unknown[0]!r}, but {', '.join(ACTIVATIONS)}")
    (gate, d_gate), (candidate, d_candidate), (output, d_output) = (ACTIVATIONS[str(name)] for name in names)
    W, U = (np.split(params[name], 4, axis=1) for name in ("kernel", "recurrent_kernel"))
    b = np.split(params["bias"], 4) if cell.use_bias else [0.0] * 4
    masks = [np.broadcast_to(noise.get(name, np.ones(1)), (4, *v.shape)) for name, v in (("inputs", x), ("recurrent", h))]
    seen = [(x * masks[0][k], h * masks[1][k]) for k in range(4)]
    i, f, g, o = (seen[k][0] @ W[k] + seen[k][1] @ U[k] + b[k] for k in range(4))
    c_after = gate(f) * c + gate(i) * candidate(g)
    h_after = gate(o) * output(c_after)

    def pullback(d_h: np.ndarray, d_c: np.ndarray) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray]:
        d_c = d_c + d_h * gate(o) * d_output(c_after)
        d_z = (
            d_c * candidate(g) * d_gate(i),
            d_c * c * d_gate(f),
            d_c * gate(i) * d_candidate(g),
            d_h * output(c_after) * d_gate(o),
        )
        d_params = {
            "kernel": np.concatenate([seen[k][0].T @ d_z[k] for k in range(4)], 1),
            "recurrent_kernel": np.concatenate([seen[k][1].T @ d_z[k] for k in range(4)], 1),
            "bias": np.concatenate([d_z[k].sum(0) for k in range(4)]),
        }
        d_x = sum(d_z[k] @ W[k].T * masks[0][k] for k in range(4))
        d_h_before = sum(d_z[k] @ U[k].T * masks[1][k] for k in range(4))
        return d_params, d_x, d_h_before, d_c * gate(f)

    return h_after, c_after, pullback


def _bidirectional(
    layer: jlstm.Bidirectional, params: Arrays, xs: np.ndarray, carry: Arrays, noise: Arrays, *, flip: bool, **options: Any
) -> Any:
    runs = {
        name: run(layer.layer, params[name], xs, carry and carry[name], noise=noise and noise[name], flip=turned, **options)
        for name, turned in (("forward", flip), ("backward", not flip))
    }
    merge, unmerge = MERGES[layer.merge]
    ys = (runs["forward"][1], runs["backward"][1])

    def pullback(d_carry: Arrays, d_ys: Arrays) -> Any:
        cotangents = dict(zip(runs, unmerge(d_ys, ys), strict=True))
        pulled = {name: runs[name][2](d_carry[name], cotangents[name]) for name in runs}
        d_params, _, d_carry_before = ({name: p[k] for name, p in pulled.items()} for k in range(3))
        return d_params, pulled["forward"][1] + pulled["backward"][1], d_carry_before

    return {name: r[0] for name, r in runs.items()}, merge(*ys), pullback


def _stack(
    layer: jlstm.Stack, params: Arrays, xs: np.ndarray, carry: Arrays, noise: Arrays, *, last: bool, **options: Any
) -> Any:
    top = len(layer.layers) - 1
    carries, pullbacks = [], []
    for k, one in enumerate(layer.layers):
        after, xs, pullback_one = run(
            one, params[k], xs, carry and carry[k], noise=noise and noise[k], last=last and k == top, **options
        )
        carries.append(after)
        pullbacks.append(pullback_one)

    def pullback(d_carry: Arrays, d_ys: Arrays) -> Any:
        d_params, d_carries = [None] * (top + 1), [None] * (top + 1)
        for k in reversed(range(top + 1)):
            d_params[k], d_ys, d_carries[k] = pullbacks[k](d_carry[k], d_ys)
        return tuple(d_params), d_ys, tuple(d_carries)

    return tuple(carries), xs, pullback
