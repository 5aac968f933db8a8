"""The table of cases: every sensible pair of options occurs together in some case. Known bugs of peers are cases too."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np

from jlstm import LSTM, Bidirectional, Layer, Stack
from parity.covering import covering, pairs
from parity.peers import Peer
from parity.problem import Problem, mask_of

# The highest first: `highest_dtype_cases` takes the first one that a peer has.
DTYPES = ("float64", "float32", "bfloat16")
SIZES = ((2, 6, 3, 4), (3, 6, 5, 2), (4, 6, 2, 3))  # batch, time, features, units: all different, time in three pieces

# The first value of each option is the plain one: `BASE` consists of these, and names of cases leave them out.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "layer": ("lstm", "step", "concat", "sum", "mul", "ave", "unmerged", "stack2", "stack3"),
    "direction": ("forward", "backward"),
    "mask": ("none", "right", "left", "holes", "row"),
    "outputs": ("all", "last"),
    "zero_output": (False, True),
    "unroll": (False, True),
    "batches": (1, 3),
    "dropout": ("none", "inputs", "recurrent", "both"),
    "activation": ("tanh", "relu", "linear", "sigmoid", "hard_sigmoid", "softsign"),
    "recurrent_activation": ("sigmoid", "hard_sigmoid", "tanh", "relu", "linear", "softsign"),
    "bias": ("random", "none", "unit_forget_bias", "zeros"),
    "initial_carry": (True, False),
}
BASE: dict[str, Any] = {name: values[0] for name, values in OPTIONS.items()}
BIDIRECTIONAL = ("concat", "sum", "mul", "ave", "unmerged")
KERAS_ISSUES = {  # the bug that `keras_unroll_bug` describes, for each peer that has it
    "keras": "https://github.com/keras-team/keras/issues/17596",
    "tf_keras": "https://github.com/keras-team/tf-keras/issues/252",
}
ALONE = {  # a single step has no sequence, so these options must keep these values
    "direction": "forward",
    "mask": "none",
    "outputs": "all",
    "zero_output": False,
    "unroll": False,
    "batches": 1,
    "dropout": "none",
}


@dataclass(frozen=True, eq=False)
class Case:
    """A named problem for a peer.

    Args:
        name: the words of the row's options, or a name of its own.
        problem: what both sides run.
        peer: the peer's name.
        known_bug: what that peer is known to get wrong in it, with a link; "" if nothing.
    """

    name: str
    problem: Problem
    peer: str = "keras"
    known_bug: str = ""


def makes_sense(row: dict[str, Any]) -> bool:
    """Whether Keras can run a row and is not known to compute it wrongly. Options that a partial row lacks contradict nothing."""

    def has(**wanted: Any) -> bool:
        """Whether the row has each of these options, with one of its values."""
        return all(row.get(name) in values for name, values in wanted.items())

    if not possible(row):
        return False
    # Keras's Bidirectional sets zero_output_for_mask itself, to return_sequences: it is True for all outputs, False for the last.
    bidirectional_masked = has(layer=BIDIRECTIONAL, mask=[m for m in OPTIONS["mask"] if m != "none"])
    if bidirectional_masked and (has(outputs=["all"], zero_output=[False]) or has(outputs=["last"], zero_output=[True])):
        return False
    return not keras_unroll_bug(row)


def possible(row: dict[str, Any]) -> bool:
    """Whether the options of a complete or partial row fit each other, so that some framework may run it.

    A single step has no sequence, and without a mask there are no outputs of padding to be zeroed.
    """
    if row.get("layer") == "step" and any(row.get(name, value) != value for name, value in ALONE.items()):
        return False
    return row.get("mask") != "none" or not row.get("zero_output")


def keras_unroll_bug(row: dict[str, Any]) -> bool:
    """Whether Keras would zero the outputs of wrong steps in a complete or partial row of options.

    Keras zeroes the outputs of padding if `zero_output_for_mask` is set. In an unrolled backward run, the outputs are in backward
    order and the mask is in forward order. The last output alone is right, so all outputs must be used. Keras 3.15.1 and tf-keras
    2.21.0 have this bug, and `KERAS_ISSUES` has links to it.

    `makes_sense` leaves such rows out of the table. `_bugs_of_keras` yields two of them as cases with a `known_bug`, which fail
    once Keras is right.
    """
    backward = row.get("direction") == "backward" or row.get("layer") in BIDIRECTIONAL
    # All outputs are used by the caller or, inside a stack, by the next layer.
    all_outputs_used = row.get("outputs") == "all" or row.get("layer") in ("stack2", "stack3")
    return bool(backward and all_outputs_used and row.get("unroll") and row.get("zero_output"))


def rows(framework: Peer | None = None) -> tuple[dict[str, Any], ...]:
    """Return rows that together hold every pair of `sensible_pairs`. A row has a value of `OPTIONS` for every option.

    Args:
        framework: the peer's module, whose `lacks` and `known_bug` say what it cannot run. None: a peer that can run all.
    """
    return _rows(framework if restricted(framework) else None)


@cache
def _rows(framework: Peer | None) -> tuple[dict[str, Any], ...]:
    wanted = sensible_pairs(framework)
    if framework is None:  # `makes_sense` decides on whole rows; otherwise a row is allowed if all of its pairs are
        return covering(OPTIONS, wanted, makes_sense)
    occurring = {option for pair in wanted for option in pair}
    offered = {name: tuple(value for value in values if (name, value) in occurring) for name, values in OPTIONS.items()}
    return covering(offered, wanted, lambda _: True, only_wanted=True)


@cache
def restricted(framework: Peer | None) -> bool:
    """Whether a peer lacks an option of this table, or is known to get one wrong. Keras does not, nor does None."""
    candidates = (BASE | {name: value} for name, values in OPTIONS.items() for value in values)
    return framework is not None and any(reason_left_out(framework, problem(row)) for row in candidates if possible(row))


def sensible_pairs(framework: Peer | None = None) -> frozenset:
    """Return all pairs of options, ((name, value), (name, value)), that occur together in some row that the peer can run.

    A pair of options that the peer is known to get wrong is left out. `framework` is as for `rows`.
    """
    return _sensible_pairs(framework if restricted(framework) else None)


@cache
def _sensible_pairs(framework: Peer | None) -> frozenset:
    if framework is not None:
        settings = [(name, value) for name, values in OPTIONS.items() for value in values]
        partial_rows = (dict(pair) for pair in combinations(settings, 2) if pair[0][0] != pair[1][0])
        return frozenset().union(
            *(pairs(row) for row in partial_rows if possible(row) and not reason_left_out(framework, problem(BASE | row)))
        )
    # Only these options occur in `makes_sense`: the product over them finds their pairs, and all other pairs are sensible.
    constrained = ("layer", "direction", "mask", "outputs", "zero_output", "unroll", "batches", "dropout")
    result = set()
    for values in product(*(OPTIONS[name] for name in constrained)):
        row = dict(zip(constrained, values, strict=True))
        if makes_sense(row):
            result |= pairs(row)
    for first, name in combinations(OPTIONS, 2):
        if not (first in constrained and name in constrained):
            result |= {((first, a), (name, b)) for a in OPTIONS[first] for b in OPTIONS[name]}
    return frozenset(result)


def reason_left_out(framework: Peer | None, candidate: Problem) -> str:
    """Return why a problem is left out of a peer's rows: the peer cannot run it or has a known bug. "" if it is in them."""
    return "" if framework is None else framework.lacks(candidate) or framework.known_bug(candidate)


