"""The native kernel with a projection of h: it equals the textbook, and an output may be its own cotangent."""

import jax
import numpy as np
import pytest

from jlstm import LSTM
from problems import UNITS, assert_close, cotangent_of, differentiate, flags, small_problem, textbook_results

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("native")]

SIZES = {1: 1, 3: 2, 17: 33, 33: 17}  # size of h by the number of units
VARIANT = {"peephole": True, "use_bias": False, "projection_bias": True, "projection_clip": 0.3, "cell_clip": 0.9}


@pytest.mark.table(quick=3)
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("options", [{}, VARIANT], ids=["plain", "variant"])
@pytest.mark.parametrize("units", SIZES)
def test_values_and_gradients_equal_the_textbook(units, options, reverse):
    """With a mask and resets, outputs, the last carry and all gradients equal those of float64 NumPy."""
    layer = LSTM(units, projection=SIZES[units], reverse=reverse, backend="cpu", **options)
    _, params, xs, carry = problem = small_problem(layer, batch=3, time=6)
    params = jax.tree.map(lambda leaf: leaf / np.sqrt(units), params)  # without this, long sums magnify small differences
    cotangent, sequence = (
        cotangent_of(problem),
        {name: flags(0.6, batch=3, time=6, seed=k) for k, name in enumerate(("mask", "resets"))},
    )
    got = differentiate(layer, cotangent, params, xs, carry, **sequence)
    assert_close(got, textbook_results(layer, params, xs, carry, cotangent, **sequence), atol=1e-11)


def test_an_output_may_be_its_own_cotangent():
    """The backward run writes over the cotangent of the outputs, and reads the outputs. XLA then copies one of them."""
    problem, gradients = small_problem(LSTM(UNITS, projection=2), dtype=np.float32), {}
    for backend in ("cpu", "scan"):
        layer = LSTM(UNITS, projection=2, time_major=True, backend=backend)

        def gradient(params, xs, layer=layer):
            ys, pull_back = jax.vjp(lambda params: layer.apply(params, xs)[1], params)
            return pull_back(ys)[0]

        gradients[backend] = jax.jit(gradient)(*problem[1:3])
    assert_close(gradients["cpu"], gradients["scan"], atol=1e-5)
