"""The convolutional LSTM over one, two or three spatial axes. A convolution is a sum over the positions of its window.

Reference: Shi et al. 2015, "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting",
https://arxiv.org/abs/1506.04214
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

import jlstm
from parity.textbook.functions import activations, all_known, by_gate, masks

Carry = jlstm.LSTMCarry


def knows(cell: Any) -> bool:
    """Whether the textbook knows the cell's activations; it has all other options."""
    return all_known((cell.recurrent_activation, cell.activation))


def initial_bias(cell: Any) -> list[np.ndarray]:
    """Return the initial bias: zeros, but the forget bias in the second quarter, the columns of f."""
    return [np.repeat([0.0, cell.forget_bias or 0.0, 0.0, 0.0], cell.filters)] if cell.use_bias else []


def zeros(cell: Any, batch: int) -> tuple[np.ndarray, ...]:
    """Return the initial state: zero h and c, with the spatial sizes of the convolution over x."""
    axes = zip(cell.spatial, *_per_axis(cell, len(cell.spatial)), strict=True)
    sizes = [_places(size, k, s, d, cell.padding)[0] for size, k, s, d in axes]
    return (np.zeros((batch, *sizes, cell.filters)),) * 2


def step(
    cell: Any,
    params: Mapping[str, np.ndarray],
    x: np.ndarray,
    state: tuple[np.ndarray, ...],
    dropout_masks: Mapping[str, np.ndarray],
) -> tuple[tuple[np.ndarray, ...], Callable]:
    """Run one step, with a_k = x * W_k + h * U_k + b_k for each gate k, where * is a convolution.

    i = σ(a_i + p_i c), f = σ(a_f + p_f c), g = φ(a_g), c' = f c + i g, o = σ(a_o + p_o c'), h' = o φ(c').
    """
    h, c = state
    (sigma, d_sigma), (phi, d_phi) = activations(cell.recurrent_activation, cell.activation)
    W, U = (by_gate(params[name], "ifgo") for name in ("kernel", "recurrent_kernel"))
    b = by_gate(params["bias"], "ifgo") if cell.use_bias else dict.fromkeys("ifgo", np.zeros(1))
    # Every place of the grid has peephole weights of its own, (*spatial, filters) for each of i, f and o.
    p = dict(zip("ifo", params["peephole_kernel"], strict=True)) if cell.peephole else dict.fromkeys("ifo", np.zeros(1))
    on_x, on_h = masks(dropout_masks, "inputs", "ifgo", x), masks(dropout_masks, "recurrent", "ifgo", h)
    window, strides, dilation = _per_axis(cell, len(cell.spatial))
    ones = (1,) * len(window)
    of_x = {k: convolve(x * on_x[k], W[k], strides, dilation, cell.padding) for k in "ifgo"}
    # The convolution over h keeps the sizes of h: stride 1, and "same" whatever the padding of x.
    of_h = {k: convolve(h * on_h[k], U[k], ones, ones, "same") for k in "ifgo"}
    a = {k: of_x[k][0] + of_h[k][0] + b[k] for k in "ifgo"}
    a |= {k: a[k] + p[k] * c for k in "if"}
    i, f, g = sigma(a["i"]), sigma(a["f"]), phi(a["g"])
    c_after = f * c + i * g
    a["o"] = a["o"] + p["o"] * c_after  # the peephole of o sees the new c, those of i and f the old one
    o = sigma(a["o"])

    def pullback(d_state: tuple[np.ndarray, ...]) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[np.ndarray, ...]]:
        # d_o is for a_o, the sum inside σ, since that is where the peephole adds p_o c'.
        d_o = d_state[0] * phi(c_after) * d_sigma(a["o"])
        d_c = d_state[1] + d_state[0] * o * d_phi(c_after) + p["o"] * d_o
        d_a = {"i": d_c * g * d_sigma(a["i"]), "f": d_c * c * d_sigma(a["f"]), "g": d_c * i * d_phi(a["g"]), "o": d_o}
        to_x, to_h = ({k: convolutions[k][1](d_a[k]) for k in "ifgo"} for convolutions in (of_x, of_h))
        peephole_input = {"i": c, "f": c, "o": c_after}
        d_params = {
            "kernel": np.concatenate([to_x[k][1] for k in "ifgo"], -1),
            "recurrent_kernel": np.concatenate([to_h[k][1] for k in "ifgo"], -1),
            # All places of the grid share a bias, so its gradient sums over them too; that of a peephole does not.
            "bias": np.concatenate([d_a[k].reshape(-1, cell.filters).sum(0) for k in "ifgo"]),
            "peephole_kernel": np.stack([(d_a[k] * peephole_input[k]).sum(0) for k in "ifo"]),
        }
        d_x, d_h = (sum(convolution[k][0] * mask[k] for k in "ifgo") for convolution, mask in ((to_x, on_x), (to_h, on_h)))
        return d_params, d_x, (d_h, d_c * f + p["i"] * d_a["i"] + p["f"] * d_a["f"])

    return (o * phi(c_after), c_after), pullback


