"""JAX's transformations work on all layers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

from jlstm import LSTM, Bidirectional, Stack
from problems import FEATURES, TIME, UNITS, apply, assert_close, cotangent_of, differentiate, flags, normal, small_problem

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64")]

LAYERS = {
    "plain": LSTM(UNITS),
    "remat": LSTM(UNITS, remat=2),
    "bidirectional": Bidirectional(LSTM(UNITS)),
    "stack": Stack((LSTM(UNITS), LSTM(6, reverse=True))),
}


@pytest.mark.table(quick=1)
@pytest.mark.parametrize("name", ["plain", "remat"])
def test_derivatives_of_first_and_second_order(name):
    """Forward and reverse mode, once and twice, agree with finite differences."""
    layer, params, xs, carry = small_problem(LAYERS[name], time=3)
    mask, resets = flags(0.7, time=3), flags(0.3, time=3)
    f = jax.jit(lambda p, xs, carry: layer.apply(p, xs, carry, mask=mask, resets=resets))
    check_grads(f, (params, xs, carry), order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)  # of differences with step 1e-6


@pytest.mark.table(quick=2)
@pytest.mark.newest_jax
@pytest.mark.parametrize("name", LAYERS)
def test_vmap_over_sequences(name):
    """One sequence at a time under vmap equals the batch, values and gradients alike."""
    problem = small_problem(LAYERS[name])
    mask, cotangent = flags(0.6), cotangent_of(problem)
    got = jax.vmap(lambda ct, xs, carry, mask: differentiate(problem.layer, ct, problem.params, xs, carry, mask=mask))(
        cotangent, problem.xs, problem.carry, mask
    )
    out, (for_params, *other_gradients) = got
    summed = jax.tree.map(lambda leaf: leaf.sum(axis=0), for_params)
    assert_close((out, (summed, *other_gradients)), differentiate(problem.layer, cotangent, *problem[1:], mask=mask), atol=1e-13)


def test_vmap_over_params():
    """Several models under vmap, as for an ensemble, equal each model alone."""
    layer, params, xs, carry = small_problem(LAYERS["stack"])
    ensemble = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf, -leaf]), params)
    got = jax.vmap(lambda p: apply(layer, p, xs, carry))(ensemble)
    for k in range(3):
        member, expected = (jax.tree.map(lambda leaf, k=k: leaf[k], tree) for tree in (got, ensemble))
        assert_close(member, apply(layer, expected, xs, carry), atol=1e-13)


@pytest.mark.usefixtures("full_precision")
def test_vmap_over_init():
    """Parameters drawn from many keys under vmap equal those drawn one by one."""
    layer, keys = LAYERS["bidirectional"], jax.random.split(jax.random.key(0), 3)
    init = lambda key: layer.init(key, FEATURES)
    many = jax.jit(jax.vmap(init))(keys)
    assert_close(jax.tree.map(lambda leaf: leaf[1], many), jax.jit(init)(keys[1]), atol=1e-15)


@pytest.mark.table(quick=2)
@pytest.mark.newest_jax
@pytest.mark.parametrize("name", LAYERS)
def test_jvp_and_vjp_are_transposes(name):
    """<w, J v> equals <J' w, v> for random tangents and cotangents."""
    layer, *args = small_problem(LAYERS[name])
    cotangent = cotangent_of(small_problem(layer))
    tangent = normal(tuple(args), rng=np.random.default_rng(5))
    _, pushed = jax.jit(partial(jax.jvp, lambda *a: apply(layer, *a)))(tuple(args), tangent)
    _, pulled = differentiate(layer, cotangent, *args)
    inner = lambda a, b: sum(jax.tree.leaves(jax.tree.map(np.vdot, a, b)))
    np.testing.assert_allclose(inner(cotangent, pushed), inner(pulled, tangent), rtol=1e-11)


