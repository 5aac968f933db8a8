"""TensorFlow's operations for whole sequences as peers."""

import numpy as np
import pytest

from jlstm import GRU, LSTM, Bidirectional, Stack
from parity import Problem, compare, peers
from parity.quantities import truth
from parity.values import draw
from peer_cases import PeerTests, check_known_bugs, check_refuses

pytestmark = [pytest.mark.xdist_group("tensorflow"), pytest.mark.filterwarnings("ignore:`tf.nn.rnn_cell:UserWarning")]


class TestBlockLSTM(PeerTests):
    """`BlockLSTM` computes in float32 only."""

    peer = "tf1_block"
    pairs = 150
    equal = (
        (LSTM(4), {"outputs": "last", "initial_carry": False}),
        (LSTM(4, use_bias=False, unroll="all"), {"batches": 3}),
        (LSTM(4, peephole=True), {}),
        (Stack((LSTM(4), LSTM(5, peephole=True))), {}),
    )
    lacks = (
        ("BlockLSTM runs whole sequences, forwards", LSTM(4, reverse=True), {}),
        ("BlockLSTM runs whole sequences, forwards", LSTM(4), {"step": True}),
        ("BlockLSTM has no GRUCell", GRU(4), {}),
        ("BlockLSTM runs whole sequences, forwards", Bidirectional(LSTM(4)), {}),
        ("BlockLSTM has no activation='relu'", LSTM(4, activation="relu"), {}),
        ("BlockLSTM takes no lengths", LSTM(4), {"mask": "right"}),
        ("BlockLSTM is not compared in float64", LSTM(4), {"dtype": "float64"}),
    )
    dtype = "float32"


@pytest.mark.parametrize(("words", "layer", "options"), TestBlockLSTM.lacks, ids=str)
def test_version_2_lacks_the_same(words, layer, options):
    """`BlockLSTMV2` refuses what `BlockLSTM` refuses, in the same words."""
    check_refuses("tf2_block", words, layer, **options)


def test_the_gradient_of_a_bound_is_its_bug():
    """Its gradient passes through where c was clipped."""
    check_known_bugs("tf1_block", "knows nothing of cell_clip")


def test_the_gradient_of_version_2_is_its_bug():
    """The gradient of version 2 is wrong in all cases."""
    check_known_bugs("tf2_block", "is that of BlockLSTM")


@pytest.mark.parametrize(
    ("peer", "layer"), [("tf1_block", LSTM(4, peephole=True, cell_clip=0.3)), ("tf2_block", Stack((LSTM(4), LSTM(5))))], ids=str
)
def test_where_gradients_are_wrong_outputs_are_right(peer, layer):
    """Outputs are right where gradients are wrong."""
    comparison = compare(Problem(layer), peer)
    wrong = {quantity.name.split(".")[0] for quantity in comparison.quantities if quantity.verdict != "pass"}
    assert wrong == {"d_carry", "d_params", "d_xs"}
    assert comparison.verdict == "peer-bug"


def test_the_diagnosis_finds_what_is_wrong_in_version_2():
    """A single step shows it, where nothing hides it."""
    cause = "d_params.bias, d_params.kernel, d_params.recurrent_kernel are right if the f and g gates are swapped"
    assert cause in str(compare(Problem(LSTM(4), time=1), "tf2_block").diagnosis)


def test_one_step_of_its_cell_is_ours():
    """One step of LSTMBlockCell, which has no gradient, equals ours."""
    framework = peers.load("tf1_block")
    problem = Problem(LSTM(4, peephole=True, cell_clip=0.3), step=True)
    values = draw(problem)
    true = truth(problem, values)
    (weights,) = framework.dump(problem.layer, values.params)
    state = {"cs_prev": values.carry.c, "h_prev": values.carry.h}
    weight_inputs = {"w": weights["kernel"], "b": weights["bias"]} | {
        name: weights[weight_name] for name, weight_name in framework.PEEPHOLES.items()
    }
    arrays = {name: np.float32(array) for name, array in {"x": values.xs[:, 0], **state, **weight_inputs}.items()}
    result = framework.tf.raw_ops.LSTMBlockCell(**arrays, cell_clip=0.3, use_peephole=True)
    for name, got in (("carry.c", result.cs), ("carry.h", result.h)):
        np.testing.assert_allclose(got, true[name], rtol=0, atol=1e-6)  # float32
