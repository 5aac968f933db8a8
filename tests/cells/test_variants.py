"""The cells against closed forms, and their refusals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import RNN
from jlstm.cells import ConvLSTMCell, GRUCell, LSTMCell, MinGRUCell, MinLSTMCell, MLSTMCell, SLSTMCell
from problems import FEATURES, UNITS, apply, small_problem

pytestmark = pytest.mark.no_cover


def test_an_open_forget_gate_adds_up_its_inputs(x64):
    """With f = 1 and i = 1, c is the sum of the candidates."""
    layer, params, xs, _ = small_problem(RNN(LSTMCell(UNITS)))
    bias = np.concatenate([np.full(2 * UNITS, 50.0), np.zeros(2 * UNITS)])
    params = {"kernel": params["kernel"], "recurrent_kernel": 0 * params["recurrent_kernel"], "bias": bias}
    params["kernel"][:, : 2 * UNITS] = 0
    carry, _ = apply(layer, params, xs)
    np.testing.assert_allclose(carry.c, np.tanh(xs @ params["kernel"][:, 2 * UNITS : 3 * UNITS]).sum(1), rtol=1e-12)


def test_bounds_that_are_never_reached_change_nothing(x64):
    """Nor do zero peepholes and an identity projection."""
    plain, params, xs, carry = small_problem(RNN(LSTMCell(UNITS)))
    wide = {"cell_clip": 1e6, "gate_clip": 1e6, "projection_clip": 1e6, "projection": UNITS, "peephole": True}
    extended_params = params | {"projection_kernel": np.eye(UNITS), "peephole_kernel": np.zeros((3, UNITS))}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13),
        apply(RNN(LSTMCell(UNITS, **wide)), extended_params, xs, carry),
        apply(plain, params, xs, carry),
    )


def test_bounds_bind(x64):
    """No c beyond ±0.3, no h beyond ±0.1, and gates between σ(-0.1) and σ(0.1)."""
    layer, params, xs, _ = small_problem(RNN(LSTMCell(UNITS, cell_clip=0.3, projection=3, projection_clip=0.1, gate_clip=0.1)))
    carry, ys = apply(layer, params, 10 * xs)
    assert np.abs(carry.c).max() <= 0.3
    assert np.abs(ys).max() == 0.1
    z = jax.tree.map(lambda leaf: leaf[0], layer.cell.project(params, {}, 10 * xs[None, :, 0]))
    gates = layer.cell.gates(params, {}, layer.initial_carry(params, (2,)), z)
    low, high = 1 / (1 + np.exp(0.1)), 1 / (1 + np.exp(-0.1))
    for leaf in (gates.i, gates.f, gates.o):
        assert leaf.min() == pytest.approx(low)
        assert leaf.max() == pytest.approx(high)


def test_normalized_sums_do_not_see_the_size_of_the_inputs(x64):
    """Layer normalization makes a kernel ten times as large give the same results."""
    for scheme in ("ba2016", "addons"):
        layer, params, xs, _ = small_problem(RNN(LSTMCell(UNITS, layer_norm=scheme, layer_norm_epsilon=1e-30)))
        larger = params | {"kernel": 10 * params["kernel"], "recurrent_kernel": 7 * params["recurrent_kernel"]}
        np.testing.assert_allclose(apply(layer, larger, xs)[1], apply(layer, params, xs)[1], rtol=1e-9)


def test_a_gru_that_updates_nothing_keeps_its_carry(x64):
    """With z = 1 the GRU's carry stays."""
    layer, params, xs, carry = small_problem(RNN(GRUCell(UNITS)))
    params["bias"][:UNITS] = 1e3
    np.testing.assert_allclose(apply(layer, params, xs, carry)[0].h, carry.h, rtol=1e-14)