@pytest.mark.newest_jax
def test_hessian_is_symmetric_and_true():
    """The Hessian is symmetric and its product with a direction is the difference of two gradients."""
    layer, params, xs, carry = small_problem(LSTM(2), time=3)
    flat, unravel = ravel_pytree(params)
    loss = lambda v: (layer.apply(unravel(v), xs, carry)[1] ** 2).sum()
    hessian, gradient = jax.jit(jax.hessian(loss))(flat), jax.jit(jax.grad(loss))
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-13)
    direction, step = np.random.default_rng(3).normal(size=flat.shape), 1e-5
    difference = (gradient(flat + step * direction) - gradient(flat - step * direction)) / (2 * step)
    np.testing.assert_allclose(hessian @ direction, difference, atol=1e-7)  # the difference errs by step²


def test_checkpoint_changes_nothing():
    """Gradients inside `jax.checkpoint` stay the same."""
    layer, params, xs, carry = small_problem(LAYERS["stack"])
    loss = lambda p: (layer.apply(p, xs, carry)[1] ** 2).sum()
    assert_close(jax.jit(jax.grad(jax.checkpoint(loss)))(params), jax.jit(jax.grad(loss))(params), atol=1e-13)


@pytest.mark.parametrize("name", LAYERS)
def test_export_and_load(name):
    """An exported and serialized program computes the same, for any batch size."""
    layer, params, xs, carry = small_problem(LAYERS[name])
    (batch,) = jax.export.symbolic_shape("batch")
    free = lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype)
    f = jax.jit(lambda p, xs, carry, lengths: layer.apply(p, xs, carry, lengths=lengths))
    lengths = np.array([2, TIME])
    exported = jax.export.export(f)(params, free(xs), jax.tree.map(free, carry), free(lengths))
    got = jax.export.deserialize(exported.serialize()).call(params, xs, carry, lengths)
    assert_close(got, f(params, xs, carry, lengths), atol=1e-14)  # compiled apart, with sums in another order


@pytest.mark.newest_jax
def test_export_with_time_left_open():
    """One program serves any number of steps, with lengths. `remat` cuts time into chunks and refuses."""
    layer, params, xs, _ = small_problem(Bidirectional(LSTM(UNITS)))
    batch, time = jax.export.symbolic_shape("batch, time")
    shapes = jax.ShapeDtypeStruct((batch, time, xs.shape[-1]), xs.dtype), jax.ShapeDtypeStruct((batch,), np.int32)
    f = jax.jit(lambda xs, lengths: layer.apply(params, xs, lengths=lengths))
    lengths = np.array([2, TIME], np.int32)
    assert_close(jax.export.export(f)(*shapes).call(xs, lengths), f(xs, lengths), atol=1e-15)
    chunked = jax.jit(lambda xs: LSTM(UNITS, remat=True).apply(params["forward"], xs))
    with pytest.raises(ValueError, match="remat cuts time into chunks and so needs a known number of steps"):
        jax.export.export(chunked)(shapes[0])


@pytest.mark.parametrize("name", LAYERS)
def test_eval_shape(name):
    """Shapes and dtypes are known without computing, and equal those of the result."""
    layer, params, xs, carry = small_problem(LAYERS[name])
    shapes = jax.eval_shape(layer.apply, params, xs, carry)
    result = apply(layer, params, xs, carry)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(lambda a: (a.shape, a.dtype), result)


def test_a_layer_inside_a_scan_over_batches():
    """For truncated backpropagation, a scan over batches equals handing the carry on by hand."""
    layer, params, xs, carry = small_problem(LAYERS["plain"], time=6)
    pieces = jnp.moveaxis(jnp.reshape(xs, (2, 3, 2, FEATURES)), 1, 0)
    last, ys = jax.lax.scan(lambda carry, piece: layer.apply(params, piece, carry), carry, pieces)
    assert_close((last, jnp.concatenate(list(ys), axis=1)), apply(layer, params, xs, carry), atol=1e-14)