def named_rows(framework: Peer | None = None) -> dict[str, dict[str, Any]]:
    """Return the rows by the names of their cases. "lstm backward mask-right" names the values that are not those of `BASE`."""
    return {" ".join(_words(row)): row for row in rows(framework)}


def coverage(cases: Iterable[dict[str, Any]], framework: Peer | None = None) -> tuple[int, int]:
    """Return how many of the sensible pairs the rows `cases` hold, and how many there are. `framework` is as for `rows`."""
    covered, sensible = set().union(*map(pairs, cases)), sensible_pairs(framework)
    return len(covered & sensible), len(sensible)


def problem(row: dict[str, Any], number: int = 0) -> Problem:
    """Return the problem that a row of options describes.

    Args:
        row: a value for every option.
        number: the number of the row, which selects the sizes and is the seed.
    """
    batch, time, features, units = SIZES[number % len(SIZES)]
    step = row["layer"] == "step"
    return Problem(
        _layer(row, units),
        batch=batch,
        time=1 if step else time,
        features=features,
        weights="random" if row["bias"] in ("random", "none") else "initial",
        seed=number,
        step=step,
        **{name: row[name] for name in ("mask", "initial_carry", "outputs", "zero_output", "batches")},
    )


def cases(peer: str = "keras", framework: Peer | None = None) -> Iterator[Case]:
    """Yield all cases of a peer.

    In every dtype: the rows and a wide layer. In float64 and float32: a long sequence. In the highest dtype that the peer has:
    NaN in padding and the peer's known bugs.

    Args:
        peer: the peer's name.
        framework: its module; None stands for a peer that has all options, as Keras.
    """
    named = {name: problem(row, number) for number, (name, row) in enumerate(named_rows(framework).items())}
    named["lstm wide"] = Problem(LSTM(128), batch=5, time=28, features=40)
    all_cases = [(name, replace(case_problem, dtype=dtype)) for name, case_problem in named.items() for dtype in DTYPES]
    all_cases += [("lstm 1000 steps", Problem(LSTM(4), time=1000, dtype=dtype)) for dtype in ("float64", "float32")]
    for name, case_problem in all_cases:
        if not (restricted(framework) and reason_left_out(framework, case_problem)):
            yield Case(name, case_problem, peer)
    if peer in KERAS_ISSUES:
        yield from _bugs_of_keras(peer)
    # The rows leave out what a peer gets wrong, so its bugs get cases of their own: a plain row with one change.
    single_changes = (BASE | {option: value} for option, values in OPTIONS.items() for value in values[1:])
    named = {" ".join(_words(row)): problem(row) for row in single_changes if possible(row)}
    yield from bug_cases(named, peer, framework)
    yield from highest_dtype_cases({"lstm mask-right padding-nan": _padded_with_nan()}, peer, framework)


