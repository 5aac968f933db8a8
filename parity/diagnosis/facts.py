"""Facts about a difference that hold whatever its cause: the worst element, the error per step and per gate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.diagnosis.weights import gate_names
from parity.problem import Problem
from parity.quantities import Quantities


@dataclass(frozen=True)
class Worst:
    """The element with the largest error relative to its quantity's largest value.

    Args:
        quantity: the quantity's name.
        index: the element's position by axis name: batch, time, unit, …, and the gate for a column.
        got, expected: both values.
    """

    quantity: str
    index: Mapping[str, int | str]
    got: float
    expected: float

    def __str__(self) -> str:
        place = ", ".join(f"{axis} {k}" for axis, k in self.index.items())
        # 17 digits tell any two float64 numbers apart; 9 do for float32 and are easier to read.
        digits = 17 if f"{self.got:.9g}" == f"{self.expected:.9g}" else 9
        return f"{self.quantity} at {place or 'its only element'}: {self.got:.{digits}g} instead of {self.expected:.{digits}g}"


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the truth's largest value: inf for another shape, NaN for non-finite values."""
    if got.shape != expected.shape:
        return float("inf")
    if not np.isfinite(got).all():
        return float("nan")
    scale = float(np.abs(expected).max(initial=0)) or 1.0
    return float(np.abs(got - expected).max(initial=0)) / scale


def worst(problem: Problem, theirs: Quantities, truths: Quantities, names: Sequence[str]) -> Worst | None:
    """Return the worst element of the named quantities, outputs before gradients; None if no shapes agree."""
    comparable = [name for name in names if theirs[name].shape == truths[name].shape]
    # A wrong output makes the gradients wrong too, and says more about the cause.
    candidates = [name for name in comparable if is_result(name)] or comparable
    if not candidates:
        return None
    name = max(candidates, key=lambda candidate: np.nan_to_num(error(theirs[candidate], truths[candidate]), nan=np.inf))
    errors = np.nan_to_num(np.abs(theirs[name] - truths[name]), nan=np.inf)
    position = tuple(int(k) for k in np.unravel_index(errors.argmax(), errors.shape))
    return Worst(
        name, _named_index(problem, name, position, errors.shape), float(theirs[name][position]), float(truths[name][position])
    )


def is_result(name: str) -> bool:
    """Whether a quantity is an output or a part of the last carry, not a gradient."""
    return name.startswith(("ys", "carry"))


def is_sequence(name: str) -> bool:
    """Whether a quantity has a time axis: the outputs and the inputs' gradient."""
    return name.startswith("ys") or name == "d_xs"


def errors_by_time(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the largest absolute difference at each step."""
    return np.abs(got - expected).max(axis=(0, *range(2, expected.ndim)), initial=0)


def by_gate(problem: Problem, theirs: Quantities, truths: Quantities) -> dict[str, dict[str, float]]:
    """Return the error in each gate's columns, for all gradients of matrices and biases.

    Args:
        problem: what was run.
        theirs: the results to explain.
        truths: what the textbook computes.

    Returns:
        For each quantity's name and each gate, the largest absolute difference, relative to the quantity's largest value.
    """
    errors = {}
    for name, expected in truths.items():
        names = gates_of(problem, name, expected.shape)
        if names and name in theirs and theirs[name].shape == expected.shape:
            scale = float(np.abs(expected).max(initial=0)) or 1.0
            parts = zip(names, np.split(theirs[name] - expected, len(names), -1), strict=True)
            errors[name] = {gate: float(np.abs(part).max(initial=0)) / scale for gate, part in parts}
    return errors


def gates_of(problem: Problem, name: str, shape: tuple[int, ...]) -> str:
    """Return the gates whose columns a gradient holds, one letter each; "" if it has no such columns."""
    # Peepholes and projections have no gates among their columns.
    if not name.startswith("d_params.") or name.rsplit(".", 1)[-1] not in ("kernel", "recurrent_kernel", "bias"):
        return ""
    path_words = name.removeprefix("d_params.").split(".")[:-1]
    for path, layer in problem.layer.leaves():
        if [str(part) for part in path] == path_words:
            return gate_names(layer.cell, shape[-1])
    return ""


def _named_index(problem: Problem, name: str, position: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, int | str]:
    if is_sequence(name) and len(position) == 3:
        return dict(zip(("batch", "time", "feature" if name == "d_xs" else "unit"), position, strict=True))
    if name.startswith(("carry", "d_carry")) and len(position) == 2:
        return dict(zip(("batch", "unit"), position, strict=True))
    names = gates_of(problem, name, shape)
    if names:  # columns are gate by gate: a column's number gives its gate and its unit
        size = shape[-1] // len(names)
        rows: dict[str, int | str] = {"row": position[0]} if len(position) == 2 else {}
        return rows | {"gate": names[position[-1] // size], "unit": position[-1] % size}
    return {f"axis {k}": index for k, index in enumerate(position)}