def convolve(
    x: np.ndarray, kernel: np.ndarray, strides: tuple[int, ...], dilation: tuple[int, ...], padding: str
) -> tuple[np.ndarray, Callable]:
    """Return x * kernel for x (batch, *spatial, features), and its pullback to x and the kernel.

    The result is the sum over the positions w of the window of x, shifted by w · dilation and subsampled by strides, times
    kernel[w].

    Args:
        x: the inputs.
        kernel: (*window sizes, features, filters).
        strides: one number per spatial axis.
        dilation: one number per spatial axis.
        padding: "valid" or "same", which pads with zeros. If their number is odd, the extra one goes at the end.

    Returns:
        The result (batch, *spatial, filters), and the pullback `d_result -> (d_x, d_kernel)`.
    """
    axes = zip(x.shape[1:-1], kernel.shape, strides, dilation, strict=False)
    outs, pads = zip(*(_places(size, k, s, d, padding) for size, k, s, d in axes), strict=True)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)))
    windows = partial(_where, kernel.shape[:-2], outs, strides, dilation)
    # Each term is a product of (batch, *output sizes, features) and (features, filters).
    out = sum(padded[slices] @ kernel[w] for w, slices in windows())

    def pullback(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d_padded, d_kernel = np.zeros_like(padded), np.zeros_like(kernel)
        for w, slices in windows():  # windows overlap, so that an input adds up the gradients of several
            d_padded[slices] += d @ kernel[w].T
            d_kernel[w] = padded[slices].reshape(-1, kernel.shape[-2]).T @ d.reshape(-1, kernel.shape[-1])
        inside = tuple(slice(low, low + size) for (low, _), size in zip(pads, x.shape[1:-1], strict=True))
        return d_padded[(slice(None), *inside)], d_kernel

    return np.asarray(out), pullback


def _where(window: tuple[int, ...], outs: Any, strides: Any, dilation: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield each position of the window and the slices of the padded inputs that it meets."""
    for w in np.ndindex(*window):
        axes = zip(w, outs, strides, dilation, strict=True)
        yield w, (slice(None), *(slice(k * d, k * d + (out - 1) * s + 1, s) for k, out, s, d in axes))


def _places(size: int, window: int, stride: int, dilation: int, padding: str) -> tuple[int, tuple[int, int]]:
    """Return the output size along an axis, and the numbers of zeros before and after the inputs."""
    reach = dilation * (window - 1) + 1  # the span of inputs under one window
    if padding == "valid":
        return (size - reach) // stride + 1, (0, 0)
    out = -(-size // stride)  # rounded up
    # A stride longer than the window skips inputs, and the difference may be negative: then nothing is padded.
    zeros = max((out - 1) * stride + reach - size, 0)
    return out, (zeros // 2, zeros - zeros // 2)


def _per_axis(cell: Any, rank: int) -> list[tuple[int, ...]]:
    """Return window sizes, strides and dilation, each with one number per axis."""
    settings = (cell.kernel_size, cell.strides, cell.dilation)
    return [sizes if isinstance(sizes, tuple) else (sizes,) * rank for sizes in settings]
