"""Faults of weights loaded in another framework's layout: gate order, transposed matrices, biases."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from parity.diagnosis.fault import Fault, OfCell, of_cells, on_cells, part_at
from parity.problem import Problem
from parity.values import Values

MATRICES = {"kernel": "the kernel", "recurrent_kernel": "the recurrent kernel", "bias": "the bias"}


def gate_names(cell: Any, columns: int) -> str:
    """Return the gates in the order of their columns, one letter each; "" if these are not the columns of gates."""
    units = getattr(cell, "units", 0)
    names = getattr(cell, "gate_names", None) or ({4: "ifgo", 3: "zrg"}.get(columns // units, "") if units else "")
    return names if columns == len(names) * units else ""


def gates(problem: Problem, values: Values) -> Iterator[Fault]:
    """Try every other order of the gates in all matrices, beginning with swaps of two gates."""
    names = _names(problem, values)
    # Simple orders first. The first of all is the right order, which moves nothing and is no fault.
    for order in sorted(permutations(range(len(names))), key=_count_moved)[1:]:
        yield from of_cells(_order_description(names, order), problem, values, _reorder(order))


def gates_of_one_matrix(problem: Problem, values: Values) -> Iterator[Fault]:
    """Try each swap of two gates in one of the matrices."""
    names = _names(problem, values)
    orders = [order for order in permutations(range(len(names))) if _count_moved(order) == 2]
    for matrix, matrix_name in MATRICES.items():
        for order in orders:
            description = f"{_order_description(names, order)} in {matrix_name}"
            yield from of_cells(description, problem, values, _reorder(order, matrix))


def layouts(problem: Problem, values: Values) -> Iterator[Fault]:
    """Try matrices that are transposed, exchanged, or stored unit by unit instead of gate by gate."""
    matrices = [params.get(name) for params in _all_params(problem, values) for name in ("kernel", "recurrent_kernel")]
    if not _names(problem, values) or any(np.ndim(matrix) != 2 for matrix in matrices):
        return
    for name, matrix_name in list(MATRICES.items())[:2]:  # not the bias, which has one axis
        # The transposed matrix, stored as it is and read in the shape of ours: no error, but other numbers in each place.
        def reread(_: Any, params: Any, name: str = name) -> Any:
            return params | {name: params[name].T.reshape(params[name].shape)}

        def transposed(_: Any, params: Any, name: str = name) -> Any:
            rows, columns = params[name].shape
            return params | {name: params[name].T} if rows == columns else None

        def transposed_by_gate(cell: Any, params: Any, name: str = name) -> Any:
            rows, columns = params[name].shape
            parts = np.split(params[name], columns // cell.units, 1)
            # Blocks are (rows, units), so only square ones keep the shape when they are transposed.
            return params | {name: np.concatenate([part.T for part in parts], 1)} if rows == cell.units else None

        yield from of_cells(f"{matrix_name} is transposed", problem, values, transposed)
        yield from of_cells(f"{matrix_name} is transposed gate by gate", problem, values, transposed_by_gate)
        yield from of_cells(f"{matrix_name} is transposed (stored so, and read in our shape)", problem, values, reread)

    def swapped(_: Any, params: Any) -> Any:
        kernel, recurrent = params["kernel"], params["recurrent_kernel"]
        return params | {"kernel": recurrent, "recurrent_kernel": kernel} if kernel.shape == recurrent.shape else None

    def interleaved(major: str) -> Any:
        return lambda cell, params: {
            name: _transposed_columns(value, cell.units, major) if name in MATRICES else value for name, value in params.items()
        }

    yield from of_cells("the kernel and the recurrent kernel are swapped", problem, values, swapped)
    yield from of_cells("the columns are stored unit by unit instead of gate by gate", problem, values, interleaved("gates"))
    yield from of_cells("the columns are read unit by unit instead of gate by gate", problem, values, interleaved("units"))


def biases(problem: Problem, values: Values) -> Iterator[Fault]:
    """Try a forget bias that is added twice or missing, and a bias that is missing or doubled."""

    def scaled(factor: float) -> Any:
        return lambda _, params: params | {"bias": factor * params["bias"]} if "bias" in params else None

    names = _names(problem, values)
    for gate in sorted(names, key=lambda name: name != "f"):  # f first: the usual place of a forget bias
        if "f" not in names:
            break
        for sign in (1, -1):  # added once more, or taken away: ours is part of the bias already

            def with_bias(cell: Any, params: Any, gate: str = gate, sign: int = sign) -> Any:
                return _add_to_gate(cell, params, gate, sign) if "bias" in params else None

            yield from of_cells(_bias_description(gate, sign), problem, values, with_bias)
    yield from of_cells("the bias is missing", problem, values, scaled(0))
    yield from of_cells("the bias is added twice", problem, values, scaled(2))
    if "f" in names and not any("bias" in params for params in _all_params(problem, values)):
        yield Fault("a forget bias of 1 is added", _with_forget_bias)


def _with_forget_bias(problem: Problem, values: Values) -> tuple[Problem, Values]:
    def with_bias(cell: Any, params: Any) -> Any:
        return _add_to_gate(cell, params | {"bias": np.zeros(params["kernel"].shape[1])}, "f", 1)

    # The values get a bias; the cells must be told to use it. `of_cells` changes values only, so its fault is applied here.
    (fault, *_) = of_cells("", problem, values, with_bias)
    _, values = fault.change_problem(problem, values)
    return replace(problem, layer=on_cells(problem.layer, lambda cell: replace(cell, use_bias=True))), values


def _bias_description(gate: str, sign: int) -> str:
    if gate == "f":
        return "the forget bias is added twice" if sign > 0 else "the forget bias is missing"
    return f"a forget bias is {'added to' if sign > 0 else 'taken from'} the {gate} gate"


def _add_to_gate(cell: Any, params: Any, gate: str, sign: int) -> Any:
    """Return the parameters with the forget bias (1 unless the cell sets it) added to a gate's bias."""
    columns = np.array(list(gate_names(cell, len(params["bias"])))) == gate  # one flag per gate, repeated below for its units
    amount = sign * (getattr(cell, "forget_bias", None) or 1.0)
    return params | {"bias": params["bias"] + amount * np.repeat(columns, cell.units)}


