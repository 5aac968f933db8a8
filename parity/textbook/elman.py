"""The plain recurrent network.

Reference: Elman 1990, "Finding Structure in Time", https://doi.org/10.1207/s15516709cog1402_1
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jlstm.cells import HiddenCarry
from parity.textbook.functions import activations, all_known, masks

Carry = HiddenCarry


def knows(cell: Any) -> bool:
    """Whether the textbook knows the cell's activation; it has all other options."""
    return all_known((cell.activation,))


def initial_bias(cell: Any) -> list[np.ndarray]:
    """Return the initial bias: zeros."""
    return [np.zeros(cell.units)] if cell.use_bias else []


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
    """Run one step: h' = φ(x W + h U + b)."""
    (h,) = state
    ((phi, d_phi),) = activations(cell.activation)
    W, U = params["kernel"], params["recurrent_kernel"]
    (on_x,), (on_h,) = masks(dropout_masks, "inputs", "h", x).values(), masks(dropout_masks, "recurrent", "h", h).values()
    a = (x * on_x) @ W + (h * on_h) @ U + params.get("bias", 0.0)

    def pullback(d_state: tuple[np.ndarray, ...]) -> tuple[dict[str, np.ndarray], np.ndarray, tuple[np.ndarray, ...]]:
        d_a = d_state[0] * d_phi(a)
        d_params = {"kernel": (x * on_x).T @ d_a, "recurrent_kernel": (h * on_h).T @ d_a, "bias": d_a.sum(0)}
        return d_params, d_a @ W.T * on_x, (d_a @ U.T * on_h,)

    return (phi(a),), pullback
