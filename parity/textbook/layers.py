"""Layers around any cell: loops over time, both directions, and stacks."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

import jlstm
from jlstm.cells import ConvLSTMCell, ElmanCell, GRUCell
from parity.textbook import conv_lstm, elman, gru, lstm, wrappers

Arrays = Any
CELLS: dict[type, ModuleType] = {jlstm.LSTMCell: lstm, GRUCell: gru, ElmanCell: elman, ConvLSTMCell: conv_lstm}

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
    dropout_masks: Arrays = None,
    *,
    last: bool = False,
    zero_output: bool = False,
    flip: bool = False,
) -> tuple[Arrays, Arrays, Callable[[Arrays, Arrays], tuple[Arrays, np.ndarray, Arrays]]]:
    """Run a layer forwards and return a function for its gradients.

    Args:
        layer: what to run.
        params: its parameters.
        xs: (batch, time, *spatial, features); its dtype is the dtype of all computation.
        carry: the initial carry; None for zeros.
        mask: which steps count, (batch, time); None if all do.
        resets: before which steps the state is set to zero, (batch, time); None for none.
        dropout_masks: the masks of every layer; None for no dropout.
        last: whether to return only the output of the last step that counts, (batch, 1, …). It is zero if no step counts.
        zero_output: whether, with `last`, the output is also zero if the last step does not count.
        flip: whether to reverse every direction.

    Returns:
        The last carry, the outputs, and the pullback `(d_carry, d_ys) -> (d_params, d_xs, d_carry)`.

    Raises:
        TypeError: the textbook does not know the kind of layer or an option of its cell.
        ValueError: the textbook does not know an activation.
    """
    options: dict[str, Any] = {"mask": mask, "resets": resets, "flip": flip}
    if run_children := _COMPOSITES.get(type(layer)):
        return run_children(layer, params, xs, carry, dropout_masks, last=last, zero_output=zero_output, **options)
    layer_cell = getattr(layer, "cell", None)
    cell = wrappers.bare(layer_cell)
    # `last` returns the h of the last state, which is not the output of a wrapped cell.
    if _book(layer) is None or getattr(cell, "layer_norm", None) or (last and cell is not layer_cell):
        supported = "LSTM, GRU, ElmanCell and ConvLSTM without layer_norm, Bidirectional and Stack"
        supported += ", and all outputs of Residual and variational Dropout"
        raise TypeError(f"the textbook knows {supported}, got {layer!r}: run one of these")
    return _over_time(layer, params, xs, carry, dropout_masks, last=last, zero_output=zero_output, **options)


def knows(layer: Any) -> bool:
    """Whether `run` supports a layer: all its cells, with all their options."""
    return isinstance(layer, jlstm.Layer) and all(_knows(leaf) for _, leaf in layer.leaves())


def _knows(layer: Any) -> bool:
    book = _book(layer)
    return book is not None and wrappers.bare(layer.cell) is layer.cell and book.knows(layer.cell)


def initial_bias(layer: Any) -> list[np.ndarray]:
    """Return the initial biases in the order of the layers."""
    return [bias for _, leaf in layer.leaves() for bias in _book(leaf).initial_bias(wrappers.bare(leaf.cell))]


def _book(layer: Any) -> Any:
    """Return the module of a layer's cell, looking through wrappers; None if there is none."""
    cell = wrappers.bare(getattr(layer, "cell", None))
    return next((book for kind, book in CELLS.items() if isinstance(cell, kind)), None)


