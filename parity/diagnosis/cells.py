"""Faults of a single step and of what passes between steps: activations, the carry, dropout."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

import jlstm
from parity import textbook
from parity.diagnosis.fault import Before, Fault, Run, on_cells, outputs
from parity.diagnosis.sequence import on_values
from parity.problem import Problem
from parity.quantities import Quantities, named, pieces
from parity.values import Values


def activations(problem: Problem, _: Values) -> Iterator[Fault]:
    """Try every activation that the textbook knows, in each place of an LSTM."""
    # Only an LSTM has an activation of its output.
    if not all(isinstance(layer.cell, jlstm.LSTMCell) for _, layer in problem.layer.leaves()):
        return
    for name in textbook.ACTIVATIONS:
        name_and_formula = f"{name}{FORMULAS.get(name, '')}"
        kinds: dict[str, dict[str, str]] = {
            f"the recurrent activation is {name_and_formula}": {"recurrent_activation": name},
            f"the activation is {name_and_formula}": {"activation": name, "output_activation": name},
            f"the activation of the candidate g alone is {name_and_formula}": {"activation": name},
            f"the activation of the output alone is {name_and_formula}": {"output_activation": name},
        }
        for description, options in kinds.items():
            yield Fault(description, _with_activations(options))


# Two functions are called hard_sigmoid, so the sentence states the formula.
FORMULAS = {
    "hard_sigmoid": " (relu6(x + 3) / 6, as in Keras 3)",
    "hard_sigmoid_0.2": " (0.2 x + 0.5 cut off, as in Keras 2 and ONNX)",
}


def _with_activations(options: dict[str, str]) -> Before:
    def changed(cell: jlstm.LSTMCell) -> jlstm.LSTMCell:
        changes: dict[str, Any] = {"output_activation": cell.output_function, **options}
        return replace(cell, **changes)

    return lambda problem, values: (replace(problem, layer=on_cells(problem.layer, changed)), values)


def carries(problem: Problem, values: Values) -> Iterator[Fault]:
    """Try an ignored carry, swapped h and c, and a carry that is not passed on."""
    if values.carry is not None:
        yield Fault("the initial carry is ignored", on_values(carry=lambda _: None))
    same_size = all(isinstance(layer.cell, jlstm.LSTMCell) and not layer.cell.projection for _, layer in problem.layer.leaves())
    # With a projection h and c have different sizes and cannot take each other's place.
    if values.carry is not None and same_size:
        yield Fault("h and c of the initial carry are swapped", on_values(carry=_swap_all))
        yield Fault("h and c are swapped in the initial and the last carry", on_values(carry=_swap_all), _swapped_names)
    yield Fault("h and c of the last carry are swapped", change_results=_swapped_names)
    if problem.batches > 1:
        yield Fault("the carry is not handed on from batch to batch", run=_run_batches_alone)
    if not (isinstance(problem.layer, jlstm.RNN) and isinstance(problem.layer.cell, jlstm.LSTMCell)):
        return
    if problem.outputs == "all" and problem.batches == 1:
        if same_size:
            yield Fault("the output is c instead of h", run=_stepwise(lambda _, carry_after: carry_after, output_field="c"))
            yield Fault(
                "h and c are swapped after every step",
                run=_stepwise(lambda _, carry_after: _swap(carry_after), change_last=_swap),
            )
        for description, next_carry in (  # every step starts again from the initial carry, or from its h or its c
            ("the carry is not handed on from step to step", lambda start, _: start),
            ("h is not handed on from step to step", lambda start, carry_after: carry_after._replace(h=start.h)),
            ("c is not handed on from step to step", lambda start, carry_after: carry_after._replace(c=start.c)),
        ):
            yield Fault(description, run=_stepwise(next_carry))


def _run_batches_alone(problem: Problem, values: Values) -> Quantities:
    """Run every batch from the initial carry of the first one."""
    piece_problem = replace(problem, time=values.xs.shape[1] // problem.batches, batches=1)
    results = [outputs(piece_problem, piece) for piece in pieces(problem, values)]
    return {name: _joined(name, [r[name] for r in results]) for name in results[0]}


def _joined(name: str, parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, 1) if name.startswith("ys") else parts[-1]


def _stepwise(
    next_carry: Callable[[Any, Any], Any], change_last: Callable[[Any], Any] = lambda carry: carry, output_field: str = "h"
) -> Run:
    """Return a function that runs one step at a time.

    Args:
        next_carry: `(initial carry, carry after the step) -> carry of the next step`.
        change_last: changes the last carry, which is returned.
        output_field: the field of the carry that is the output, "h" or "c".
    """

    def run(problem: Problem, values: Values) -> Quantities:
        layer: Any = problem.layer
        right = outputs(problem, values)
        zeros: Any = (np.zeros_like(right["carry.h"]), np.zeros_like(right["carry.c"]))
        carry = carry_after = start = values.carry or jlstm.LSTMCarry(*zeros)
        ys = np.zeros_like(right["ys"])
        for t in range(ys.shape[1])[:: -1 if layer.reverse else 1]:
            mask = np.ones((len(ys), 1), bool) if values.mask is None else values.mask[:, [t]]
            carry_after, _, _ = textbook.run(layer, values.params, values.xs[:, [t]], carry, mask, None, values.dropout_masks)
            carry, ys[:, t] = next_carry(start, carry_after), mask * getattr(carry_after, output_field)
        return named(ys, change_last(carry_after), None, None, None)

    return run


def _swap_all(carry: Any) -> Any:
    return jax.tree.map(_swap, carry, is_leaf=lambda leaf: isinstance(leaf, jlstm.LSTMCarry))


def _swap(carry: Any) -> Any:
    return jlstm.LSTMCarry(carry.c, carry.h)


def _swapped_names(_: Problem, __: Values, results: Quantities) -> Quantities:
    def swapped_name(name: str) -> str:
        return name[:-1] + {"h": "c", "c": "h"}.get(name[-1], name[-1]) if name.startswith("carry") else name

    return {swapped_name(name): value for name, value in results.items()}


def dropouts(_: Problem, values: Values) -> Iterator[Fault]:
    """Try masks that are ignored, not scaled, scaled twice, or the same for all gates."""
    if values.dropout_masks is None:
        return
    yield Fault("dropout is off", on_values(dropout_masks=lambda _: None))
    # A mask holds 0 and 1 / (1 - rate): its sign has no scale, its square has it twice.
    for name in ("inputs", "recurrent"):
        yield Fault(f"dropout of the {MASK_NAMES[name]} is off", on_values(dropout_masks=_masks(name, np.ones_like)))
        yield Fault(f"dropout masks of the {MASK_NAMES[name]} are not scaled", on_values(dropout_masks=_masks(name, np.sign)))
        yield Fault(f"dropout masks of the {MASK_NAMES[name]} are scaled twice", on_values(dropout_masks=_masks(name, np.square)))
        yield Fault(
            f"one dropout mask of the {MASK_NAMES[name]} is used for all gates",
            on_values(dropout_masks=_masks(name, lambda mask: mask[:1])),
        )
    yield Fault(
        "dropout masks are not scaled", on_values(dropout_masks=lambda dropout_masks: jax.tree.map(np.sign, dropout_masks))
    )
    yield Fault(
        "dropout masks are scaled twice", on_values(dropout_masks=lambda dropout_masks: jax.tree.map(np.square, dropout_masks))
    )


MASK_NAMES = {"inputs": "inputs", "recurrent": "recurrent part"}


def _masks(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Return a change of the masks called `name`, "inputs" or "recurrent", in all layers."""

    def change_named(path: Any, leaf: np.ndarray) -> np.ndarray:
        return change(leaf) if jax.tree_util.keystr(path[-1:], simple=True) == name else leaf

    return lambda dropout_masks: jax.tree_util.tree_map_with_path(change_named, dropout_masks)
