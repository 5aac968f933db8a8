"""Attention, for one query at a time, and a cell with it, as TensorFlow's AttentionWrapper runs it.

References:
    Additive: Bahdanau, Cho & Bengio 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2
    Multiplicative: Luong, Pham & Manning 2015, https://arxiv.org/abs/1508.04025, section 3.1
    A cell with input feeding: Luong, Pham & Manning 2015, section 3.3; TensorFlow's AttentionWrapper,
        https://www.tensorflow.org/addons/api_docs/python/tfa/seq2seq/AttentionWrapper
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from parity.textbook.functions import ACTIVATIONS


def additive(query: np.ndarray, keys: np.ndarray, values: np.ndarray, scale: Any, mask: np.ndarray) -> Any:
    """Return the context and the weights of one example: query (units,), keys (source, units), values (source, size)."""
    scores = [float(np.sum(scale * np.tanh(query + key))) for key in keys]
    return _context(scores, values, mask)


def multiplicative(query: np.ndarray, keys: np.ndarray, values: np.ndarray, scale: Any, mask: np.ndarray) -> Any:
    """Return the context and the weights of one example: query (units,), keys (source, units), values (source, size)."""
    scores = [float(scale * np.dot(query, key)) for key in keys]
    return _context(scores, values, mask)


def _context(scores: list[float], values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean of the values of the positions that count, and the weights."""
    weights, counting = np.zeros(len(scores)), [s for s in range(len(scores)) if mask[s]]
    for s in counting:
        weights[s] = 1 / sum(np.exp(scores[other] - scores[s]) for other in counting)
    context = np.zeros(values.shape[1:])
    for s in counting:
        context += weights[s] * values[s]
    return context, weights


def run(
    cell: Any,
    params: Mapping[str, Any],
    memory: np.ndarray,
    mask: np.ndarray,
    xs: np.ndarray,
    carry: Any,
    book: ModuleType,
) -> tuple[tuple[Any, np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
    """Run a `jlstm.attention.Attention` cell over a sequence.

    Args:
        cell: the cell.
        params: its parameters without memory.
        memory: (batch, source, size).
        mask: which positions of the memory count, (batch, source).
        xs: (batch, time, features).
        carry: the inner carry, attention vectors and weights to start from.
        book: the module of the inner cell in this package.

    Returns:
        The last carry, the outputs (batch, time, size), and the weights of all steps (batch, time, source).
    """
    function: Callable = additive if cell.score == "additive" else multiplicative
    scale = params.get("scale", 1.0)
    state, attention, weights = tuple(carry[0]), np.asarray(carry[1]), np.asarray(carry[2])
    ys, history = [], []
    for t in range(xs.shape[1]):
        state, _ = book.step(cell.cell, params["cell"], np.concatenate([xs[:, t], attention], -1), state, {})
        h = state[0]
        vectors, rows = [], []
        for b in range(len(xs)):
            query = params["query_kernel"].T @ h[b] if cell.score == "additive" else h[b]
            keys = np.stack([params["memory_kernel"].T @ position for position in memory[b]])
            context, row = function(query, keys, memory[b], scale, mask[b])
            if cell.attention_features:
                phi, _ = ACTIVATIONS[cell.activation]
                context = phi(params["attention_kernel"].T @ np.concatenate([h[b], context]))
            vectors.append(context)
            rows.append(row)
        attention, weights = np.stack(vectors), np.stack(rows)
        ys.append(attention if cell.output_attention else h)
        history.append(weights)
    return (book.Carry(*state), attention, weights), np.stack(ys, 1), np.stack(history, 1)
