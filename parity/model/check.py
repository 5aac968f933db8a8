"""Runs a model's recurrent layers and their conversions on the same inputs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax
import numpy as np

import jlstm
from jlstm.layers.shapes import features_in
from parity import ours
from parity.diagnosis import explain
from parity.measure import Comparison, judge
from parity.model.formats import WHOLE, ModelFile
from parity.model.inputs import fitting, mask_of_lengths, random_inputs
from parity.model.original import Original, Recorded, carry_of, quantities, recorded_quantities, returned
from parity.model.rounding import widened
from parity.problem import Problem
from parity.quantities import Quantities, named
from parity.report import Outcome
from parity.table import Case
from parity.values import Values, rounded


@dataclass(frozen=True)
class Inputs:
    """The inputs that the layers are run on.

    Args:
        xs: your inputs (batch, time, features), passed to each layer directly, in addition to random ones; None for random ones
            only.
        lengths: (batch,), how many steps of each sequence count; None if all do.
        seed: seed of the random inputs.
    """

    xs: np.ndarray | None = None
    lengths: tuple[int, ...] | None = None
    seed: int = 0


def outcomes(
    file: ModelFile, inputs: Inputs | None = None, *, dtype: str | None = None, backend: str = "auto"
) -> Iterator[Outcome]:
    """Compare each layer alone, in its own dtype and in the framework's highest precision, and within the whole model.

    Then compare the outputs of the whole model, if `jlstm.convert` can run it.

    Args:
        file: the result of `read`.
        inputs: what the layers are run on.
        dtype: compare only in this dtype; None for all.
        backend: the backend of our side.

    Raises:
        ValueError: the inputs do not fit a layer, or a framework cannot run it.
    """
    inputs = inputs or Inputs()
    for name, (layer, params) in file.layers.items():
        original, label = file.originals[name], name or type(layer).__name__.lower()
        layer, incomplete = ours.with_backend(layer, backend), file.incomplete.get(name, "")
        for compute_dtype in dict.fromkeys((original.exact, original.dtype)):
            if dtype in (None, compute_dtype):
                for case, xs, mask in _cases(label, layer, features_in(layer, params), inputs):
                    problem = Problem(layer, dtype=compute_dtype, params=params, xs=xs, mask="none" if mask is None else mask)
                    compared = replace(compare(problem, original), incomplete=incomplete)
                    yield Outcome(Case(case, problem, original.peer), compared)
        if original.recorded and dtype in (None, original.dtype):
            problem = Problem(layer, dtype=original.dtype, params=params, xs=original.recorded.xs)
            compared = replace(compare_recorded(problem, original, original.recorded), incomplete=incomplete)
            yield Outcome(Case(f"{label} (in the whole model)", problem, original.peer), compared)
    whole = file.compare_whole(inputs.lengths) if file.compare_whole is not None else None
    if whole is not None and dtype in (None, whole.dtype):
        # A case has a problem of one layer; that of the first layer stands for the whole model.
        layer, params = next(iter(file.layers.values()))
        yield Outcome(Case(WHOLE, Problem(layer, dtype=whole.dtype, params=params), whole.peer), whole)


def _cases(label: str, layer: jlstm.Layer, features: int, inputs: Inputs) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Yield the name, inputs and mask of each run of a layer."""
    xs = random_inputs(features, inputs.seed, inputs.lengths, layer.spatial_in)
    yield label, xs, mask_of_lengths(inputs.lengths, xs)
    if inputs.xs is not None:
        xs = fitting(inputs.xs, label, features)
        yield f"{label} (your inputs)", xs, mask_of_lengths(inputs.lengths, xs)


def compare(problem: Problem, original: Original) -> Comparison:
    """Compare our layer with the original. The truth is the original's own result in its highest precision.

    Args:
        problem: our layer, with its parameters, inputs, mask and dtype.
        original: the framework's layer.

    Returns:
        Outputs and last carries. The diagnosis compares our side or, if that is right, the original with the converted weights in
        float64.

    Raises:
        ValueError: the original cannot run the inputs.
    """
    dtype = problem.dtype
    params = jax.tree.map(lambda leaf: rounded(leaf, dtype), problem.params)
    mask = None if isinstance(problem.mask, str) else problem.mask
    values = Values(params, rounded(problem.xs, dtype), None, mask, None, None, None)
    lengths = None if mask is None else mask.sum(1)

    def theirs(compute_dtype: str) -> Quantities:
        return quantities(problem.layer, params, original.run(values.xs, lengths, compute_dtype, dtype), mask)

    peer_results = theirs(dtype)
    truth = peer_results if dtype == original.exact else theirs(original.exact)
    ours_results = ours.outputs(problem, values)
    return _judged(problem, values, truth, ours_results, peer_results, original)


def compare_recorded(problem: Problem, original: Original, recorded: Recorded) -> Comparison:
    """Compare our layer with what the original computed in the whole model, on the same inputs, mask and states.

    Args:
        problem: our layer, with its parameters and dtype.
        original: the framework's layer; only its name is used.
        recorded: its inputs and results in the whole model.

    Returns:
        The outputs and states that the original returned.

    Raises:
        ValueError: their shapes differ from the layer's.
    """
    dtype, layer = problem.dtype, problem.layer
    params = jax.tree.map(lambda leaf: rounded(leaf, dtype), problem.params)
    carry = None if recorded.carry is None else carry_of(layer, params, recorded.carry)
    values = Values(params, recorded.xs, carry, recorded.mask, None, None, None)
    truth = recorded_quantities(layer, params, recorded)
    last, ys = ours.results(problem, values)
    ys, last = returned(layer, recorded, last, ys)
    ours_results = named(ys, last, None, None, None)
    # The model ran in its own dtype only, so what it recorded is the truth and the peer's result at once.
    return _judged(problem, values, truth, ours_results, truth, original)


def _judged(
    problem: Problem,
    values: Values,
    truth: Quantities,
    ours_results: Quantities,
    peer_results: Quantities,
    original: Original,
) -> Comparison:
    """Judge both sides, with wider limits where rounding grows, and diagnose the wrong side.

    Raises:
        ValueError: the truth is not finite, or the sides do not have the same quantities.
    """
    if not all(np.isfinite(array).all() for array in truth.values()):
        raise ValueError(f"the results of {original.peer} itself are not finite on these inputs: pass others with --inputs")
    judged_quantities = judge(truth, ours_results, peer_results, dtype=problem.dtype, time=values.xs.shape[1])
    compared = Comparison(original.peer, problem.dtype, judged_quantities)
    if compared.verdict == "pass":
        return compared
    # Only now, because the estimate runs the textbook five times.
    compared = replace(compared, quantities=widened(judged_quantities, problem, values))
    if compared.verdict == "pass":
        return compared
    # The reference of the diagnosis is our layer with the converted weights, in float64 on the scan backend.
    scanned = ours.outputs(replace(problem, layer=ours.with_backend(problem.layer, "scan"), dtype="float64"), values)
    if scanned.keys() != ours_results.keys() or any(
        np.shape(scanned[name]) != np.shape(ours_results[name]) for name in ours_results
    ):
        return compared  # the model returns less than the diagnosis needs
    diagnosis, side = explain(problem, values, scanned, ours_results), "ours"
    if not diagnosis.different:  # our side is right, so the original differs from what its converted weights compute
        diagnosis, side = explain(problem, values, scanned, peer_results), original.peer
    return replace(compared, diagnosis=diagnosis, diagnosed=side)
