"""The plain recurrent network equals Keras's SimpleRNN."""

import pytest

from jlstm import RNN, ElmanCell
from keras_oracle import differentiate_keras
from problems import UNITS, assert_close, cotangent_of, differentiate, small_problem
from tensorflow_modules import keras

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.xdist_group("tensorflow")]


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}], ids=repr)
@pytest.mark.parametrize("reverse", [False, True])
def test_values_and_gradients_equal_keras(options, reverse):
    """With the same weights Keras's SimpleRNN gives the same outputs and gradients in float64."""
    problem = small_problem(RNN(ElmanCell(UNITS, **options), reverse=reverse))
    cotangent = cotangent_of(problem)
    both = {"return_sequences": True, "return_state": True}
    layer = keras.layers.SimpleRNN(UNITS, go_backwards=reverse, dtype="float64", **both, **options)
    names = [name for name in ("kernel", "recurrent_kernel", "bias") if name in problem.params]
    weights = [problem.params[name] for name in names]
    results, (of_weights, *rest) = differentiate_keras(layer, weights, problem, cotangent)
    expected = results, (dict(zip(names, of_weights, strict=True)), *rest)
    got = differentiate(problem.layer, cotangent, *problem[1:])
    assert_close(got, expected, rtol=1e-13, atol=1e-12)  # float64 rounding over five steps
