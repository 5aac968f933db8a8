"""What every cell can do, whatever its equations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.nnx import Rngs
from jax.test_util import check_grads

import jlstm
from family import CELLS, above
from jlstm import RNN, Bidirectional, Stack, linen, nnx
from problems import FEATURES, TIME, apply, assert_close, flags, problem

every = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


@every
def test_step_by_step_is_the_same_as_the_sequence(cell, x64):
    """And so is a sequence cut in two."""
    layer, params, xs, _ = problem(RNN(cell))
    carry, ys = apply(layer, params, xs)
    step = jax.jit(layer.step)
    now, out = None, []
    for t in range(TIME):
        now, y = step(params, now, xs[:, t])
        out.append(y)
    assert_close((now, np.stack(out, 1)), (carry, ys), atol=1e-13)
    half, first = apply(layer, params, xs[:, :2])
    assert_close((apply(layer, params, xs[:, 2:], half)[0], first), (carry, ys[:, :2]), atol=1e-13)


@every
def test_padding_counts_for_nothing(cell, x64):
    """A sequence gives what it gives alone, and zeros behind, where NaN harms neither results nor gradients."""
    layer, params, xs, _ = problem(RNN(cell))
    lengths = np.array([3, 0])
    counts = np.arange(TIME) < lengths[:, None]
    padded = np.where(np.expand_dims(counts, tuple(range(2, xs.ndim))), xs, np.nan)
    carry, ys = apply(layer, params, padded, lengths=lengths)
    alone = apply(layer, params, xs[:1, :3])
    assert_close((jax.tree.map(lambda leaf: leaf[:1], carry), ys[:1, :3]), alone, atol=1e-13)
    np.testing.assert_array_equal(ys[1], 0)
    np.testing.assert_array_equal(ys[0, 3:], 0)
    begin = layer.initial_carry(params, (2,), "float64")
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), carry, begin)
    grads = jax.jit(jax.grad(lambda p, xs: (layer.apply(p, xs, lengths=lengths)[1] ** 2).sum(), (0, 1)))(params, padded)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@every
def test_resets_start_anew(cell, x64):
    """From a reset on, a sequence is another one."""
    layer, params, xs, carry = problem(RNN(cell))
    start = jax.tree.map(np.abs, carry)
    resets = np.zeros((2, TIME), bool)
    resets[:, 2] = True
    last, ys = apply(layer, params, xs, start, resets=resets)
    assert_close((last, ys[:, 2:]), apply(layer, params, xs[:, 2:]), atol=1e-13)
    assert_close(ys[:, :2], apply(layer, params, xs[:, :2], start)[1], atol=1e-13)


@every
def test_gradients_are_those_of_finite_differences(cell, x64):
    """Forward and reverse mode, with a mask and resets, for parameters, inputs and initial carry."""
    layer, params, xs, carry = problem(RNN(cell), time=3)
    sequence = {"mask": flags(0.8, time=3), "resets": flags(0.2, time=3, seed=3)}
    carry = jax.tree.map(lambda leaf: np.abs(leaf) + 0.5, carry)  # a normaliser is positive
    scaled = jax.tree.map(lambda leaf: 0.5 * leaf, params)
    check_grads(jax.jit(lambda *given: layer.apply(*given, **sequence)), (scaled, xs, carry), order=1, atol=2e-4, rtol=2e-4)


@every
def test_every_example_of_a_batch_is_on_its_own(cell, x64):
    """`vmap` over examples is the batch; more batch axes are too."""
    layer, params, xs, _ = problem(RNN(cell), batch=6)
    carry, ys = apply(layer, params, xs)
    assert_close(jax.vmap(partial(apply, layer, params))(xs), (carry, ys), atol=1e-13)
    more = apply(layer, params, xs.reshape(2, 3, *xs.shape[1:]))
    assert_close(jax.tree.map(lambda leaf: leaf.reshape(6, *leaf.shape[2:]), more), (carry, ys), atol=1e-13)


@every
def test_results_have_the_dtype_of_the_inputs(cell):
    """And are near those of float32."""
    layer, params, xs, _ = problem(RNN(cell), dtype=np.float32)
    params = jax.tree.map(lambda leaf: 0.4 * leaf, params)
    right = apply(layer, params, xs)
    assert {leaf.dtype for leaf in jax.tree.leaves(right)} == {jnp.dtype("float32")}
    for dtype, atol in (("bfloat16", 0.15), ("float16", 0.02)):
        out = apply(layer, params, jnp.asarray(xs, dtype))
        assert {leaf.dtype for leaf in jax.tree.leaves(out)} == {jnp.dtype(dtype)}
        assert_close(out[1], right[1], atol=atol)


@every
def test_layers_modules_and_files_take_it(cell, tmp_path):
    """Backwards, in both directions, stacked, recomputed, in linen and NNX, on disk."""
    # averaged: a residual cell takes no wider inputs
    layer = Stack((Bidirectional(RNN(cell, remat=2), "ave"), RNN(above(cell), reverse=True)))
    params = layer.init(jax.random.key(0), FEATURES)
    _, _, xs, _ = problem(layer, dtype=np.float32)
    _, ys = apply(layer, params, xs)
    plain = Stack((Bidirectional(RNN(cell), "ave"), RNN(above(cell), reverse=True)))
    assert_close(apply(plain, params, xs)[1], ys, atol=1e-6)
    jlstm.save(tmp_path / "x.safetensors", params)
    loaded = jlstm.load(tmp_path / "x.safetensors", like=params)
    assert_close(apply(layer, loaded, xs)[1], ys, atol=0)
    module, model = linen.Recurrent(RNN(cell)), nnx.Recurrent(RNN(cell), FEATURES, rngs=Rngs(0))
    model.eval()
    of_linen = module.init(jax.random.key(0), xs)["params"]
    assert_close(module.apply({"params": of_linen}, xs), apply(RNN(cell), of_linen, xs), atol=1e-6)
    assert_close(model(xs), apply(RNN(cell), model.params, xs), atol=1e-6)


@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if cell.stochastic])
def test_dropout_is_drawn_from_a_key(name):
    """The same key the same result, another key another one, no key none."""
    layer = RNN(CELLS[name])
    params = layer.init(jax.random.key(0), FEATURES)
    xs = jnp.ones((2, TIME, *layer.spatial_in, FEATURES))
    one, same, other = (apply(layer, params, xs, key=jax.random.key(k))[1] for k in (1, 1, 2))
    none = apply(layer, params, xs)[1]
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (one != none).any()


@pytest.mark.parametrize("name", ["minLSTM", "minGRU", "mLSTM", "mLSTM, exp"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("given", ["", "mask", "resets", "mask resets"])
def test_all_steps_at_once_are_the_same_as_one_by_one(name, reverse, given, x64):
    """Outputs, last carry and gradients, from any carry; an mLSTM's carry counts with exp(m)."""
    sequence = {each: flags(0.7 if each == "mask" else 0.3, seed=len(each)) for each in given.split()}
    cell = CELLS[name]
    layers = [RNN(cell, reverse=reverse, backend=backend) for backend in ("parallel", "scan")]
    _, params, xs, carry = problem(layers[0])
    assert "is run by parallel" in jlstm.explain(layers[0], params, xs)

    def results(layer):
        (last, ys), pullback = jax.vjp(lambda *given: layer.apply(*given, **sequence), params, xs, carry)
        of = pullback((jax.tree.map(jnp.zeros_like, last), np.cos(np.arange(ys.size)).reshape(ys.shape)))
        if hasattr(last, "m"):
            last = last._replace(C=last.C * jnp.exp(last.m)[..., None, None], n=last.n * jnp.exp(last.m)[..., None])
        return last, ys, of

    assert_close(*map(jax.jit(results, static_argnums=0), layers), atol=1e-12)
