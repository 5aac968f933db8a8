"""The diagnosis: causes that explain a difference, and facts that hold whatever the cause."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from jlstm._src import checks
from parity import tolerance
from parity.diagnosis.dropout import dropout_left_on
from parity.diagnosis.facts import Worst, by_gate, error, errors_by_time, is_result, is_sequence, worst
from parity.diagnosis.gradients import gradient_causes
from parity.diagnosis.growth import Growth, dtype_of, growth
from parity.diagnosis.search import search, untried
from parity.problem import Problem
from parity.quantities import Quantities, truth
from parity.values import Values, draw

MOST_CAUSES = 3  # that are printed


@dataclass(frozen=True)
class Diagnosis:
    """Why a side differs from the truth.

    Args:
        causes: sentences, each of which alone explains the difference; empty if no fault that was tried does.
        worst: the element with the largest error; None if nothing differs or only shapes do.
        growth: how the difference develops over time; None if no sequence differs.
        by_gate: for gradients of matrices and biases, the error in each gate's columns relative to the largest value.
        different: names of the quantities that differ by more than rounding.
        untried: why no fault was tried, if none is known for the cell; else "".
    """

    causes: tuple[str, ...] = ()
    worst: Worst | None = None
    growth: Growth | None = None
    by_gate: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    different: tuple[str, ...] = ()
    untried: str = ""

    @property
    def headline(self) -> str:
        """The causes in one line, or a statement that none was found."""
        if not self.different:
            return "no difference but rounding"
        return "; or ".join(self.causes) or self.untried or "nothing that was tried explains the difference"

    def __str__(self) -> str:
        lines = [self.headline]
        if self.worst:
            lines.append(f"worst: {self.worst}")
        if self.growth:
            lines.append(str(self.growth))
        for name, errors in self.by_gate.items():
            lines.append(f"error by gate of {name}: " + ", ".join(f"{gate} {value:.2g}" for gate, value in errors.items()))
        return "\n".join(lines)


def diagnose(problem: Problem, theirs: Quantities) -> Diagnosis:
    """Explain why results of a problem differ from the float64 truth.

    Args:
        problem: what was run. Its own `params` and `xs` are used if set; else its seed draws them (`parity.values.draw`).
        theirs: some of the quantities of a comparison by name, as float64 arrays. "ys" alone is enough; "carry.h", "carry.c",
            "d_xs", "d_params.kernel", … tell more.

    Returns:
        Causes and facts; `str` of it is what `python -m parity` prints.

    Raises:
        TypeError: `problem` is not a `Problem`.
        ValueError: `theirs` is empty or has quantities that the problem does not have.

    Examples:
        >>> import numpy as np
        >>> from jlstm import LSTM
        >>> from parity import Problem, diagnose
        >>> from parity.values import draw
        >>> from parity.quantities import truth
        >>> problem = Problem(LSTM(4), dtype="float64")
        >>> right = truth(problem, draw(problem))
        >>> print(diagnose(problem, {"ys": right["ys"][:, ::-1]}).headline)
        matches if the outputs are reversed
    """
    checks.instance("problem", problem, Problem, "Problem(layer)")
    checks.mapping(
        "theirs", theirs, "{'ys': outputs}", lambda array: checks.real("an array of theirs", array, nan=True) is not None
    )
    values = draw(problem)
    return explain(problem, values, truth(problem, values), theirs)


def explain(problem: Problem, values: Values, truths: Quantities, theirs: Quantities) -> Diagnosis:
    """Like `diagnose`, for a problem whose values and truth are already computed.

    Args:
        problem: what was run.
        values: its numbers.
        truths: what the textbook computes from them.
        theirs: the results to explain.

    Returns:
        Causes and facts.

    Raises:
        ValueError: `theirs` is empty or has quantities that the problem does not have.
    """
    theirs = {name: np.asarray(value, np.float64) for name, value in theirs.items()}
    if not theirs or (unknown := sorted(theirs.keys() - truths.keys())):
        reason = f"got {unknown[0]!r}" if theirs else "got none"
        raise ValueError(f"theirs must have some of the quantities {', '.join(truths)}, {reason}")
    allowed = rounding(problem.dtype, values.xs.shape[1])
    wrong = [name for name, value in theirs.items() if not error(value, truths[name]) <= allowed]
    if not wrong:
        return Diagnosis()
    sequence_growth = _sequence_growth(problem, theirs, truths, wrong, allowed)
    return Diagnosis(
        causes=_causes(problem, values, truths, theirs, wrong, sequence_growth),
        worst=worst(problem, theirs, truths, wrong),
        growth=sequence_growth,
        by_gate=by_gate(problem, {name: theirs[name] for name in wrong}, truths),
        different=tuple(wrong),
        untried=untried(problem.layer),
    )


def rounding(dtype: str, time: int) -> float:
    """Return the largest error, relative to the largest value, that counts as rounding: the limits of `parity.tolerance`.

    Args:
        dtype: the dtype in which the side computed.
        time: the number of steps.

    Returns:
        In float64 `tolerance.of_float64(time)`; in lower precision `tolerance.WITHOUT_PEER` · eps.
    """
    return tolerance.of_float64(time) if dtype == "float64" else tolerance.WITHOUT_PEER * float(jnp.finfo(dtype).eps)


def _sequence_growth(problem: Problem, theirs: Quantities, truths: Quantities, wrong: list[str], allowed: float) -> Growth | None:
    """Return the growth of the first sequence that differs; outputs come before the inputs' gradient."""
    sequences = [name for name in wrong if is_sequence(name) and theirs[name].shape == truths[name].shape]
    for name in sorted(sequences, key=is_result, reverse=True):
        if truths[name].shape[1] > 1:
            backward = getattr(problem.layer, "reverse", False) != (name == "d_xs")  # gradients go the other way
            scale = float(np.abs(truths[name]).max(initial=0)) or 1.0
            return growth(errors_by_time(theirs[name], truths[name]), allowed * scale, reverse=backward)
    return None


