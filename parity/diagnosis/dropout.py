"""Detects dropout that is active on one side only, without knowing its masks."""

from itertools import product
from typing import Any

import numpy as np

import jlstm
from parity import textbook
from parity.diagnosis.search import untried
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values

RATES = (0.1, 0.2, 0.25, 0.3, 0.4, 0.5)
MOST_FEATURES = 6  # features: all 2**features subsets are tried


def dropout_left_on(problem: Problem, values: Values, theirs: Quantities, truths: Quantities, match_limit: float) -> str | None:
    """Return a sentence if the outputs are those of a run with dropout; else None.

    It detects dropout of the outputs, and dropout of the inputs with one mask per sequence.

    Args:
        problem: what was run.
        values: its numbers.
        theirs: the results to explain.
        truths: what the textbook computes without dropout.
        match_limit: the largest error of a match, see `tolerance.match`.
    """
    if values.dropout_masks is not None or "ys" not in theirs or theirs["ys"].shape != truths["ys"].shape:
        return None
    if cause := _output_dropout(theirs["ys"], truths["ys"], match_limit):
        return cause
    return None if untried(problem.layer) else _input_dropout(problem, values, theirs["ys"], match_limit)


def _output_dropout(got: np.ndarray, expected: np.ndarray, match_limit: float) -> str | None:
    zero, scale = got == 0, float(np.abs(expected).max(initial=0))
    # Elements that the truth itself has near zero say nothing about the factor.
    nonzero = ~zero & (np.abs(expected) > match_limit * scale)
    if not nonzero.any() or not (zero & (expected != 0)).any():
        return None
    # The rate is unknown. Where nothing was dropped, got / true is the factor 1 / (1 - rate).
    factor = float(np.median(got[nonzero] / expected[nonzero]))
    if np.abs(np.where(zero, 0, factor * expected) - got).max() > match_limit * scale:
        return None
    share = (zero & (expected != 0)).sum() / (expected != 0).sum()
    return f"dropout is left on: {share:.0%} of the outputs are zero and the others are scaled by {factor:.4g}"


def _input_dropout(problem: Problem, values: Values, got: np.ndarray, match_limit: float) -> str | None:
    features = values.xs.shape[2]
    if not isinstance(problem.layer, jlstm.RNN) or features > MOST_FEATURES or problem.batches > 1:
        return None
    subsets = np.array(list(product((0.0, 1.0), repeat=features)))
    for scale, scaled in [(1.0, ", not scaled")] + [(1 / (1 - rate), f", scaled by {1 / (1 - rate):.4g}") for rate in RATES]:
        outputs = _outputs_under_masks(problem, values, scale * subsets)  # (subsets, batch, time, units)
        # Each row of the batch may have its own mask, so that the best mask is chosen row by row.
        errors = np.abs(outputs - got).max((2, 3)) / (np.abs(got).max() or 1.0)
        best = subsets[errors.argmin(0)]
        if errors.min(0).max() <= match_limit and not best.all():  # a mask that keeps all features is no dropout
            rows = ", ".join(str(sorted(np.flatnonzero(row == 0).tolist())) for row in best)
            return f"dropout is left on: features {rows} of the sequences are dropped from the inputs{scaled}"
    return None


def _outputs_under_masks(problem: Problem, values: Values, masks: np.ndarray) -> np.ndarray:
    """Return the outputs under each mask, computed as one large batch."""
    count, batch = len(masks), len(values.xs)

    def repeated(leaf: Any) -> Any:
        return None if leaf is None else np.concatenate([leaf] * count)

    carry = values.carry and type(values.carry)(*map(repeated, values.carry))
    dropout_masks = {"inputs": np.repeat(masks, batch, 0)[None]}
    options = {"last": problem.outputs == "last", "zero_output": problem.zero_output}
    run = textbook.run(
        problem.layer, values.params, repeated(values.xs), carry, repeated(values.mask), None, dropout_masks, **options
    )
    return run[1].reshape(count, batch, *run[1].shape[1:])
