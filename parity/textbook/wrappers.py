"""Cells that wrap a cell: Residual, and Dropout with the same masks at all steps.

The output of a wrapped cell differs from the h of its next state.

References:
    Residual: Wu et al. 2016, "Google's Neural Machine Translation System", https://arxiv.org/abs/1609.08144
    Dropout: Gal & Ghahramani 2016, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks",
        https://arxiv.org/abs/1512.05287
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from jlstm.cells import Dropout, Residual


def bare(cell: Any) -> Any:
    """Return the innermost cell inside all wrappers that the textbook knows."""
    is_wrapper = isinstance(cell, Residual) or (isinstance(cell, Dropout) and cell.variational)
    return bare(cell.cell) if is_wrapper else cell


def step(
    book: ModuleType, cell: Any, params: Any, x: np.ndarray, state: tuple[np.ndarray, ...], dropout_masks: Mapping[str, Any]
) -> tuple[tuple[np.ndarray, ...], np.ndarray, Callable]:
    """Run one step with `book`, the module of the bare cell.

    Residual: y' = y + x. Dropout: the inputs are x ⊙ m_x, the output is y ⊙ m_y, and the next state has h ⊙ m_h.

    Returns:
        The next state, the output, and the pullback `(d_state, d_y) -> (d_params, d_x, d_state_before)`.
    """
    if isinstance(cell, Residual):
        state_after, y, inner_pullback = step(book, cell.cell, params, x, state, dropout_masks.get("cell", {}))

        def residual_pullback(d_after: tuple[np.ndarray, ...], d_y: np.ndarray) -> tuple[Any, np.ndarray, Any]:
            d_params, d_x, d_state = inner_pullback(d_after, d_y)
            return d_params, d_x + d_y, d_state

        return state_after, y + x, residual_pullback
    if isinstance(cell, Dropout):
        m_x, m_y, m_h = (dropout_masks.get(name, 1.0) for name in ("inputs", "outputs", "state"))
        (h, *state_tail), y, inner_pullback = step(book, cell.cell, params, x * m_x, state, dropout_masks.get("cell", {}))

        def dropout_pullback(d_after: tuple[np.ndarray, ...], d_y: np.ndarray) -> tuple[Any, np.ndarray, Any]:
            d_params, d_x, d_state = inner_pullback((d_after[0] * m_h, *d_after[1:]), d_y * m_y)
            return d_params, d_x * m_x, d_state

        # c is never dropped, as in TensorFlow's DropoutWrapper.
        return (h * m_h, *state_tail), y * m_y, dropout_pullback
    # The output of a bare cell is its h', so that both cotangents meet there.
    state_after, inner_pullback = book.step(cell, params, x, state, dropout_masks)
    return state_after, state_after[0], lambda d_after, d_y: inner_pullback((d_after[0] + d_y, *d_after[1:]))
