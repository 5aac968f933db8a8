"""Covering arrays: a small set of option rows in which every wanted pair of options occurs."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

Row = dict[str, Any]
Option = tuple[str, Any]
Pair = tuple[Option, Option]


def covering(
    options: Mapping[str, tuple[Any, ...]],
    wanted: Iterable[Pair],
    makes_sense: Callable[[Row], bool],
    *,
    only_wanted: bool = False,
    candidates: int = 60,
) -> tuple[Row, ...]:
    """Return rows that together hold every wanted pair.

    The method is greedy: a row starts from one missing pair and is completed at random, several times. The candidate that covers
    most missing pairs is taken. The random seed is fixed, so the result is always the same. It need not be the smallest set.

    Args:
        options: the allowed values of each option.
        wanted: the pairs to cover, each in the order of `options`.
        makes_sense: whether a row is allowed; called with complete and with partial rows. Every wanted pair needs a complete row.
        only_wanted: whether a row may hold no other pairs than the wanted ones.
        candidates: how many random rows are drawn for each row of the result.

    Returns:
        Complete rows, with the options in the order of `options`.

    Raises:
        ValueError: a wanted pair has no complete row.
    """
    rng = random.Random(0)
    missing, rows = set(wanted), []
    partners = _partners(missing) if only_wanted else None
    while missing:
        # Each round covers at least this pair, so the loop ends. Sets have no stable order between processes: choose by text.
        wanted_pair = dict(min(missing, key=repr))
        best = max(
            (_complete(wanted_pair, options, makes_sense, partners, rng) for _ in range(candidates)),
            key=lambda row: len(pairs(row) & missing),
        )
        missing -= pairs(best)
        rows.append(best)
    return tuple(rows)


def pairs(row: Row) -> set[Pair]:
    """Return all pairs of options that occur together in a row."""
    # The order within a pair is that of the row: the same two options in the other order would be another tuple.
    return set(combinations(row.items(), 2))


def _partners(wanted: Iterable[Pair]) -> dict[Option, set[Option]]:
    """Return for each option those that it is paired with."""
    partners: defaultdict[Option, set[Option]] = defaultdict(set)
    for first, second in wanted:
        partners[first].add(second)
        partners[second].add(first)
    return partners


def _complete(
    wanted: Row,
    options: Mapping[str, tuple[Any, ...]],
    makes_sense: Callable[[Row], bool],
    partners: Mapping[Option, set[Option]] | None,
    rng: random.Random,
) -> Row:
    """Return a random complete row that makes sense and contains the wanted options.

    If there are `partners`, every option stands beside its partners only.
    """

    def fits(row: Row, option: Option) -> bool:
        """Whether the row may get this option."""
        return (partners is None or row.items() <= partners[option]) and makes_sense({**row, option[0]: option[1]})

    # A random fill can run into a dead end, where no value of an option is allowed. Then it starts again from the wanted pair. A
    # pair that fails a thousand times is taken to have no row.
    for _ in range(1000):
        row = dict(wanted)
        for name in rng.sample(list(options), len(options)):
            if name in row:
                continue
            if sensible := [value for value in options[name] if fits(row, (name, value))]:
                row[name] = rng.choice(sensible)
        if len(row) == len(options):
            return {name: row[name] for name in options}
    raise ValueError(f"no row that makes sense has {wanted}: do not ask for this pair")
