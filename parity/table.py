"""The table of cases: every sensible pair of options occurs together in some case; known bugs of peers stand beside them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np

from jlstm import LSTM, Bidirectional, Layer, Stack
from parity.case import Problem, mask_of
from parity.covering import covering, pairs
from parity.peers import lacks

DTYPES = ("float64", "float32", "bfloat16")
SIZES = ((2, 6, 3, 4), (3, 6, 5, 2), (4, 6, 2, 3))  # batch, time, features, units: all different, time in three pieces

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
KERAS_ISSUES = {
    "keras": "https://github.com/keras-team/keras/issues/17596",
    "tf_keras": "https://github.com/keras-team/tf-keras/issues/252",
}
ALONE = {  # what one single step knows nothing of
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
    """A named problem; `known_bug` says what its peer, no other, is known to get wrong there."""

    name: str
    problem: Problem
    peer: str = "keras"
    known_bug: str = ""


def makes_sense(row: dict[str, Any]) -> bool:
    """Whether options, all or only some of them, can be asked for together, of Keras."""

    def given(**wanted: Any) -> bool:
        return all(row.get(name) in values for name, values in wanted.items())

    if not possible(row):
        return False
    # Keras' Bidirectional sets zero_output_for_mask itself: to return_sequences
    bidirectional_masked = given(layer=BIDIRECTIONAL, mask=[m for m in OPTIONS["mask"] if m != "none"])
    if bidirectional_masked and (given(outputs=["all"], zero_output=[False]) or given(outputs=["last"], zero_output=[True])):
        return False
    return not keras_unroll_bug(row)


def possible(row: dict[str, Any]) -> bool:
    """Whether options, all or only some of them, can be asked for together, of anybody."""
    if row.get("layer") == "step" and any(row.get(name, value) != value for name, value in ALONE.items()):
        return False
    return row.get("mask") != "none" or not row.get("zero_output")


def keras_unroll_bug(row: dict[str, Any]) -> bool:
    """Whether Keras applies the mask in the wrong direction: unrolled, backwards, zeros where a step does not count."""
    backward = row.get("direction") == "backward" or row.get("layer") in BIDIRECTIONAL
    shown = row.get("outputs") == "all" or row.get("layer") in ("stack2", "stack3")  # to the caller or to the next layer
    return bool(backward and shown and row.get("unroll") and row.get("zero_output"))


@cache
def rows(framework: Any = None) -> tuple[dict[str, Any], ...]:
    """Rows of options that together hold every sensible pair.

    Args:
        framework: the peer's module, whose `lacks` says what it cannot be asked for; without one, the rows of Keras.
    """
    wanted = sensible_pairs(framework)
    if not restricted(framework):
        return covering(OPTIONS, wanted, makes_sense)
    there = {one for pair in wanted for one in pair}
    offered = {name: tuple(value for value in values if (name, value) in there) for name, values in OPTIONS.items()}

    def had(row: dict[str, Any]) -> bool:
        return pairs({name: row[name] for name in OPTIONS if name in row}) <= wanted

    return covering(offered, wanted, had)


@cache
def restricted(framework: Any) -> bool:
    """Whether a peer lacks any of the options of this table; Keras has all of them."""
    each = (BASE | {name: value} for name, values in OPTIONS.items() for value in values)
    return hasattr(framework, "lacks") and any(unfit(framework, problem(row)) for row in each if possible(row))


@cache
def sensible_pairs(framework: Any = None) -> frozenset:
    """All pairs that occur together in some conceivable row that the peer has."""
    if restricted(framework):
        each = [(name, value) for name, values in OPTIONS.items() for value in values]
        some = (dict(pair) for pair in combinations(each, 2) if pair[0][0] != pair[1][0])
        return frozenset().union(*(pairs(row) for row in some if possible(row) and not unfit(framework, problem(BASE | row))))
    bound = ("layer", "direction", "mask", "outputs", "zero_output", "unroll", "batches", "dropout")  # those that rules speak of
    found = set()
    for values in product(*(OPTIONS[name] for name in bound)):
        row = dict(zip(bound, values, strict=True))
        if makes_sense(row):
            found |= pairs(row)
    for free, name in combinations(OPTIONS, 2):
        if not (free in bound and name in bound):
            found |= {((free, a), (name, b)) for a in OPTIONS[free] for b in OPTIONS[name]}
    return frozenset(found)


def unfit(framework: Any, asked: Problem) -> str:
    """Why a problem is not in a peer's rows: it lacks something, or is known to be wrong."""
    return (framework.lacks(asked) if hasattr(framework, "lacks") else "") or known_bug(framework, asked)


