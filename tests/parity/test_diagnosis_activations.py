"""A wrong activation is diagnosed by its name, and the NumPy activations behind that equal those of the library."""

import jax
import numpy as np
import pytest

from jlstm import LSTM
from parity import diagnose, textbook
from parity.values import draw
from planted_faults import small_problem, with_layer

pytestmark = pytest.mark.xdist_group("tensorflow")

IN_KERAS = sorted(textbook.ACTIVATIONS.keys() - {"hard_sigmoid_0.2", "hard_tanh", "leaky_relu"})
PLACES = {name: ("recurrent_activation", "activation")[k % 2] for k, name in enumerate(IN_KERAS)}
PLACES |= {"sigmoid": "activation", "tanh": "recurrent_activation"}  # in the other place they are the defaults


@pytest.mark.table(quick=5)
@pytest.mark.parametrize(("name", "place"), PLACES.items())
def test_a_wrong_activation_is_named(name, place):
    """Every activation that Keras has by the same name and formula is named."""
    problem, plant = small_problem(), with_layer(LSTM(4, **{place: name}))
    diagnosis = diagnose(problem, plant(problem, draw(problem)))
    assert diagnosis.causes[0].startswith(f"matches if the {place.replace('_', ' ')} is {name}")


@pytest.mark.parametrize("name", textbook.ACTIVATIONS)
def test_the_textbook_has_the_activations_of_the_library(name, x64):
    """Functions and derivatives agree, except at kinks."""
    from jlstm.activations import ACTIVATIONS

    z = np.random.default_rng(0).normal(scale=3, size=200)
    function, derivative = textbook.ACTIVATIONS[name]
    np.testing.assert_allclose(function(z), ACTIVATIONS[name](z), rtol=1e-12, atol=1e-15)
    slopes = jax.vmap(jax.grad(ACTIVATIONS[name]))(z)
    np.testing.assert_allclose(derivative(z), slopes, rtol=1e-11, atol=1e-13)