def _names(problem: Problem, values: Values) -> str:
    """Return the gates of the cells; "" if the cells differ, and then no faults of gates are tried."""
    kernels = ((layer.cell, part_at(values.params, path).get("recurrent_kernel")) for path, layer in problem.layer.leaves())
    gate_orders = {gate_names(cell, np.shape(kernel)[-1] if np.ndim(kernel) else 0) for cell, kernel in kernels}
    return gate_orders.pop() if len(gate_orders) == 1 else ""


def _all_params(problem: Problem, values: Values) -> list[Any]:
    return [part_at(values.params, path) for path, _ in problem.layer.leaves()]


def _count_moved(order: Sequence[int]) -> int:
    """Return how many gates an order moves: 0 for the right order, 2 for a swap."""
    return sum(k != position for k, position in enumerate(order))


def _order_description(names: str, order: Sequence[int]) -> str:
    moved = [names[k] for k, position in enumerate(order) if k != position]
    if len(moved) == 2:
        return f"the {moved[0]} and {moved[1]} gates are swapped"
    return f"the columns of {', '.join(names[k] for k in order)} are taken for {', '.join(names)}"


def _reorder(order: Sequence[int], matrix: str | None = None) -> OfCell:
    """Return a change that puts the columns of the gates in another order, in one matrix or in all."""
    matrices = [matrix] if matrix else list(MATRICES)

    def blocks(value: np.ndarray) -> np.ndarray:
        parts = np.split(value, len(order), -1)
        return np.concatenate([parts[k] for k in order], -1)

    def change(_: Any, params: Any) -> Any:
        if matrix and matrix not in params:
            return None
        return {name: blocks(value) if name in matrices else value for name, value in params.items()}

    return change


def _transposed_columns(value: np.ndarray, units: int, major: str) -> np.ndarray:
    """Reorder columns from gate by gate to unit by unit (`major` "gates"), or back ("units")."""
    columns = value.shape[-1]
    split = (columns // units, units) if major == "gates" else (units, columns // units)
    return value.reshape(*value.shape[:-1], *split).swapaxes(-1, -2).reshape(value.shape)
