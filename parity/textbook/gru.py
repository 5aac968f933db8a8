"""The gated recurrent unit. Its reset gate acts before or after the matrix product with h; cuDNN has it after.

Reference: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
https://arxiv.org/abs/1406.1078
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jlstm.cells import HiddenCarry
from parity.textbook.functions import activations, all_known, by_gate, masks

Carry = HiddenCarry


def knows(cell: Any) -> bool:
    """Whether the textbook knows the cell's activations; it has all other options."""
    return all_known((cell.recurrent_activation, cell.activation))


def initial_bias(cell: Any) -> list[np.ndarray]:
    """Return the initial bias: zeros."""
    return [np.zeros(3 * cell.units)] if cell.use_bias else []


def zeros(cell: Any, batch: int) -> tuple[np.ndarray, ...]:
    """Return the initial state: zero h."""
    return (np.zeros((batch, cell.units)),)


def step(
    cell: Any,
    params: Mapping[str, np.ndarray],
    x: np.ndarray,
    state: tuple[np.ndarray, ...],
    dropout_masks: Mapping[str, np.ndarray],
) -> tuple[tuple[np.ndarray, ...], Callable]:
    """Run one step.

    z = σ(x W_z + h U_z + b_z), r = σ(x W_r + h U_r + b_r), h' = z h + (1 - z) g. With `reset_after`, g = φ(x W_g + b_g + r (h U_g
    + d)); without, g = φ(x W_g + b_g + (r h) U_g).
    """
    (h,) = state
    (sigma, d_sigma), (phi, d_phi) = activations(cell.recurrent_activation, cell.activation)
    W, U = (by_gate(params[name], "zrg") for name in ("kernel", "recurrent_kernel"))
    b = by_gate(params["bias"], "zrg") if cell.use_bias else dict.fromkeys("zrg", 0.0)
    on_x, on_h = masks(dropout_masks, "inputs", "zrg", x), masks(dropout_masks, "recurrent", "zrg", h)
    of_x = {k: (x * on_x[k]) @ W[k] + b[k] for k in "zrg"}
    a = {k: of_x[k] + (h * on_h[k]) @ U[k] for k in "zr"}
    z, r = sigma(a["z"]), sigma(a["r"])
    if cell.reset_after:
        product = (h * on_h["g"]) @ U["g"] + (params["recurrent_bias"] if cell.use_bias else 0.0)
        a["g"] = of_x["g"] + r * product
    else:
        a["g"] = of_x["g"] + (r * h * on_h["g"]) @ U["g"]
    g = phi(a["g"])

    def pullback(d_state: tuple[np.ndarray, ...]) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[np.ndarray, ...]]:
        (d_after,) = d_state
        d_g = d_after * (1 - z) * d_phi(a["g"])
        if cell.reset_after:
            d_product = d_g * r
            d_r, d_u = d_g * product, (h * on_h["g"]).T @ d_product
            d_h = d_product @ U["g"].T * on_h["g"]
        else:
            # There is no `recurrent_bias` here, and gradients are read only for the parameters that there are.
            d_product = np.zeros(())
            d_u, d_reset = (r * h * on_h["g"]).T @ d_g, d_g @ U["g"].T * on_h["g"]
            d_r, d_h = d_reset * h, d_reset * r
        # h reaches h' directly, through g, and through the gates z and r. d_h has the part through g so far.
        # h' = g + z (h - g), which gives z the factor h - g.
        d_a = {"z": d_after * (h - g) * d_sigma(a["z"]), "r": d_r * d_sigma(a["r"]), "g": d_g}
        d_params = {
            "kernel": np.concatenate([(x * on_x[k]).T @ d_a[k] for k in "zrg"], 1),
            "recurrent_kernel": np.concatenate([(h * on_h[k]).T @ d_a[k] for k in "zr"] + [d_u], 1),
            "bias": np.concatenate([d_a[k].sum(0) for k in "zrg"]),
            "recurrent_bias": d_product.sum(0) if cell.reset_after else d_product,
        }
        d_x = sum(d_a[k] @ W[k].T * on_x[k] for k in "zrg")
        d_h = d_h + d_after * z + sum(d_a[k] @ U[k].T * on_h[k] for k in "zr")
        return d_params, d_x, (d_h,)

    return (z * h + (1 - z) * g,), pullback
