"""Covering arrays: few rows of options that together hold every wanted pair of them."""

import random
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

Row = dict[str, Any]
Pair = tuple[tuple[str, Any], tuple[str, Any]]


def covering(
    options: Mapping[str, tuple[Any, ...]], wanted: Iterable[Pair], makes_sense: Callable[[Row], bool], candidates: int = 60
) -> tuple[Row, ...]:
    """Rows that hold every wanted pair: greedily the random candidate that has most of those missing.

    The same every time.

    Args:
        options: the values of each.
        wanted: the pairs, each in the order of `options`.
        makes_sense: whether a row, complete or not, may be; every wanted pair must have a complete one.
        candidates: how many are tried for each row.

    Raises:
        ValueError: a wanted pair has no complete row.
    """
    rng = random.Random(0)
    missing, chosen = set(wanted), []
    while missing:
        first = dict(min(missing, key=repr))
        best = max(
            (_complete(first, options, makes_sense, rng) for _ in range(candidates)), key=lambda row: len(pairs(row) & missing)
        )
        missing -= pairs(best)
        chosen.append(best)
    return tuple(chosen)


def pairs(row: Row) -> set[Pair]:
    """All pairs of options that occur together in a row."""
    return set(combinations(row.items(), 2))


def _complete(wanted: Row, options: Mapping[str, tuple[Any, ...]], makes_sense: Callable[[Row], bool], rng: random.Random) -> Row:
    for _ in range(1000):
        row = dict(wanted)
        for name in rng.sample(list(options), len(options)):
            if name in row:
                continue
            if sensible := [value for value in options[name] if makes_sense(row | {name: value})]:
                row[name] = rng.choice(sensible)
        if len(row) == len(options):
            return {name: row[name] for name in options}
    raise ValueError(f"no row that makes sense has {wanted}: do not ask for this pair")
