"""`compare` and `assert_same`, for users' own tests, against Keras on TensorFlow."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jlstm import LSTM, Bidirectional, LSTMCell, Stack
from parity import Problem, assert_same, compare, ours, peers
from parity.problem import mask_of
from parity.values import draw

pytestmark = pytest.mark.xdist_group("tensorflow")


def test_assert_same_passes_for_your_own_weights_and_inputs():
    """Trained weights and real inputs are compared unchanged."""
    layer = Stack((Bidirectional(LSTM(5)), LSTM(4, reverse=True)))
    params = layer.init(jax.random.key(3), features=3)
    xs = np.random.default_rng(0).standard_normal((2, 7, 3))
    mask = np.arange(7) < np.array([[7], [4]])
    assert_same(Problem(layer, params=params, xs=xs, mask=mask), peer="keras")


def test_assert_same_says_what_differs(monkeypatch):
    """Each quantity that differs is named with both distances."""
    monkeypatch.setattr(
        peers.load("keras"), "run", lambda problem, values: ours.run(problem, values) | {"ys": np.zeros((2, 6, 4))}
    )
    message = r"is not the same as keras's:\nys: peer-bug, off by .*keras by 0\.\d+\nkeras: nothing that was tried explains"
    with pytest.raises(AssertionError, match=message):
        assert_same(Problem(LSTM(4), dtype="float64"))


def test_time_major_layers_are_compared_too():
    """The layout affects only our side: the peer gets the same problem."""
    assert compare(Problem(Bidirectional(LSTM(4, time_major=True)), mask="holes", dtype="float64")).verdict == "pass"


def test_lengths_are_a_mask():
    """Steps after a sequence's length are padding, also in given inputs. Other fields can still be replaced."""
    expected = [[True] * 5, [True] * 3 + [False] * 2]
    problem = Problem(LSTM(4), time=5, lengths=[5, 3], dtype="float64")
    np.testing.assert_array_equal(mask_of(problem), expected)
    np.testing.assert_array_equal(mask_of(Problem(LSTM(4), xs=np.ones((2, 5, 3)), lengths=np.array([5, 3]))), expected)
    assert replace(problem, mask="none").mask == "none"
    by_lengths, by_mask = (draw(variant)._asdict() for variant in (problem, replace(problem, mask=np.array(expected))))
    jax.tree.map(np.testing.assert_array_equal, by_lengths, by_mask)
    assert compare(problem).verdict == "pass"


def test_features_are_those_of_the_parameters():
    """With given parameters the number of features need not be given, for any layer."""
    for layer in (LSTM(4), Stack((Bidirectional(LSTM(3)), LSTM(4)))):
        problem = Problem(layer, params=layer.init(jax.random.key(0), 5))
        assert problem.features == 5
        assert draw(problem).xs.shape == (2, 6, 5)


def test_what_a_side_does_not_have_is_refused():
    """A layer that the peer or textbook lacks, and wrong parameters, are errors, not verdicts."""
    with pytest.raises(ValueError, match="the textbook does not know the activation 'gelu'"):
        compare(Problem(LSTM(4, activation="gelu")))
    with pytest.raises(ValueError, match=r"params\['kernel'\] must have shape \(3, 16\), got \(5, 16\)"):
        compare(Problem(LSTM(4), params=LSTM(4).init(jax.random.key(0), 5), xs=np.ones((2, 6, 3))))
    with pytest.raises(ValueError, match="Keras has no output_activation='relu'"):
        compare(Problem(LSTM(4, output_activation="relu")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "zeros"}, "weights must be one of 'random', 'initial', got 'zeros'"),
        ({"outputs": "first"}, "outputs must be one of 'all', 'last', got 'first'"),
        ({"dtype": "int32"}, "dtype must be one of 'float64'"),
        ({"mask": "top"}, "mask must be a boolean array or one of none, right"),
        ({"time": 7, "batches": 3}, "time must be a multiple of batches, got 7 and 3"),
        ({"batches": 0}, "batches must be a whole number of at least 1, got 0"),
        ({"xs": np.ones((2, 5, 3)), "batches": 3}, "time must be a multiple of batches, got 5 and 3"),
        ({"xs": np.ones((5, 3))}, r"xs must be \(batch, time, features\), got shape \(5, 3\)"),
        ({"mask": np.ones((2, 5), bool)}, r"mask must have shape \(2, 6\), got \(2, 5\)"),
        ({"lengths": [6, 7]}, r"lengths must be 2 whole numbers from 0 to 6, got shape \(2,\)"),
        ({"lengths": [6, -1]}, "lengths must be 2 whole numbers from 0 to 6"),
        ({"lengths": [6.0, 3.0]}, "lengths must be 2 whole numbers from 0 to 6"),
        ({"lengths": [6, 3, 2]}, r"lengths must be 2 whole numbers from 0 to 6, got shape \(3,\)"),
        ({"lengths": [6, 3], "mask": "right"}, "lengths and mask say the same: leave one of them out"),
    ],
)
def test_problems_are_checked(options, message):
    """Wrong options are refused when the problem is made."""
    with pytest.raises(ValueError, match=message):
        Problem(LSTM(4), **options)


def test_things_that_are_no_problem_are_refused():
    """A module for a layer, a layer for a problem, two dtypes, and what Keras cannot wrap are one sentence each."""
    with pytest.raises(TypeError, match="layer must be a Layer such as LSTM"):
        Problem(LSTMCell(4))
    with pytest.raises(TypeError, match="problem must be a Problem such as Problem"):
        assert_same(LSTM(4))
    with pytest.raises(ValueError, match="the layer computes in bfloat16 but the problem in float32: pass dtype='bfloat16'"):
        Problem(Stack((Bidirectional(LSTM(4, dtype="bfloat16")), LSTM(3))))
    with pytest.raises(ValueError, match="Keras has Bidirectional only around a single layer"):
        compare(Problem(Bidirectional(Stack((LSTM(4), LSTM(5))))))


def test_initial_forget_bias_is_compared():
    """An initial forget bias that differs from Keras's fails."""

    class Unbiased(LSTMCell):
        def init(self, key, features, dtype="float32"):
            params = super().init(key, features, dtype)
            return params | {"bias": 0 * params["bias"]}

    problem = Problem(LSTM(4), weights="initial", dtype="float64")
    assert compare(problem).verdict == "pass"
    object.__setattr__(problem.layer, "cell", Unbiased(4))
    wrong = [q.name for q in compare(problem).quantities if q.verdict == "fail"]
    assert wrong == ["initial_bias.0"]
