"""The GRU equals Keras's GRU, in both conventions."""

import numpy as np
import pytest

from jlstm import GRU
from keras_oracle import differentiate_keras
from problems import UNITS, assert_close, cotangent_of, differentiate, small_problem
from tensorflow_modules import keras

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64"), pytest.mark.xdist_group("tensorflow")]


@pytest.mark.table(quick=6)
@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}], ids=repr)
@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
def test_values_and_gradients_equal_keras(options, reset_after, reverse):
    """Values and gradients agree in float64. Of Keras's second bias only the candidate's part is separate in ours."""
    problem = small_problem(GRU(UNITS, reset_after=reset_after, reverse=reverse, **options))
    cotangent = cotangent_of(problem)
    both = {"return_sequences": True, "return_state": True}
    layer = keras.layers.GRU(UNITS, reset_after=reset_after, go_backwards=reverse, dtype="float64", **both, **options)
    weights = {name: leaf for name, leaf in problem.params.items() if name != "recurrent_bias"}
    if "recurrent_bias" in problem.params:
        second = np.concatenate([np.zeros(2 * UNITS), problem.params["recurrent_bias"]])
        weights["bias"] = np.stack([weights["bias"], second])
    names = [name for name in ("kernel", "recurrent_kernel", "bias") if name in weights]
    ordered = [weights[name] for name in names]
    results, (of_weights, *rest) = differentiate_keras(layer, ordered, problem, cotangent)
    gradients = dict(zip(names, of_weights, strict=True))
    if "recurrent_bias" in problem.params:
        first, second = np.asarray(gradients["bias"])
        gradients |= {"bias": first, "recurrent_bias": second[2 * UNITS :]}
    got = differentiate(problem.layer, cotangent, *problem[1:])
    assert_close(got, (results, (gradients, *rest)), rtol=1e-13, atol=1e-12)  # float64 rounding over five steps
