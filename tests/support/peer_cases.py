"""Checks that the tests of all peers share."""

from types import ModuleType

import jax
import numpy as np
import pytest

from jlstm import LSTM
from parity import Problem, compare, measure, ours, peers, table, variants_table
from parity.diagnosis import Diagnosis
from parity.quantities import truth
from parity.values import draw


def check_table(name, *, pairs):
    """Assert that the peer's rows hold every pair of options that it has, and at least this many pairs."""
    framework = peers.load(name)
    covered_pairs, possible_pairs = table.coverage(table.rows(framework), framework)
    assert covered_pairs == possible_pairs >= pairs


def check_passes(name, layer, *, dtype="float64", quantities=("ys", "carry", "d_params", "d_xs", "d_carry"), **options):
    """Assert that our results and the peer's equal the truth, and that exactly these quantities were compared."""
    comparison = compare(Problem(layer, dtype=dtype, **options), name)
    assert comparison.verdict == "pass", comparison
    compared = {quantity.name.split(".")[0] for quantity in comparison.quantities}
    assert compared == set(quantities) - (set() if options.get("initial_carry", True) else {"d_carry"})


def check_refuses(name, words, layer, **options):
    """Assert that the peer says in these words what it lacks, and that it is not run."""
    problem = Problem(layer, **options)
    assert words in peers.load(name).lacks(problem)
    with pytest.raises(ValueError, match="cannot be asked for this"):
        compare(problem, name)


def check_faults(name, monkeypatch, dtype="float64"):
    """Swapped gates in the weights change the peer's results, and a gradient of zeros is called the peer's bug."""
    framework, problem = peers.load(name), Problem(LSTM(4), dtype=dtype, mask="none")
    values = draw(problem)
    right = truth(problem, values)
    swapped = jax.tree.map(lambda leaf: np.concatenate([np.split(leaf, 4, -1)[k] for k in (0, 2, 1, 3)], -1), values.params)
    wrong = framework.run(problem, values._replace(params=swapped))
    assert max(np.abs(wrong[key] - right[key]).max() for key in ("ys", "carry.h", "carry.c")) > 1e-3
    if dtype == "float64":
        real = framework.run
        monkeypatch.setattr(framework, "run", lambda *args: real(*args) | {"d_xs": np.zeros_like(values.xs)})
        comparison = compare(problem, name)
        assert comparison.verdict == "peer-bug"
        assert [q.name for q in comparison.quantities if q.verdict != "pass"] == ["d_xs"]


def check_known_bugs(name, *words):
    """The peer still fails in every case that is listed as its bug, for the listed reasons, each of which has a link."""
    framework = peers.load(name)
    cases = [case for case_table in (table, variants_table) for case in case_table.cases(name, framework) if case.known_bug]
    assert {case.known_bug for case in cases} == {case.known_bug for case in cases if "https://github.com/" in case.known_bug}
    assert {word for word in words if any(word in case.known_bug for case in cases)} == set(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "explain", lambda *_: Diagnosis())  # skips the search for a cause, which has its own tests
        for case in cases:
            assert any(word in case.known_bug for word in words), case
            comparison = compare(case.problem, name, run=truth)  # skips our side, which has its own tests
            assert comparison.verdict == "peer-bug", f"mended: take {case.known_bug!r} out of {name}"


def our_own_peer():
    """A peer without limits and bugs: our own side, in the form of a peer."""
    peer = ModuleType("ours")
    nothing = dict.fromkeys(("lacks", "known_bug"), lambda problem: "")
    vars(peer).update({"run": ours.run, "version": lambda: "ours 1"} | nothing)
    return peer
