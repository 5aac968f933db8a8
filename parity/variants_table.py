"""The second table: the other cells and the LSTM's variants, in pairs of options, for what each peer has.

The plain LSTM and all options of sequences are in `parity.table`. This table has few such options, and small sizes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from typing import Any

from jlstm import GRU, LSTM, RNN, Bidirectional, ConvLSTMCell, Layer, LSTMCell, Stack
from jlstm.cells import Dropout, Residual
from parity.covering import covering, pairs
from parity.peers import Peer
from parity.problem import Problem
from parity.table import Case, bug_cases, highest_dtype_cases, reason_left_out

DTYPES = ("float64", "float32")
SIZES = ((2, 5, 3, 6, 4), (3, 4, 2, 7, 5), (4, 6, 3, 5, 2))  # batch, time, features, units, projection: all different
CONVOLUTIONS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "conv1d": (3, (6,)),
    "conv2d": ((2, 3), (5, 4)),
    "conv3d": ((2, 1, 3), (3, 2, 4)),
}  # kernel_size and spatial
# Batch, time, features, filters of all convolutions. With five filters JAX 0.10 compiles Flax's float64 gradients wrongly.
CONVOLVED = (2, 5, 3, 4)

OPTIONS: dict[str, tuple[Any, ...]] = {
    "cell": ("lstm", "gru", "gru-before", *CONVOLUTIONS),
    "layer": ("one", "step", "bidirectional", "stack2"),
    "direction": ("forward", "backward"),
    "mask": ("none", "right"),
    "bias": (True, False),
    "initial_carry": (True, False),
    "padding": ("same", "valid"),
    "peephole": (False, True),
    "projection": ("none", "plain", "bias", "clip"),
    "cell_clip": (None, 0.5),
    "gate_clip": (None, 0.7),
    "coupled": (None, "f=1-i", "i=1-f"),
}
BASE: dict[str, Any] = {name: values[0] for name, values in OPTIONS.items()}
VARIANTS = ("peephole", "projection", "cell_clip", "gate_clip", "coupled")


def possible(row: dict[str, Any]) -> bool:
    """Whether a complete or partial row of options can be run in any framework."""
    cell = row.get("cell", "lstm")
    variants = [name for name in VARIANTS if row.get(name, BASE[name]) != BASE[name]]
    if cell == "lstm":
        # Only a complete row can be plain: a partial one may still get a variant.
        plain = len(row) == len(OPTIONS) and not variants  # `parity.table` has it
        return not plain and row.get("padding", "same") == "same" and _fits_a_step(row)
    if cell in CONVOLUTIONS:  # only single layers: Keras takes seconds for each case
        return set(variants) <= {"peephole"} and row.get("layer", "one") == "one"
    return not variants and row.get("padding", "same") == "same" and _fits_a_step(row)


def _fits_a_step(row: dict[str, Any]) -> bool:
    has_sequence_options = row.get("direction", "forward") != "forward" or row.get("mask", "none") != "none"
    return row.get("layer") != "step" or not has_sequence_options


@cache
def sensible_pairs(framework: Peer | None = None) -> frozenset:
    """Return all pairs of options that occur together in some complete row whose every pair the peer has."""
    offered = {name: tuple(v for v in values if _can_run(framework, {name: v}, OPTIONS)) for name, values in OPTIONS.items()}
    settings = [(name, value) for name, values in offered.items() for value in values]
    partial_rows = [dict(pair) for pair in combinations(settings, 2) if pair[0][0] != pair[1][0]]
    runnable_pairs = set().union(*(pairs(row) for row in partial_rows if _can_run(framework, row, offered)))
    complete = (dict(zip(OPTIONS, values, strict=True)) for values in product(*offered.values()))
    return frozenset().union(*(row_pairs for row in complete if possible(row) and (row_pairs := pairs(row)) <= runnable_pairs))


def _can_run(framework: Peer | None, row: dict[str, Any], offered: dict[str, tuple[Any, ...]]) -> bool:
    """Whether the peer can run the options within some row that is otherwise plain: of one of the cells or LSTM variants."""
    # A plain LSTM's row cannot hold every option: padding="valid" needs a convolution.
    plain_rows = (BASE | {name: value} | row for name in ("cell", *VARIANTS) for value in offered[name])
    return any(_runs(framework, tuple(plain_row.items())) for plain_row in plain_rows if possible(plain_row))


@cache
def _runs(framework: Peer | None, row: tuple[tuple[str, Any], ...]) -> bool:
    return not reason_left_out(framework, problem(dict(row)))


@cache
def rows(framework: Peer | None = None) -> tuple[dict[str, Any], ...]:
    """Return rows of options that together hold every sensible pair.

    Args:
        framework: the peer's module, whose `lacks` says what it cannot run; None keeps every possible pair.
    """
    wanted = sensible_pairs(framework)
    occurring = {option for pair in wanted for option in pair}
    offered = {name: tuple(value for value in values if (name, value) in occurring) for name, values in OPTIONS.items()}
    return covering(offered, wanted, possible, only_wanted=True)


def named_rows(framework: Peer | None = None) -> dict[str, dict[str, Any]]:
    """Return the rows by the names of their cases."""
    return {" ".join(_words(row)): row for row in rows(framework)}


def coverage(cases: Iterable[dict[str, Any]], framework: Peer | None = None) -> tuple[int, int]:
    """Return how many of the sensible pairs the rows hold, and how many there are."""
    covered, sensible = set().union(*map(pairs, cases)), sensible_pairs(framework)
    return len(covered & sensible), len(sensible)


def cases(peer: str = "keras", framework: Peer | None = None) -> Iterator[Case]:
    """Yield all cases of a peer.

    In every dtype that the peer has: the rows. In the highest one: its known bugs and the wrapped cells.

    Args:
        peer: the peer's name.
        framework: its module; None keeps everything.
    """
    for number, (name, row) in enumerate(named_rows(framework).items()):
        for dtype in DTYPES:
            case_problem = replace(problem(row, number), dtype=dtype)
            if not reason_left_out(framework, case_problem):
                yield Case(name, case_problem, peer)
    single_changes = (BASE | {option: value} for option, values in OPTIONS.items() for value in values[1:])
    yield from bug_cases({" ".join(_words(row)): problem(row) for row in single_changes if possible(row)}, peer, framework)
    yield from highest_dtype_cases(_wrapped(), peer, framework)


def _wrapped() -> dict[str, Problem]:
    """Return problems of wrapped LSTM cells. They are in no row, because one peer has them, with few other options."""
    batch, time, features, units, _ = SIZES[0]
    dropout = Dropout(LSTMCell(units), inputs=0.25, outputs=0.375, state=0.5, variational=True)
    # Residual adds the inputs to the outputs, so there are as many units as features.
    layers = {"lstm residual": RNN(Residual(LSTMCell(features))), "lstm dropout-around variational": RNN(dropout)}
    return {name: Problem(layer, batch=batch, time=time, features=features, mask="right") for name, layer in layers.items()}


def problem(row: dict[str, Any], number: int = 0) -> Problem:
    """Return the problem that a row of options describes.

    Args:
        row: a value for every option.
        number: the number of the row, which selects the sizes and is the seed.
    """
    batch, time, features, units, projection = SIZES[number % len(SIZES)]
    if row["cell"] in CONVOLUTIONS:
        batch, time, features, units = CONVOLVED
    return Problem(
        _layer(row, units, projection),
        batch=batch,
        time=time,
        features=features,
        mask=row["mask"],
        initial_carry=row["initial_carry"],
        seed=number,
        step=row["layer"] == "step",
    )


def _layer(row: dict[str, Any], units: int, projection: int) -> Layer:
    if row["layer"] == "stack2":
        return Stack(tuple(_recurrent(row, units + k, projection) for k in range(2)))
    layer = _recurrent(row, units, projection)
    return Bidirectional(layer) if row["layer"] == "bidirectional" else layer


def _recurrent(row: dict[str, Any], units: int, projection: int) -> RNN:
    options: dict[str, Any] = {"use_bias": row["bias"], "reverse": row["direction"] == "backward"}
    if row["cell"] in CONVOLUTIONS:
        window, spatial = CONVOLUTIONS[row["cell"]]
        cell = ConvLSTMCell(units, window, spatial, padding=row["padding"], peephole=row["peephole"], use_bias=row["bias"])
        return RNN(cell, reverse=options["reverse"])
    if row["cell"] != "lstm":
        return GRU(units, reset_after=row["cell"] == "gru", **options)
    options |= {name: row[name] for name in VARIANTS}
    kind = options.pop("projection")
    if kind != "none":
        options |= {"projection": projection, "projection_bias": kind == "bias"}
        options |= {"projection_clip": 0.3} if kind == "clip" else {}
    return LSTM(units, **options)


def _words(row: dict[str, Any]) -> Iterator[str]:
    yield row["cell"]
    templates = {
        "layer": "{}",
        "direction": "{}",
        "mask": "mask-{}",
        "bias": "bias-none",
        "initial_carry": "carry-zeros",
        "padding": "{}",
        "peephole": "peephole",
        "projection": "projection-{}",
        "cell_clip": "cell-clip",
        "gate_clip": "gate-clip",
        "coupled": "{}",
    }
    for name, template in templates.items():
        if row[name] != BASE[name]:
            yield template.format(row[name]).removesuffix("-plain")