def bug_cases(named: Mapping[str, Problem], peer: str, framework: Peer | None) -> Iterator[Case]:
    """Yield a case for each problem that the peer `framework` is known to get wrong, in the highest dtype that it has."""
    return (case for case in highest_dtype_cases(named, peer, framework) if case.known_bug)


def highest_dtype_cases(named: Mapping[str, Problem], peer: str, framework: Peer | None) -> Iterator[Case]:
    """Yield a case for each problem that the peer can run, in the highest dtype that it offers. See `bug_cases`."""
    for name, case_problem in named.items():
        candidates = (replace(case_problem, dtype=dtype) for dtype in DTYPES)
        runnable = next((candidate for candidate in candidates if framework is None or not framework.lacks(candidate)), None)
        if runnable is not None:
            yield Case(name, runnable, peer, "" if framework is None else framework.known_bug(runnable))


def _padded_with_nan() -> Problem:
    """Return a problem whose inputs are NaN at the steps that do not count."""
    padded_problem = problem(BASE | {"mask": "right"})
    xs = np.random.default_rng(0).standard_normal((padded_problem.batch, padded_problem.time, padded_problem.features))
    xs[~np.asarray(mask_of(padded_problem))] = np.nan
    return replace(padded_problem, xs=xs)


def _bugs_of_keras(peer: str) -> Iterator[Case]:
    """Yield two of the cases that `keras_unroll_bug` leaves out of the rows, for "keras" or "tf_keras"."""
    bug = f"Keras with unroll=True masks the outputs of a backward run in forward order ({KERAS_ISSUES[peer]})"
    for layer in ("lstm", "concat"):
        row = BASE | {"layer": layer, "direction": "backward", "unroll": True, "mask": "right", "zero_output": True}
        yield Case(" ".join(_words(row)), replace(problem(row), dtype="float64"), peer, bug)


def _layer(row: dict[str, Any], units: int) -> Layer:
    """Return the layer of a row. Layers of a stack differ in size, so that no test passes if they are mixed up."""
    options: dict[str, Any] = {
        "reverse": row["direction"] == "backward",
        "unroll": row["unroll"] or 1,
        "activation": row["activation"],
        "recurrent_activation": row["recurrent_activation"],
        "use_bias": row["bias"] != "none",
        "forget_bias": None if row["bias"] == "zeros" else 1.0,
        "dropout": 0.25 if row["dropout"] in ("inputs", "both") else 0.0,
        "recurrent_dropout": 0.5 if row["dropout"] in ("recurrent", "both") else 0.0,
    }
    kind = row["layer"]
    if kind in BIDIRECTIONAL:
        return Bidirectional(LSTM(units, **options), None if kind == "unmerged" else kind)
    if kind in ("stack2", "stack3"):
        return Stack(tuple(LSTM(units + k, **options) for k in range(int(kind[-1]))))
    return LSTM(units, **options)


def _words(row: dict[str, Any]) -> Iterator[str]:
    """Yield the words of the name of a row's case: the layer, and each other option that is not the first of `OPTIONS`."""
    yield f"bidirectional-{row['layer']}" if row["layer"] in BIDIRECTIONAL else row["layer"]
    templates = {
        "direction": "{}",
        "mask": "mask-{}",
        "outputs": "{}",
        "zero_output": "zero-output",
        "unroll": "unrolled",
        "batches": "stateful",
    }
    templates |= {
        "dropout": "dropout-{}",
        "activation": "{}",
        "recurrent_activation": "gates-{}",
        "bias": "bias-{}",
        "initial_carry": "carry-zeros",
    }
    for name, template in templates.items():
        if row[name] != OPTIONS[name][0]:
            yield template.format(row[name])