def _causes(
    problem: Problem, values: Values, truths: Quantities, theirs: Quantities, wrong: list[str], sequence_growth: Growth | None
) -> tuple[str, ...]:
    results = {name: value for name, value in theirs.items() if is_result(name)}
    largest_error = max((error(value, truths[name]) for name, value in results.items()), default=0.0)
    actual_dtype = dtype_of(results, problem.dtype)
    # By the dtype of the numbers, not of the problem: a side that computed in float32 matches a fault only to float32's rounding.
    match_limit = tolerance.match(actual_dtype, float(jnp.finfo(actual_dtype).eps))
    if any(not np.isfinite(value).all() for value in results.values()):
        return ("the results are not finite",)
    padding_only = "only padded steps differ" if _only_padding(values, truths, results) else ""
    # The order matters. A fault reproduces all results, so faults come first; dropout with unknown masks comes next. Gradients
    # are looked at only if the results are right, because the gradients of a wrong forward pass are wrong too.
    if largest_error > match_limit / tolerance.SHRINKS:  # a smaller error counts as agreement here
        matches = search(problem, values, results, largest_error, match_limit, try_pairs=not padding_only)
        if matches:
            return tuple(
                ": ".join(filter(None, (padding_only, f"matches if {match.fault.description}")))
                for match in matches[:MOST_CAUSES]
            )
        if dropout_cause := dropout_left_on(problem, values, results, truths, match_limit):
            return (dropout_cause,)
    if not any(name in wrong for name in results):
        return gradient_causes(problem, theirs, truths, wrong, match_limit)
    return (padding_only,) if padding_only else _precision(problem.dtype, actual_dtype, largest_error, sequence_growth)


def _only_padding(values: Values, truths: Quantities, results: Quantities) -> bool:
    """Whether the results agree with the truth if the outputs at padded steps are left out."""
    if values.mask is None:
        return False
    for name, got in results.items():
        expected = truths[name]
        if got.shape != expected.shape:
            return False
        per_step = got.shape[:2] == values.mask.shape and name.startswith("ys")
        counted = values.mask.reshape(*values.mask.shape, *[1] * (got.ndim - 2)) if per_step else np.True_
        if error(np.where(counted, got, expected), expected) > tolerance.FLOAT64_MATCH:
            return False
    return True


def _precision(dtype: str, actual_dtype: str, largest_error: float, sequence_growth: Growth | None) -> tuple[str, ...]:
    """Return a sentence if the difference looks like rounding, by its size and by the way it develops; else none."""
    if actual_dtype != dtype and largest_error <= tolerance.LOWER_DTYPE * float(jnp.finfo(actual_dtype).eps):
        return (f"precision: computed in {actual_dtype} and returned as {dtype}",)
    gradual, tiny = bool(sequence_growth and sequence_growth.gradual), largest_error <= tolerance.FLOAT64_MATCH
    if dtype == "float64" and not tiny and largest_error <= tolerance.LIKE_FLOAT32 and not gradual:
        return ("precision: the difference is of the size of float32's rounding",)
    if largest_error <= tolerance.LIKE_ROUNDING and (tiny or gradual):
        return (f"{sequence_growth}: rounding" if sequence_growth else "rounding, more of it than there should be",)
    return ()
