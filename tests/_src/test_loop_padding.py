"""The content of padding reaches no output, no carry and no gradient."""

import jax
import numpy as np
import pytest

from jlstm import LSTM, Bidirectional, Stack
from problems import FEATURES, TIME, UNITS, assert_close, cotangent_of, differentiate, flags, small_problem

pytestmark = [pytest.mark.no_cover, pytest.mark.every_backend, pytest.mark.usefixtures("x64")]

LAYERS = {
    "plain": LSTM(UNITS),
    "backwards": LSTM(UNITS, reverse=True),
    "relu": LSTM(UNITS, activation="relu"),
    "remat": LSTM(UNITS, remat=2),
    "unrolled": LSTM(UNITS, unroll=True),
    "bidirectional": Bidirectional(LSTM(UNITS), "mul"),
    "stack": Stack((Bidirectional(LSTM(UNITS)), LSTM(6, remat=True), LSTM(2, reverse=True))),
}
CONTENTS = {"NaN": np.nan, "infinity": np.inf, "numbers too large to square": 1e300}


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("name", LAYERS)
def test_padding_content_cannot_matter(name):
    """NaN, inf and huge numbers in padding change no bit of values and gradients, and get gradients of zero themselves."""
    problem = small_problem(LAYERS[name], batch=3)
    mask = flags(0.6, batch=3)
    mask[1] = False
    cotangent = cotangent_of(problem)
    expected = differentiate(problem.layer, cotangent, *problem[1:], mask=mask)
    np.testing.assert_array_equal(expected[1][1][~mask], 0)
    for content in CONTENTS.values():
        xs = np.where(mask[..., None], problem.xs, content)
        got = differentiate(problem.layer, cotangent, problem.params, xs, problem.carry, mask=mask)
        assert_close(got, expected, atol=0)


def test_padding_content_cannot_matter_beyond_lengths():
    """The same for what lies beyond `lengths`, under vmap over sequences as well."""
    layer, params, xs, carry = small_problem(LSTM(UNITS), batch=3)
    lengths = np.array([0, 2, TIME])
    beyond = np.where(np.arange(TIME)[:, None] < lengths[:, None, None], xs, np.nan)
    per_sequence = jax.vmap(lambda x, c, n: layer.apply(params, x, c, lengths=n))
    assert_close(per_sequence(beyond, carry, lengths), layer.apply(params, xs, carry, lengths=lengths), atol=1e-15)


def test_second_derivatives_see_no_padding():
    """The Hessian of a loss is finite and unchanged with NaN in the padding."""
    layer, params, xs, carry = small_problem(LSTM(2), time=3)
    mask = flags(0.6, time=3)

    @jax.jit
    def hessian(xs):
        return jax.hessian(lambda p: (layer.apply(p, xs, carry, mask=mask)[1] ** 2).sum())(params)

    assert_close(hessian(np.where(mask[..., None], xs, np.nan)), hessian(xs), atol=0)


def test_outputs_in_padding_are_zero():
    """Where a step does not count its output is zero, for every merge and through a stack."""
    mask = flags(0.5, batch=3)
    for layer in (LAYERS["bidirectional"], LAYERS["stack"], Bidirectional(LSTM(UNITS), "sum")):
        problem = small_problem(layer, batch=3, features=FEATURES)
        _, ys = layer.apply(*problem[1:], mask=mask)
        np.testing.assert_array_equal(np.any(ys != 0, axis=-1), mask)


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("options", [{}, {"remat": 4}, {"reverse": True}, {"unroll": 2}], ids=str)
def test_steps_that_do_not_count_cannot_overflow_the_gradient(options):
    """A cell that would overflow in a padded step, or in one that fills up a chunk of `remat`, leaves the gradient as it is."""
    layer = LSTM(4, activation="relu", dtype="float16", **options)
    params = {"kernel": np.ones((3, 16)), "recurrent_kernel": np.full((4, 16), 2.0), "bias": np.zeros(16)}

    def gradient(time, **sequence):
        def loss(params):
            return layer.apply(params, np.ones((1, time, 3), np.float16), **sequence)[1].astype("float32").sum() * 1e-3

        return jax.jit(jax.grad(loss))(params)

    padded = gradient(6, mask=np.arange(6)[None] != (0 if layer.reverse else 5))
    assert_close(padded, gradient(5), atol=0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(padded))