@pytest.mark.parametrize(("cell", "gates"), [(MinGRUCell(UNITS), [0.25]), (MinLSTMCell(UNITS), [0.2, 0.6])], ids=repr)
def test_a_minimal_cell_is_a_moving_average(cell, gates, x64):
    """With z constant, or i and f (0.2 / (0.2 + 0.6) is 0.25), h is an exponentially weighted mean of the candidates."""
    layer, params, xs, _ = small_problem(RNN(cell))
    first = len(gates) * UNITS
    params["kernel"][:, :first], params["bias"][:first] = 0, np.repeat([np.log(p / (1 - p)) for p in gates], UNITS)
    g = xs @ params["kernel"][:, first:] + params["bias"][first:]
    weights = 0.25 * 0.75 ** np.arange(xs.shape[1])[::-1]
    np.testing.assert_allclose(apply(layer, params, xs)[0].h, np.einsum("t,btu->bu", weights, g), rtol=1e-12)


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("backend", ["scan", "parallel"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shut", [-12.0, -100.0])
def test_shut_gates_have_gradients(backend, dtype, shut):
    """Gradients of an mLSTM stay finite when shut input gates make exp(-m) overflow."""
    layer = RNN(MLSTMCell(UNITS), backend=backend, param_dtype=dtype)

    @jax.jit
    def gradients(key):
        params = layer.init(key, FEATURES)
        params["gate_bias"] = params["gate_bias"].at[0].set(shut)
        carry = jax.tree.map(lambda leaf: leaf - 30, layer.initial_carry(params, (2,))) if shut == -100 else None
        return jax.grad(lambda p: layer.apply(p, jnp.ones((2, 7, FEATURES), dtype), carry)[1].sum())(params)

    grads = gradients(jax.random.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_all_steps_at_once_are_as_exact_as_one_by_one():
    """In bfloat16 sums of 200 logarithms would be wrong by whole numbers. Both backends avoid them."""
    cell = MLSTMCell(UNITS, forget_bias=-3.0)
    params = jax.jit(RNN(cell).init, static_argnums=1)(jax.random.key(0), FEATURES)
    xs = np.random.default_rng(1).normal(size=(2, 200, FEATURES)).astype(np.float32)
    truth = apply(RNN(cell), params, xs)[1]
    for backend in ("scan", "parallel"):
        ys = apply(RNN(cell, backend=backend), params, xs.astype("bfloat16"))[1]
        np.testing.assert_allclose(ys.astype("float32"), truth, atol=0.05)


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("scheme", ["ba2016", "tf_contrib", "addons", "tflite"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_normalized_zeros_have_gradients(scheme, dtype):
    """Gradients are finite in 16 bits, where ε is 0 and the root's derivative infinite, with padding too."""
    layer = RNN(LSTMCell(UNITS, layer_norm=scheme), param_dtype=dtype)
    xs = np.broadcast_to(np.array([1, 0], dtype)[:, None, None], (2, 5, FEATURES))
    loss = lambda params: layer.apply(params, xs, lengths=np.array([3, 5]))[1].sum()
    ys, grads = jax.jit(lambda key: jax.value_and_grad(loss)(layer.init(key, FEATURES)))(jax.random.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((ys, grads)))


def test_an_slstm_from_any_c_is_its_equations(x64):
    """An sLSTM may start from a carry whose n is 0 and whose c is not, as a learned carry may be."""
    layer, params, xs, carry = small_problem(RNN(SLSTMCell(UNITS)), time=1)
    carry = carry._replace(n=np.zeros_like(carry.n))
    i, f, g, o = np.split(xs[:, 0] @ params["kernel"] + carry.h @ params["recurrent_kernel"][0] + params["bias"], 4, -1)
    c = carry.c * np.exp(carry.m) / (1 + np.exp(-f)) + np.exp(i) * np.tanh(g)
    np.testing.assert_allclose(apply(layer, params, xs, carry)[1][:, 0], c / np.exp(i) / (1 + np.exp(-o)), rtol=1e-10)


@pytest.mark.parametrize("cell", [SLSTMCell(UNITS), MLSTMCell(UNITS)], ids=repr)
def test_large_gates_do_not_overflow(cell):
    """Pre-activations of several hundred give finite results, though their exponentials overflow float32."""
    layer = RNN(cell)
    draw = lambda key: jax.tree.map(lambda leaf: 200 * leaf, layer.init(key, FEATURES))
    gradient = jax.grad(lambda params: layer.apply(params, jnp.ones((2, 7, FEATURES)))[1].sum())
    grads = jax.jit(lambda key: gradient(draw(key)))(jax.random.key(0))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"projection_clip": 1.0}, "projection_clip is for projection, which is off"),
        ({"projection_bias": True}, "projection_bias is for projection, which is off"),
        ({"layer_norm_epsilon": 1e-3}, "layer_norm_epsilon is for layer_norm, which is off"),
        ({"cell_clip": 0}, "cell_clip must be above 0, got 0.0"),
        ({"gate_clip": float("nan")}, "gate_clip must be above 0"),
        ({"coupled": "f=i"}, "coupled must be one of None, 'f=1-i', 'i=1-f'"),
        ({"layer_norm": "keras"}, "layer_norm must be one of None, 'ba2016', 'tf_contrib', 'addons', 'tflite'"),
        ({"projection": 0}, "projection must be a whole number of at least 1, got 0"),
        ({"recurrent_dropout_on": "c"}, "recurrent_dropout_on must be one of 'h', 'g'"),
    ],
)
def test_options_that_make_no_sense(options, words):
    """Each invalid option is refused in one sentence."""
    with pytest.raises(ValueError, match=words):
        LSTMCell(UNITS, **options)


@pytest.mark.parametrize("cell", [SLSTMCell, MLSTMCell, partial(ConvLSTMCell, kernel_size=3, spatial=(8,))], ids=repr)
def test_a_forget_bias_needs_a_bias(cell):
    """A forget bias without a bias is refused only if the user set it."""
    with pytest.raises(ValueError, match=r"forget_bias is for a forget gate with a bias, which this cell has none of, got 0\.5"):
        cell(4, use_bias=False, forget_bias=0.5)
    assert cell(4, use_bias=False).forget_bias == cell(4).forget_bias > 0
    assert cell(4, use_bias=False, forget_bias=None).forget_bias is None


@pytest.mark.parametrize("cell", [SLSTMCell, MLSTMCell])
def test_heads_divide_units(cell):
    """A number of heads that does not divide `units` is refused."""
    with pytest.raises(ValueError, match="heads must divide units, got 3 heads for 4 units"):
        cell(4, heads=3)