def known_bug(framework: Any, asked: Problem) -> str:
    """What a peer is known to get wrong in a problem; "" if nothing."""
    return framework.known_bug(asked) if hasattr(framework, "known_bug") else ""


def named_rows(framework: Any = None) -> dict[str, dict[str, Any]]:
    """The rows by the names of their cases."""
    return {" ".join(_words(row)): row for row in rows(framework)}


def coverage(cases: Iterable[dict[str, Any]], framework: Any = None) -> tuple[int, int]:
    """How many of the sensible pairs the rows hold, and how many there are."""
    held, sensible = set().union(*map(pairs, cases)), sensible_pairs(framework)
    return len(held & sensible), len(sensible)


def problem(row: dict[str, Any], number: int = 0) -> Problem:
    """The problem that a row of options describes."""
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


def cases(peer: str = "keras", framework: Any = None) -> Iterator[Case]:
    """All cases, each in every dtype: the rows, a long sequence, a wide layer; in one: NaN in padding, and the peer's known bugs.

    Args:
        peer: its name.
        framework: its module; without one, all that Keras has.
    """
    named = {name: problem(row, number) for number, (name, row) in enumerate(named_rows(framework).items())}
    named["lstm wide"] = Problem(LSTM(128), batch=5, time=28, features=40)
    every = [(name, replace(one, dtype=dtype)) for name, one in named.items() for dtype in DTYPES]
    every += [("lstm 1000 steps", Problem(LSTM(4), time=1000, dtype=dtype)) for dtype in ("float64", "float32")]
    for name, one in every:
        if not (restricted(framework) and unfit(framework, one)):
            yield Case(name, one, peer)
    if peer in KERAS_ISSUES:
        yield from _bugs_of_keras(peer)
    alone = (BASE | {option: value} for option, values in OPTIONS.items() for value in values[1:])
    named = {" ".join(_words(row)): problem(row) for row in alone if possible(row)}
    yield from bugs(named, peer, framework)
    yield from highest({"lstm mask-right padding-nan": _padded_with_nan()}, peer, framework)


def bugs(named: Mapping[str, Problem], peer: str, framework: Any) -> Iterator[Case]:
    """Those of the problems that the peer is known to get wrong, as cases."""
    return (case for case in highest(named, peer, framework) if case.known_bug)


def highest(named: Mapping[str, Problem], peer: str, framework: Any) -> Iterator[Case]:
    """Those of the problems that the peer has, as cases in the highest of its precisions."""
    for name, one in named.items():
        asked = (replace(one, dtype=dtype) for dtype in DTYPES)
        given = next((each for each in asked if not lacks(framework, each)), None)
        if given is not None:
            yield Case(name, given, peer, known_bug(framework, given))


def _padded_with_nan() -> Problem:
    one = problem(BASE | {"mask": "right"})
    xs = np.random.default_rng(0).standard_normal((one.batch, one.time, one.features))
    xs[~np.asarray(mask_of(one))] = np.nan
    return replace(one, xs=xs)


def _bugs_of_keras(peer: str) -> Iterator[Case]:
    bug = f"Keras with unroll=True masks the outputs of a backward run in forward order ({KERAS_ISSUES[peer]})"
    for layer in ("lstm", "concat"):
        row = BASE | {"layer": layer, "direction": "backward", "unroll": True, "mask": "right", "zero_output": True}
        yield Case(" ".join(_words(row)), replace(problem(row), dtype="float64"), peer, bug)


def _layer(row: dict[str, Any], units: int) -> Layer:
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
    yield f"bidirectional-{row['layer']}" if row["layer"] in BIDIRECTIONAL else row["layer"]
    spoken = {
        "direction": "{}",
        "mask": "mask-{}",
        "outputs": "{}",
        "zero_output": "zero-output",
        "unroll": "unrolled",
        "batches": "stateful",
    }
    spoken |= {
        "dropout": "dropout-{}",
        "activation": "{}",
        "recurrent_activation": "gates-{}",
        "bias": "bias-{}",
        "initial_carry": "carry-zeros",
    }
    for name, word in spoken.items():
        if row[name] != OPTIONS[name][0]:
            yield word.format(row[name])
