"""Tests that all peers share, and a peer that computes as we do."""

from types import ModuleType

import jax
import numpy as np
import pytest

from jlstm import LSTM
from parity import Problem, compare, measure, ours, peers, table, variants_table
from parity.diagnosis import Diagnosis
from parity.quantities import truth
from parity.values import draw

ALL = ("ys", "carry", "d_params", "d_xs", "d_carry")


class PeerTests:
    """The tests of every peer. The test class of a peer inherits from this one and fills in the tables.

    Attributes:
        peer: the peer's name.
        pairs: the least number of pairs of options that its rows hold.
        equal: rows (layer, options of `Problem`) of problems in which the peer equals the truth.
        lacks: rows (what the peer says, layer, options of `Problem`) of problems that the peer cannot run.
        dtype: the dtype of the problems in `equal` that set none, and of the planted faults.
        quantities: the quantities that the peer computes.
    """

    peer: str
    pairs: int
    equal: tuple
    lacks: tuple
    dtype = "float64"
    quantities = ALL

    def pytest_generate_tests(self, metafunc):
        """Run a test once for each row of its table: pytest calls this hook of a class for all its tests."""
        if "words" in metafunc.fixturenames:
            metafunc.parametrize(("words", "layer", "options"), self.lacks, ids=str)
        elif "layer" in metafunc.fixturenames:
            metafunc.parametrize(("layer", "options"), self.equal, ids=str)

    @pytest.mark.table(quick=2)
    def test_it_is_the_same(self, layer, options):
        """Outputs, states and all gradients that the peer computes equal the truth, as do ours."""
        check_passes(self.peer, layer, **{"dtype": self.dtype, "quantities": self.quantities} | options)

    def test_its_table_is_complete(self):
        """The peer's rows hold every pair of its options."""
        framework = peers.load(self.peer)
        covered_pairs, possible_pairs = table.coverage(table.rows(framework), framework)
        assert covered_pairs == possible_pairs >= self.pairs

    def test_what_it_lacks_is_refused(self, words, layer, options):
        """What it lacks is refused in one sentence."""
        check_refuses(self.peer, words, layer, **options)

    def test_its_faults_are_caught(self):
        """Swapped gates in the weights change the peer's results, and a gradient of zeros is called the peer's bug."""
        framework, problem = peers.load(self.peer), Problem(LSTM(4), dtype=self.dtype)
        values = draw(problem)
        swap = lambda leaf: np.concatenate([np.split(leaf, 4, -1)[k] for k in (0, 2, 1, 3)], -1)
        swapped = values._replace(params=jax.tree.map(swap, values.params))
        results, right, expected = framework.run(problem, swapped), truth(problem, values), truth(problem, swapped)
        assert max(np.abs(results[name] - right[name]).max() for name in ("ys", "carry.h", "carry.c")) > 1e-3
        if self.dtype == "float64":
            wrong = {**results, "d_xs": np.zeros_like(values.xs)}
            quantities = measure.judge(expected, expected, wrong, dtype=self.dtype, time=problem.time)
            assert {q.name: q.verdict for q in quantities if q.verdict != "pass"} == {"d_xs": "peer-bug"}


def check_passes(name, layer, *, dtype="float64", quantities=ALL, **options):
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
