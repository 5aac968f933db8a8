"""Properties of every cell, whatever its equations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.nnx import Rngs

import jlstm
from family import CELLS, above
from jlstm import RNN, Bidirectional, Stack, linen, nnx
from problems import BATCH, FEATURES, TIME, apply, assert_close, assert_slopes, cotangent_of, flags, normal, small_problem

pytestmark = pytest.mark.no_cover

every = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
ALL, NONE = np.ones((BATCH, TIME), bool), np.zeros((BATCH, TIME), bool)

# Compiling is nearly all that these tests take: they share three programs for each cell.


def run(layer, params, xs, carry=None, mask=ALL, resets=NONE):
    """Return the last carry and the outputs. One program serves all sequences of BATCH and TIME."""
    carry = layer.initial_carry(params, (BATCH,), "float64") if carry is None else carry
    return apply(layer, params, xs, carry, mask=mask, resets=resets)


step = jax.jit(lambda layer, params, carry, x: layer.step(params, carry, x), static_argnums=0)


def steps(layer, params, xs, carry=None):
    """Return the same as `run`, computed step by step, for any number of steps."""
    carry, ys = layer.initial_carry(params, (BATCH,), "float64") if carry is None else carry, []
    for t in range(xs.shape[1]):
        carry, y = step(layer, params, carry, xs[:, t])
        ys.append(y)
    return carry, np.stack(ys, 1)


@partial(jax.jit, static_argnums=0)
def derivatives(layer, args, tangents, cotangent, mask, resets):
    """Return the derivative along the tangents, and the gradients, of params, xs and carry."""
    function = lambda *args: layer.apply(*args, mask=mask, resets=resets)
    return jax.jvp(function, args, tangents)[1], jax.vjp(function, *args)[1](cotangent)


@pytest.mark.table(quick=10)
@every
def test_step_by_step_is_the_same_as_the_sequence(cell, x64):
    """A sequence cut in two gives the same too."""
    layer, params, xs, _ = small_problem(RNN(cell))
    carry, ys = run(layer, params, xs)
    assert_close(steps(layer, params, xs), (carry, ys), atol=1e-13)
    half, first = run(layer, params, xs, mask=np.arange(TIME) < np.full((BATCH, 1), 2))
    continued = run(layer, params, np.roll(xs, -2, axis=1), half, mask=np.arange(TIME) < np.full((BATCH, 1), 3))
    assert_close((continued[0], first[:, :2], continued[1][:, :3]), (carry, ys[:, :2], ys[:, 2:]), atol=1e-13)


@pytest.mark.table(quick=2)
@every
def test_padding_counts_for_nothing(cell, x64):
    """A padded sequence gives its own results and then zeros, and NaN in padding harms nothing."""
    layer, params, xs, _ = small_problem(RNN(cell))
    counts = np.arange(TIME) < np.array([[3], [0]])
    padded = np.where(np.expand_dims(counts, tuple(range(2, xs.ndim))), xs, np.nan)
    last, ys = run(layer, params, padded, mask=counts)
    first_steps = steps(layer, params, xs[:, :3])
    assert_close(
        jax.tree.map(lambda leaf: leaf[0], (last, ys[:, :3])), jax.tree.map(lambda leaf: leaf[0], first_steps), atol=1e-13
    )
    np.testing.assert_array_equal(ys[1], 0)
    np.testing.assert_array_equal(ys[0, 3:], 0)
    begin = layer.initial_carry(params, (2,), "float64")
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b[1]), last, begin)
    args = (params, padded, begin)
    grads = derivatives(layer, args, args, jax.tree.map(np.asarray, (last, ys)), counts, NONE)[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.table(quick=6)
@every
def test_resets_start_anew(cell, x64):
    """A sequence from a reset on equals a new sequence."""
    layer, params, xs, carry = small_problem(RNN(cell))
    start = jax.tree.map(np.abs, carry)
    last, ys = run(layer, params, xs, start, resets=np.arange(TIME) == np.full((BATCH, 1), 2))
    assert_close((last, ys[:, 2:]), steps(layer, params, xs[:, 2:]), atol=1e-13)
    assert_close(ys[:, :2], steps(layer, params, xs[:, :2], start)[1], atol=1e-13)


@pytest.mark.table(quick=2)
@every
def test_gradients_are_those_of_finite_differences(cell, x64):
    """Forward and reverse mode are right for parameters, inputs and carry, with a mask and resets."""
    problem = small_problem(RNN(cell))
    layer, mask, resets = problem.layer, flags(0.8), flags(0.2, seed=3)
    carry = jax.tree.map(lambda leaf: np.abs(leaf) + 0.5, problem.carry)  # a normalizer is positive
    args = jax.tree.map(lambda leaf: 0.5 * leaf, problem.params), problem.xs, carry
    tangents, cotangent = normal(args, rng=np.random.default_rng(4)), cotangent_of(problem)
    function = lambda *args: run(layer, *args, mask=mask, resets=resets)
    pushed, gradients = derivatives(layer, args, tangents, cotangent, mask, resets)
    plus, minus = (function(*jax.tree.map(lambda a, b, h=h: a + h * b, args, tangents)) for h in (1e-6, -1e-6))
    assert_close(pushed, jax.tree.map(lambda a, b: (a - b) / 2e-6, plus, minus), atol=1e-6, rtol=1e-6)
    assert_slopes(function, args, gradients, cotangent)


@pytest.mark.table(quick=14)
@every
def test_the_last_output_is_the_h_that_it_carries(cell, x64):
    """A cell whose output is not its h is refused, and never gives a wrong output."""
    layer, params, xs, carry = small_problem(RNN(cell))
    last, ys = run(layer, params, xs, carry)
    if cell.gives_h and hasattr(last, "h"):
        np.testing.assert_array_equal(layer.last_output(last), ys[:, -1])
    else:
        with pytest.raises(ValueError, match=r"is not an h that it carries: take the last step that counts from ys"):
            layer.last_output(last)


@pytest.mark.table(quick=6)
@every
def test_every_example_of_a_batch_is_on_its_own(cell, x64):
    """`vmap` over examples, and more batch axes, equal the batch."""
    layer, params, xs, _ = small_problem(RNN(cell), batch=3 * BATCH)
    expected = [run(layer, params, xs[k : k + BATCH]) for k in range(0, len(xs), BATCH)]
    expected = jax.tree.map(lambda *leaves: np.concatenate(leaves), *expected)

    @jax.jit
    def batched(params, xs):
        nested = layer.apply(params, xs.reshape(2, 3, *xs.shape[1:]))
        return jax.vmap(partial(layer.apply, params))(xs), jax.tree.map(lambda leaf: leaf.reshape(6, *leaf.shape[2:]), nested)

    assert_close(batched(params, xs), (expected, expected), atol=1e-13)


@pytest.mark.table(quick=6)
@every
def test_results_have_the_dtype_of_the_inputs(cell, x64):
    """They are close to float64, even in float16, which ends at 65504."""
    layer, params, xs, _ = small_problem(RNN(cell))
    params = jax.tree.map(lambda leaf: 0.4 * leaf, params)
    narrow = jax.tree.map(np.float32, params)
    for dtype in ("float32", "bfloat16", "float16"):
        shapes = jax.eval_shape(layer.apply, narrow, jnp.asarray(xs, dtype))
        assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(dtype)}
    assert_close(apply(layer, narrow, jnp.asarray(xs, "float16"))[1], run(layer, params, xs)[1], atol=0.02)


@pytest.mark.table(quick=3)
@every
def test_layers_modules_and_files_take_it(cell, x64, tmp_path):
    """The cell works backward, bidirectional, stacked, with remat, in linen and NNX, and on disk."""
    both_ways = Bidirectional(RNN(cell, remat=2), "ave")
    _, params, xs, _ = small_problem(both_ways)
    forward = run(RNN(cell), params["forward"], xs)[1]
    backward = run(RNN(cell), params["backward"], xs[:, ::-1])[1][:, ::-1]
    assert_close(apply(both_ways, params, xs)[1], (forward + backward) / 2, atol=1e-13)
    jlstm.save(tmp_path / "x.safetensors", params)
    assert_close(jlstm.load(tmp_path / "x.safetensors", like=params), params, atol=0)
    stack = Stack((both_ways, RNN(above(cell))))  # averaged, since a residual cell takes no wider inputs
    of_stack = jax.eval_shape(lambda: stack.init(jax.random.key(0), FEATURES))
    assert jax.eval_shape(stack.apply, of_stack, xs)[1].shape == (BATCH, TIME, *stack.spatial_out, stack.features_out)
    module, model = linen.Recurrent(RNN(cell)), nnx.Recurrent(RNN(cell), FEATURES, rngs=Rngs(0))
    model.eval()
    param_shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), xs)["params"])
    assert jax.tree.map(jnp.shape, param_shapes) == jax.tree.map(jnp.shape, params["forward"])
    of_linen, of_nnx = jax.jit(lambda params: (module.apply({"params": params}, xs), model(xs)))(params["forward"])
    assert_close(of_linen, run(RNN(cell), params["forward"], xs), atol=1e-6)
    assert_close(of_nnx, run(RNN(cell), jax.tree.map(np.float64, model.params), xs), atol=1e-6)


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if cell.stochastic])
def test_dropout_is_drawn_from_a_key(name):
    """The same key gives the same result, another key another one, and no key no dropout."""
    layer = RNN(CELLS[name])
    params = jax.jit(layer.init, static_argnums=1)(jax.random.key(0), FEATURES)
    xs = np.ones((2, TIME, *layer.spatial_in, FEATURES), np.float32)
    first, same, different = (apply(layer, params, xs, key=jax.random.key(k))[1] for k in (1, 1, 2))
    undropped = apply(layer, params, xs)[1]
    np.testing.assert_array_equal(first, same)
    assert (first != different).any()
    assert (first != undropped).any()


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("name", ["minLSTM", "minGRU", "mLSTM", "mLSTM, exp"])
@pytest.mark.parametrize(
    ("reverse", "sequences"),
    [
        (False, [{}]),
        (True, [{"mask": mask, "resets": resets} for mask in (ALL, flags(0.7, seed=4)) for resets in (NONE, flags(0.3, seed=6))]),
    ],
    ids=["plain", "reverse, mask, resets"],
)
def test_all_steps_at_once_are_the_same_as_one_by_one(name, reverse, sequences, x64):
    """Outputs, last carry and gradients agree. An mLSTM's carry is compared times exp(m)."""
    layers = [RNN(CELLS[name], reverse=reverse, backend=backend) for backend in ("parallel", "scan")]
    _, params, xs, carry = small_problem(layers[0])
    assert "is run by parallel" in str(jlstm.explain(layers[0], params, xs))

    @partial(jax.jit, static_argnums=0)
    def results(layer, sequence):
        (last, ys), pullback = jax.vjp(lambda *args: layer.apply(*args, **sequence), params, xs, carry)
        gradients = pullback((jax.tree.map(jnp.zeros_like, last), np.cos(np.arange(ys.size)).reshape(ys.shape)))
        if hasattr(last, "m"):
            last = last._replace(C=last.C * jnp.exp(last.m)[..., None, None], n=last.n * jnp.exp(last.m)[..., None])
        return last, ys, gradients

    for sequence in sequences:
        assert_close(*(results(layer, sequence) for layer in layers), atol=1e-12)
