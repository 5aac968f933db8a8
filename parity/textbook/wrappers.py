"""Cells around a cell: Residual (Wu et al. 2016), and Dropout with the same masks at all steps (Gal & Ghahramani 2016).

Their output is not the h that is handed on.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from jlstm.cells import Dropout, Residual


def bare(cell: Any) -> Any:
    """The cell in all wrappers that the textbook knows."""
    known = isinstance(cell, Residual) or (isinstance(cell, Dropout) and cell.variational)
    return bare(cell.cell) if known else cell


def step(
    book: ModuleType, cell: Any, params: Any, x: np.ndarray, state: tuple[np.ndarray, ...], noise: Mapping[str, Any]
) -> tuple[tuple[np.ndarray, ...], np.ndarray, Callable]:
    """One step, by the book of the bare cell: the state after it, the output, and the pullback.

    The pullback is `(d_state, d_y) -> (d_params, d_x, d_state_before)`.
    Residual: y' = y + x. Dropout: x ⊙ m_x goes in, y ⊙ m_y comes out, h ⊙ m_h is handed on.
    """
    if isinstance(cell, Residual):
        after, y, back = step(book, cell.cell, params, x, state, noise.get("cell", {}))

        def of_sum(d_after: tuple[np.ndarray, ...], d_y: np.ndarray) -> tuple[Any, np.ndarray, Any]:
            d_params, d_x, d_state = back(d_after, d_y)
            return d_params, d_x + d_y, d_state

        return after, y + x, of_sum
    if isinstance(cell, Dropout):
        m_x, m_y, m_h = (noise.get(name, 1.0) for name in ("inputs", "outputs", "state"))
        (h, *rest), y, back = step(book, cell.cell, params, x * m_x, state, noise.get("cell", {}))

        def of_masked(d_after: tuple[np.ndarray, ...], d_y: np.ndarray) -> tuple[Any, np.ndarray, Any]:
            d_params, d_x, d_state = back((d_after[0] * m_h, *d_after[1:]), d_y * m_y)
            return d_params, d_x * m_x, d_state

        return (h * m_h, *rest), y * m_y, of_masked
    after, back = book.step(cell, params, x, state, noise)
    return after, after[0], lambda d_after, d_y: back((d_after[0] + d_y, *d_after[1:]))
