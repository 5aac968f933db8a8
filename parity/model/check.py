"""Running a model's recurrent layers and what they were converted to on the same inputs."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jlstm
from jlstm import convert
from jlstm.description import features_in
from parity import ours, peers
from parity.backends import on
from parity.case import Problem, Quantities, Values, rounded
from parity.diagnosis import explain
from parity.measure import Comparison, Quantity, judge
from parity.model.inputs import fitting, random_inputs
from parity.model.original import Original, quantities
from parity.report import Outcome
from parity.table import Case

FRAMEWORKS = {".keras": "keras", ".h5": "keras", ".pt": "torch", ".pth": "torch", ".safetensors": "torch", ".onnx": "onnx"}
Found = Mapping[str, tuple[jlstm.Layer, Any]]


def read(path: str | os.PathLike[str], pattern: str = "*") -> tuple[dict[str, tuple[jlstm.Layer, Any]], dict[str, Original]]:
    """Convert a model's recurrent layers, and load them in the framework that the file is of.

    Args:
        path: the model's file.
        pattern: only layers whose name has this in it; * and ? stand for any text.

    Returns:
        Layers and parameters by name, and the originals by the same names.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the framework is not installed.
        ValueError: a file of no kind that is known, without such layers, or one that converter or framework refuse.
    """
    suffix = Path(path).suffix
    if suffix not in FRAMEWORKS:
        raise ValueError(
            f"{os.fspath(path)} must be one of {', '.join(FRAMEWORKS)}, got {suffix or 'no ending'!r}: convert it first"
        )
    found = getattr(convert, FRAMEWORKS[suffix]).read(path)
    chosen = {name: one for name, one in found.items() if fnmatch(name, f"*{pattern}*")}
    if not chosen:
        raise ValueError(f"no recurrent layer has {pattern!r} in its name: choose among {', '.join(found)}")
    return chosen, _framework(FRAMEWORKS[suffix]).originals(path, chosen)


def _framework(name: str) -> Any:
    try:
        return import_module(f"parity.model.{name}")
    except ImportError as error:
        raise peers.MissingPeerError(f"{name} cannot be imported ({error}): pip install 'jlstm[parity,peers]'") from error


def outcomes(
    found: Found,
    originals: Mapping[str, Original],
    *,
    inputs: np.ndarray | None = None,
    seed: int = 0,
    dtype: str | None = None,
    backend: str = "auto",
) -> Iterator[Outcome]:
    """Compare all layers, in the highest precision that their framework has and in their own, on random inputs and those given.

    Args:
        found: layers and parameters by name, and
        originals: the originals by the same names, as `read` returns them.
        inputs: (batch, time, features), given to each layer directly.
        seed: of the random inputs.
        dtype: only this.
        backend: what runs our side.

    Raises:
        ValueError: inputs do not fit a layer, or a framework cannot run it.
    """
    for name, (layer, params) in found.items():
        original, features = originals[name], features_in(layer, params)
        label = name or jlstm_name(layer)
        drawn = {label: random_inputs(features, seed)}
        given = drawn if inputs is None else drawn | {f"{label} (your inputs)": fitting(inputs, label, features)}
        for computed in dict.fromkeys((original.exact, original.dtype)):
            if dtype in (None, computed):
                for case, xs in given.items():
                    problem = Problem(on(backend, layer), dtype=computed, params=params, xs=xs)
                    yield Outcome(Case(case, problem, original.peer), compare(problem, original))


def jlstm_name(layer: jlstm.Layer) -> str:
    """What a layer without a name is called."""
    return type(layer).__name__.lower()


def compare(problem: Problem, original: Original) -> Comparison:
    """Hold our layer against the original: the original's own results in the highest precision that it has are the truth.

    Where that is not float64 ours may be off by 8 × the rounding that our own float64 shows, if that is more than `judge` allows.

    Args:
        problem: our layer, with its parameters, inputs and dtype.
        original: the other.

    Returns:
        Outputs and last carries; the diagnosis says how the original differs from the converted weights in float64, or ours does.

    Raises:
        ValueError: the original cannot run them.
    """
    dtype, layer = problem.dtype, problem.layer
    params = jax.tree.map(lambda leaf: rounded(leaf, dtype), problem.params)
    values = Values(params, rounded(problem.xs, dtype), None, None, None, None, None)

    def theirs(computed: str) -> Quantities:
        return quantities(layer, params, original.run(values.xs, computed, dtype))

    got, mine = theirs(dtype), ours.outputs(problem, values)
    known = ours.outputs(replace(problem, layer=on("scan", layer), dtype="float64"), values)
    truth = got if dtype == original.exact else theirs(original.exact)
    judged = judge(truth, mine, got, dtype=dtype, time=values.xs.shape[1])
    if original.exact != "float64":
        judged = tuple(_widened(quantity, mine, known) for quantity in judged)
    compared = Comparison(original.peer, dtype, judged)
    if compared.verdict == "pass":
        return compared
    diagnosis, side = explain(problem, values, known, mine), "ours"
    if not diagnosis.different:
        diagnosis, side = explain(problem, values, known, got), original.peer
    return replace(compared, diagnosis=diagnosis, diagnosed=side)


def _widened(quantity: Quantity, mine: Quantities, known: Quantities) -> Quantity:
    rounding = float(np.abs(mine[quantity.name] - known[quantity.name]).max(initial=0))
    return replace(quantity, limit=max(quantity.limit, 8 * rounding))