def _over_time(
    layer: Any,
    params: Arrays,
    xs: np.ndarray,
    carry: Arrays,
    dropout_masks: Arrays,
    *,
    last: bool,
    zero_output: bool,
    mask: Any,
    resets: Any,
    flip: bool,
) -> tuple[Any, np.ndarray, Callable]:
    book: Any = _book(layer)
    batch, time = xs.shape[:2]
    mask = np.ones((batch, time), bool) if mask is None else mask
    resets = np.zeros((batch, time), bool) if resets is None else resets
    zeros = book.zeros(wrappers.bare(layer.cell), batch) if carry is None else carry
    state = start = tuple(part.astype(xs.dtype) for part in zeros)  # everything is computed in the dtype of xs
    order = range(time)[::-1] if layer.reverse != flip else range(time)  # flipping a reversed run gives a forward one
    ys, pullbacks = np.zeros((batch, time, *start[0].shape[1:]), xs.dtype), {}
    for t in order:
        state_before = _where(~resets[:, t], state, (0,) * len(state))
        # Padded inputs are replaced by zeros, so that NaN there cannot spread. The state of a masked step passes on unchanged.
        (x,) = _where(mask[:, t], (xs[:, t],), (0,))
        state_after, y, pullbacks[t] = wrappers.step(book, layer.cell, params, x, state_before, dropout_masks or {})
        state = _where(mask[:, t], state_after, state)
        (ys[:, t],) = _where(mask[:, t], (y,), (0,))
    has_output = mask[:, order[-1]] if zero_output else mask.any(1)

    def pullback(d_carry: Any, d_ys: np.ndarray) -> tuple[Arrays, np.ndarray, Any]:
        d_state = tuple(d_carry)
        if last:
            (d_last,) = _where(has_output, (d_ys[:, 0],), (0,))
            # The last output is the h of the last state, so its cotangent is added there, and all outputs get zeros.
            d_state, d_ys = (d_state[0] + d_last, *d_state[1:]), np.zeros_like(ys)
        d_params, d_xs = {name: np.zeros_like(value) for name, value in params.items()}, np.zeros_like(xs)
        for t in reversed(order):
            # The pullback of a masked step gets zeros, so that padding adds nothing to the gradients of the parameters.
            *d_after, d_y = _where(mask[:, t], (*d_state, d_ys[:, t]), (0,) * (len(d_state) + 1))
            d_step, d_x, d_before = pullbacks[t](tuple(d_after), d_y)
            # The step's chain rule in reverse: a reset stops the gradient, a masked step passes it on unchanged.
            d_before = _where(resets[:, t], (0,) * len(d_before), d_before)
            d_state = _where(mask[:, t], d_before, d_state)
            (d_xs[:, t],) = _where(mask[:, t], (d_x,), (0,))
            for name in params:
                d_params[name] += d_step[name]
        return d_params, d_xs, book.Carry(*d_state)

    (last_output,) = _where(has_output, state[:1], (0,))
    return book.Carry(*state), last_output[:, None] if last else ys, pullback


def _where(flags: np.ndarray, yes: tuple[Any, ...], no: tuple[Any, ...]) -> tuple[np.ndarray, ...]:
    """Select, for each row of the batch, the first or the second alternative of each array."""
    if flags.all() and all(map(np.ndim, yes)):  # not the number 0, which stands for an array of zeros
        return yes
    pairs = zip(yes, no, strict=True)
    return tuple(np.where(flags.reshape(-1, *[1] * (max(np.ndim(a), np.ndim(b)) - 1)), a, b) for a, b in pairs)


def _bidirectional(
    layer: jlstm.Bidirectional,
    params: Arrays,
    xs: np.ndarray,
    carry: Arrays,
    dropout_masks: Arrays,
    *,
    flip: bool,
    **options: Any,
) -> Any:
    runs = {
        name: run(
            layer.layer,
            params[name],
            xs,
            carry and carry[name],
            dropout_masks=dropout_masks and dropout_masks[name],
            flip=flip_direction,
            **options,
        )
        # Relative to the inner layer: if that one is reversed, the forward direction runs backwards in time.
        for name, flip_direction in (("forward", flip), ("backward", not flip))
    }
    merge, unmerge = MERGES[layer.merge]
    ys = (runs["forward"][1], runs["backward"][1])

    def pullback(d_carry: Arrays, d_ys: Arrays) -> Any:
        cotangents = dict(zip(runs, unmerge(d_ys, ys), strict=True))
        pulled = {name: runs[name][2](d_carry[name], cotangents[name]) for name in runs}
        d_params, _, d_carry_before = ({name: p[k] for name, p in pulled.items()} for k in range(3))
        # Both directions read the same inputs, so their gradients add up.
        return d_params, pulled["forward"][1] + pulled["backward"][1], d_carry_before

    return {name: r[0] for name, r in runs.items()}, merge(*ys), pullback


def _stack(
    layer: jlstm.Stack, params: Arrays, xs: np.ndarray, carry: Arrays, dropout_masks: Arrays, *, last: bool, **options: Any
) -> Any:
    top = len(layer.layers) - 1
    carries, pullbacks = [], []
    for k, inner in enumerate(layer.layers):
        last_carry, xs, inner_pullback = run(
            inner,
            params[k],
            xs,
            carry and carry[k],
            dropout_masks=dropout_masks and dropout_masks[k],
            # Only the top layer may return its last output alone: the others feed every step to the layer above.
            last=last and k == top,
            **options,
        )
        carries.append(last_carry)
        pullbacks.append(inner_pullback)

    def pullback(d_carry: Arrays, d_ys: Arrays) -> Any:
        d_params, d_carries = [None] * (top + 1), [None] * (top + 1)
        for k in reversed(range(top + 1)):
            d_params[k], d_ys, d_carries[k] = pullbacks[k](d_carry[k], d_ys)
        return tuple(d_params), d_ys, tuple(d_carries)

    return tuple(carries), xs, pullback


_COMPOSITES: dict[type, Callable] = {jlstm.Stack: _stack, jlstm.Bidirectional: _bidirectional}
