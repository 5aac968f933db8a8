"""Faults of time, padding and the order of axes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

import jlstm
from parity.diagnosis.fault import After, Before, Fault
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values

Change = Callable[[np.ndarray], np.ndarray]


def time(problem: Problem, _: Values) -> Iterator[Fault]:
    """Try sequences, or only their outputs, that are reversed, shifted or cut."""
    flipped = with_options(layer=problem.layer.flipped())
    yield Fault("the sequence is reversed, and its outputs are left in that order", flipped, on_ys(_reversed))
    yield Fault("the sequence is reversed, and its outputs are put back in order", flipped)
    yield Fault("the sequence is reversed with its padding", on_values(xs=_reversed), on_ys(_reversed))
    yield Fault("the sequence is reversed with its padding, and its outputs are left in that order", on_values(xs=_reversed))
    yield Fault("the outputs are reversed", change_results=on_ys(_reversed))
    for shift, steps in (("late", 1), ("early", -1)):
        yield Fault(f"the outputs are one step {shift}", change_results=on_ys(partial(_shifted, steps=steps)))
        yield Fault(f"the inputs are one step {shift}", on_values(xs=partial(_shifted, steps=steps)))
    if problem.outputs == "all":
        yield Fault("only the last step's output is returned", with_options(outputs="last"))
        yield Fault("only the output at the end is returned, padding or not", change_results=on_ys(lambda ys: ys[:, -1:]))
        yield Fault("only the output at the start is returned", change_results=on_ys(lambda ys: ys[:, :1]))
    else:
        everything = with_options(outputs="all")
        yield Fault("the outputs of all steps are returned", everything)
        yield Fault("the output is that of the first step", everything, on_ys(lambda ys: ys[:, :1]))
        yield Fault("the output is that of the end, padding or not", everything, on_ys(lambda ys: ys[:, -1:]))


def axes(problem: Problem, values: Values) -> Iterator[Fault]:
    """Try batch and time swapped, by a transpose or by a reshape."""
    batch, steps = values.xs.shape[:2]

    # A reshape to (time, batch) keeps the size and raises no error, but it mixes the rows: unlike a transpose.
    def reshaped(leaf: np.ndarray) -> np.ndarray:
        return leaf.reshape(steps, batch, *leaf.shape[2:]).swapaxes(0, 1)

    yield Fault("batch and time are swapped in the outputs", change_results=on_ys(_swapped))
    yield Fault("batch and time are swapped by a reshape of the inputs", on_values(xs=reshaped))
    yield Fault(
        "batch and time are swapped by a reshape of inputs and outputs",
        on_values(xs=reshaped),
        on_ys(lambda ys: ys.swapaxes(0, 1).reshape(ys.shape)),
    )
    if values.carry is None and problem.batches == 1 and problem.outputs == "all" and values.dropout_masks is None:
        # Every other input is drawn for the old sizes: a carry or dropout masks would not fit the swapped batch.
        swapped = on_values(xs=_swapped, d_ys=partial(jax.tree.map, _swapped), mask=lambda mask: None if mask is None else mask.T)
        yield Fault("batch and time are swapped: the layer runs along the batch", swapped, on_ys(_swapped))
        yield Fault("batch and time are swapped: the layer runs along the batch, and so are its outputs", swapped)
    yield Fault("the rows of the batch are in reverse order", on_values(xs=lambda xs: xs[::-1]))


def padding(problem: Problem, values: Values) -> Iterator[Fault]:
    """Try a mask that is ignored, shifted, reversed or inverted, and padded steps that hold other values than zeros."""
    if values.mask is None:
        return
    step_mask = values.mask

    zeroed = on_ys(lambda ys: ys * step_mask[:, :, None] if ys.shape[:2] == step_mask.shape else ys)
    ignored = on_values(mask=lambda _: None)
    yield Fault("the mask is ignored", ignored)
    yield Fault("the mask is ignored but for the outputs, which are zero there", ignored, zeroed)
    if isinstance(problem.layer, jlstm.RNN) and problem.outputs == "all" and problem.batches == 1:
        yield Fault("outputs are held instead of zero where a step does not count", change_results=_repeat_last_output)
    yield Fault("the mask is off by one step: too late", on_values(mask=lambda mask: np.roll(mask, 1, 1)))
    yield Fault("the mask is off by one step: too early", on_values(mask=lambda mask: np.roll(mask, -1, 1)))
    yield Fault("the mask is reversed: padding is taken to be at the other end", on_values(mask=_reversed))
    yield Fault("the mask is inverted", on_values(mask=np.logical_not))
    for shown, zero in (("zero", True), ("held", False)):
        yield Fault(f"the last output is {shown} where the last step does not count", with_options(zero_output=zero))


def _repeat_last_output(problem: Problem, values: Values, results: Quantities) -> Quantities:
    """Return the outputs as Keras does: a padded step repeats the last output that counted. Steps before the first are zero."""

    def hold(ys: np.ndarray) -> np.ndarray:
        run_order = slice(None, None, -1 if getattr(problem.layer, "reverse", False) else 1)
        mask, in_run_order = np.asarray(values.mask)[:, run_order], ys[:, run_order].copy()
        for t in range(1, in_run_order.shape[1]):
            in_run_order[:, t] = np.where(mask[:, t, None], in_run_order[:, t], in_run_order[:, t - 1])
        return in_run_order[:, run_order]

    return on_ys(hold)(problem, values, results)


def with_options(**options: Any) -> Before:
    """Return a change of the problem's options."""
    return lambda problem, values: (replace(problem, **options), values)


def on_values(**changes: Any) -> Before:
    """Return a change of some fields of the values; each keyword is a field, and its value maps that field to a new one."""

    def change_problem(problem: Problem, values: Values) -> tuple[Problem, Values]:
        return problem, values._replace(**{name: change(getattr(values, name)) for name, change in changes.items()})

    return change_problem


def on_ys(change: Change) -> After:
    """Return a change of the outputs."""

    def change_results(_: Problem, __: Values, results: Quantities) -> Quantities:
        return {name: change(value) if name.startswith("ys") else value for name, value in results.items()}

    return change_results


def _reversed(leaf: np.ndarray) -> np.ndarray:
    return leaf[:, ::-1]


def _swapped(leaf: np.ndarray) -> np.ndarray:
    return leaf.swapaxes(0, 1)


def _shifted(leaf: np.ndarray, steps: int) -> np.ndarray:
    shifted = np.roll(leaf, steps, 1)
    shifted[:, 0 if steps > 0 else -1] = 0  # np.roll brings the step from the other end here
    return shifted
