"""The table of cases holds every valid pair of options, and no invalid case."""

from itertools import product

import pytest

from parity import table
from parity.covering import covering
from parity.table import DTYPES, OPTIONS, makes_sense

pytestmark = pytest.mark.no_cover


def test_every_sensible_pair_is_held():
    """Each valid pair of options is in some row, and no row is invalid."""
    covered_pairs, possible_pairs = table.coverage(table.rows())
    assert covered_pairs == possible_pairs > 900
    assert all(makes_sense(row) for row in table.rows())


def test_missing_rows_are_noticed():
    """The printed coverage falls when a row is left out."""
    covered_pairs, possible_pairs = table.coverage(table.rows()[:-1])
    assert covered_pairs < possible_pairs


def test_only_senseless_pairs_are_left_out():
    """These are all but plain options in a single step, and zero outputs without a masked step."""
    everything = {
        ((a, x), (b, y))
        for i, a in enumerate(OPTIONS)
        for b in list(OPTIONS)[i + 1 :]
        for x, y in product(OPTIONS[a], OPTIONS[b])
    }
    left_out = everything - table.sensible_pairs()
    step = {((("layer", "step")), (name, v)) for name, plain in table.ALONE.items() for v in OPTIONS[name] if v != plain}
    assert left_out == step | {(("mask", "none"), ("zero_output", True))}


@pytest.mark.slow
def test_table_is_the_same_every_time():
    """The cases do not depend on the run, so a failure can be selected by name."""
    assert covering(OPTIONS, table.sensible_pairs(), makes_sense) == table.rows()


def test_cases_have_names_of_their_own():
    """There are 120 to 200 cases, each name once in a dtype, and each row in every dtype."""
    cases = list(table.cases())
    assert 120 <= len(cases) <= 200
    assert len({(case.name, case.problem.dtype) for case in cases}) == len(cases)
    for name in table.named_rows():
        assert {case.problem.dtype for case in cases if case.name == name} == set(DTYPES)


def test_sizes_differ():
    """Batch, time, features and units all differ in every row, so that a transpose cannot hide."""
    for size in table.SIZES:
        assert len(set(size)) == 4
    for case in table.cases():
        sizes = {case.problem.batch, case.problem.time, case.problem.features}
        assert case.problem.step or len(sizes) == 3
