"""Attention as functions, against the textbook, Keras and differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm.attention import additive_attention, multiplicative_attention
from parity.textbook import attention as textbook
from problems import assert_slopes
from tensorflow_modules import keras, tf

pytestmark = pytest.mark.xdist_group("tensorflow")

BATCH, TARGETS, SOURCE, UNITS, SIZE = 3, 2, 5, 4, 6
FUNCTIONS = {"additive": additive_attention, "multiplicative": multiplicative_attention}
LENGTHS = np.array([5, 2, 0])
every = pytest.mark.parametrize("name", FUNCTIONS)


def arrays(name, *, targets=(TARGETS,), seed=0):
    """Return random queries, keys, values and a scale."""
    rng = np.random.default_rng(seed)
    shapes = ((BATCH, *targets, UNITS), (BATCH, SOURCE, UNITS), (BATCH, SOURCE, SIZE), (UNITS,) if name == "additive" else ())
    return tuple(np.asarray(rng.normal(size=shape)) for shape in shapes)


def expected(name, query, keys, values, scale, mask):
    """Return what the textbook computes, for queries (batch, targets, units)."""
    rows = [
        [getattr(textbook, name)(target, keys[b], values[b], scale, mask[b]) for target in query[b]] for b in range(len(query))
    ]
    return tuple(np.array([[pair[k] for pair in row] for row in rows]) for k in (0, 1))


@partial(jax.jit, static_argnums=0)
def differentiate(name, cotangent, *args, mask=None):
    """Return the results and the gradients of all arguments."""
    out, pullback = jax.vjp(lambda *args: tuple(FUNCTIONS[name](*args, mask=mask)), *args)
    return out, pullback(cotangent)


@pytest.mark.table(quick=1)
@every
def test_values_and_gradients_equal_the_textbook(name, x64):
    """Sources of several lengths, one of which is empty, in lengths or as a mask with holes; gradients are finite differences."""
    args = arrays(name)
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=(BATCH, TARGETS, SIZE)), rng.normal(size=(BATCH, TARGETS, SOURCE))
    mask = rng.random((BATCH, SOURCE)) < 0.6
    mask[1] = False
    results, gradients = differentiate(name, cotangent, *args, mask=mask)
    for got, truth in zip(results, expected(name, *args, mask), strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-12, atol=1e-14)
    assert_slopes(lambda *args: expected(name, *args, mask), args, gradients, cotangent)
    by_length = FUNCTIONS[name](*args, lengths=LENGTHS)
    for got, truth in zip(by_length, expected(name, *args, np.arange(SOURCE) < LENGTHS[:, None]), strict=True):
        np.testing.assert_allclose(got, truth, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(by_length.weights[2], 0)


@every
def test_one_query_is_the_same_as_several(name, x64):
    """A query without an axis of targets gives results without it, and without a scale the factor is 1."""
    query, keys, values, _ = arrays(name, targets=())
    context, weights = jax.jit(FUNCTIONS[name])(query, keys, values)
    truth = expected(name, query[:, None], keys, values, 1.0, np.ones((BATCH, SOURCE), bool))
    np.testing.assert_allclose(context, truth[0][:, 0], rtol=1e-12)
    np.testing.assert_allclose(weights, truth[1][:, 0], rtol=1e-12)


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("scaled", [True, False])
@every
def test_values_and_gradients_equal_keras(name, scaled, x64):
    """Keras's AdditiveAttention and Attention agree in float64, where each source has a position that counts."""
    *args, scale = arrays(name)
    mask = np.arange(SOURCE) < np.array([[5], [2], [1]])
    kind = keras.layers.AdditiveAttention if name == "additive" else keras.layers.Attention
    layer = kind(use_scale=scaled, dtype="float64")
    layer.build([args[0].shape, args[2].shape, args[1].shape])
    if scaled:
        layer.set_weights([scale])
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=(BATCH, TARGETS, SIZE)), rng.normal(size=(BATCH, TARGETS, SOURCE))
    query, keys, values = tensors = [tf.constant(array) for array in args]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        results = layer([query, values, keys], mask=[None, tf.constant(mask)], return_attention_scores=True)
    gradients = tape.gradient(results, [*tensors, *layer.trainable_weights], cotangent)
    ours = differentiate(name, cotangent, *args, *[scale] * scaled, mask=mask)
    # float64 rounding over sums of at most six terms
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), ours, (tuple(results), tuple(gradients)))


@pytest.mark.table(quick=1)
@every
def test_padding_reaches_neither_results_nor_gradients(name):
    """NaN in padding changes nothing, also where all is padding, and large scores do not overflow."""
    query, keys, values, scale = (np.float32(100 * array) for array in arrays(name))
    mask = np.arange(SOURCE) < LENGTHS[:, None]
    cotangent = np.ones((BATCH, TARGETS, SIZE), np.float32), np.ones((BATCH, TARGETS, SOURCE), np.float32)
    spoiled = (np.where(mask[..., None], array, np.float32(np.nan)) for array in (keys, values))
    got = differentiate(name, cotangent, query, *spoiled, scale, mask=mask)
    jax.tree.map(np.testing.assert_array_equal, got, differentiate(name, cotangent, query, keys, values, scale, mask=mask))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))
    np.testing.assert_allclose(got[0][1].sum(-1), np.broadcast_to(LENGTHS[:, None] > 0, (BATCH, TARGETS)), rtol=1e-6)


@every
def test_results_have_the_dtype_of_the_arguments(name):
    """Half precision stays half precision."""
    args = [jnp.asarray(array, "bfloat16") for array in arrays(name)]
    shapes = jax.eval_shape(FUNCTIONS[name], *args, lengths=LENGTHS)
    assert {leaf.dtype for leaf in shapes} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"query": np.ones((3, 2, 5))}, ValueError, r"query must have shape \(3, 4\), or \(3, targets, 4\) for several"),
        ({"query": np.ones((2, 4))}, ValueError, "query must have shape"),
        ({"values": np.ones((3, 4, 6))}, ValueError, r"values must have the shape \(3, 5\) of the keys, and a size"),
        ({"keys": np.ones((3, 5, 4), int)}, TypeError, "keys must be floating"),
        ({"scale": np.ones(3)}, ValueError, "scale must"),
        ({"lengths": LENGTHS + 3}, ValueError, "lengths must lie between 0 and the 5 time steps of keys, got 8"),
        ({"lengths": LENGTHS, "mask": np.ones((3, 5), bool)}, ValueError, "lengths and mask are both given"),
        ({"mask": np.ones((3, 4), bool)}, ValueError, r"mask must have shape \(3, 5\)"),
    ],
)
@every
def test_what_does_not_fit_is_one_sentence(name, changes, error, message):
    """Wrong shapes and dtypes are refused."""
    good = dict(zip(("query", "keys", "values", "scale"), (np.float32(a) for a in arrays(name)), strict=True))
    with pytest.raises(error, match=message):
        FUNCTIONS[name](**(good | changes))
