"""`bind`: a layer and its parameters as one pytree. Layers and cells themselves are pytrees without leaves."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jlstm import GRU, LSTM, Bidirectional, LSTMCell, Stack, load, save
from jlstm.layers import Bound
from problems import UNITS, assert_close, assert_equal, flags, small_problem, textbook_results

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.newest_jax
def test_a_bound_layer_is_differentiated_as_one_argument():
    """`jax.grad` with respect to a bound layer gives the outputs and the gradients of the NumPy textbook."""
    layer, params, xs, carry = small_problem(Stack((Bidirectional(LSTM(UNITS)), LSTM(6))))
    mask = flags(0.7)

    @jax.jit
    def ys_and_gradients(bound):
        ys, pullback = jax.vjp(lambda bound: bound(xs, carry, mask=mask), bound)
        return ys, pullback(jnp.ones_like(ys))[0]

    ys, gradients = ys_and_gradients(layer.bind(params))
    no_cotangent = jax.tree.map(np.zeros_like, carry)
    (_, expected_ys), (expected_gradients, *_) = textbook_results(
        layer, params, xs, carry, (no_cotangent, np.ones(ys.shape)), mask
    )
    assert isinstance(gradients, Bound)
    assert_close((ys, gradients.params), (expected_ys, expected_gradients), atol=1e-12)


def test_its_methods_are_those_of_the_layer():
    """They return what the layer returns for the same parameters."""
    layer, params, xs, carry = small_problem(LSTM(UNITS))
    bound, lengths, reset = layer.bind(params), np.array([2, 5]), np.array([True, False])
    expected = layer.apply(params, xs, carry, lengths=lengths)
    assert_equal(bound.apply(xs, carry, lengths=lengths), expected)
    assert_equal(bound(xs, carry, lengths=lengths), expected[1])
    assert_equal(bound.last_output(carry), layer.last_output(carry))
    assert_equal(bound.initial_carry((2,), "float32"), layer.initial_carry(params, (2,), "float32"))
    assert_equal(bound.step(carry, xs[:, 0], reset=reset), layer.step(params, carry, xs[:, 0], reset=reset))
    assert (bound.layer, bound.params, bound.features_out) == (layer, params, UNITS)


def test_an_ensemble_is_bound_under_vmap():
    """`jax.vmap(layer.bind)` binds stacked parameters. Every member computes what it computes alone."""
    layer, params, xs, _ = small_problem(LSTM(UNITS))
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, -leaf, 2 * leaf]), params)
    run = jax.jit(jax.vmap(lambda bound: bound(xs)))
    ensemble = jax.vmap(layer.bind)(stacked)
    assert_equal(ensemble.params, stacked)
    expected = [layer.apply(jax.tree.map(lambda leaf, k=k: leaf[k], stacked), xs)[1] for k in range(3)]
    assert_close(run(ensemble), np.stack(expected), atol=1e-14)


def test_an_optimizer_updates_it():
    """Optax takes a bound layer as parameters and returns one: with gradient descent, params - rate * gradients."""
    layer, params, *_ = small_problem(LSTM(UNITS))
    bound, gradients = layer.bind(params), layer.bind(jax.tree.map(np.square, params))
    optimizer = optax.sgd(0.5, momentum=0.9)
    updates, _ = optimizer.update(gradients, optimizer.init(bound))
    updated = optax.apply_updates(bound, updates)
    assert updated.layer == layer
    assert_close(updated.params, jax.tree.map(lambda leaf: leaf - 0.5 * leaf**2, params), atol=1e-15)


def test_its_leaves_are_the_parameters(tmp_path):
    """Copies, files and functions of trees keep the layer. A bound layer of another layer has another structure."""
    layer, params, *_ = small_problem(LSTM(UNITS))
    bound = layer.bind(params)
    assert_equal(jax.tree.leaves(bound), jax.tree.leaves(params))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(bound)]
    assert paths == [".params['bias']", ".params['kernel']", ".params['recurrent_kernel']"]
    save(tmp_path / "bound.safetensors", bound)
    for again in (
        pickle.loads(pickle.dumps(bound)),
        load(tmp_path / "bound.safetensors", like=bound),
        jax.tree.map(lambda a, b: (a + b) / 2, bound, bound),
    ):
        assert again.layer == layer
        assert_equal(again.params, params)
    with pytest.raises(ValueError, match="reverse=True"):
        jax.tree.map(lambda a, b: a, bound, LSTM(UNITS, reverse=True).bind(params))
    shapes = "{'bias': (16,), 'kernel': (3, 16), 'recurrent_kernel': (4, 16)}"
    assert repr(bound) == f"Bound(RNN(cell=LSTMCell(units=4)), shapes={shapes})"
    assert "shapes={'bias': None" in repr(jax.tree.map(lambda _: None, bound))


def test_layers_and_cells_have_no_leaves():
    """`jax.jit` takes them as arguments and traces once for equal ones, and `jax.tree.map` leaves them as they are."""
    params = small_problem(LSTM(UNITS)).params
    tree = {"layer": LSTM(UNITS), "cell": LSTMCell(UNITS), "params": params}
    doubled = jax.tree.map(lambda leaf: 2 * leaf, tree)
    assert_equal(doubled["params"], jax.tree.map(lambda leaf: 2 * leaf, params))
    assert (doubled["layer"], doubled["cell"]) == (tree["layer"], tree["cell"])
    traced = []

    @jax.jit
    def initial_carry(layer, params):
        traced.append(layer)
        return layer.initial_carry(params, (2,))

    for layer in (LSTM(UNITS), LSTM(UNITS), LSTM(UNITS, reverse=True)):
        initial_carry(layer, params)
    assert traced == [LSTM(UNITS), LSTM(UNITS, reverse=True)]


KERNELS = {"kernel": np.ones((3, 16)), "recurrent_kernel": np.ones((4, 16))}
REFUSED = {
    "another layer's": (lambda params: GRU(UNITS).bind(params), r"params\['bias'\] must have shape \(12,\), got \(16,\)"),
    "no tree": (lambda params: LSTM(UNITS).bind(np.ones(3)), "params must be what init of .* returns, got another tree"),
    "a Stack's": (lambda params: LSTM(UNITS).bind((params,)), "params must be what init of .* returns, got another tree"),
    "a part": (lambda params: LSTM(UNITS).bind(KERNELS), r"params\['bias'\] is missing"),
    "whole numbers": (
        lambda params: LSTM(UNITS).bind(jax.tree.map(np.int32, params)),
        r"params\['bias'\] must be floating, got int32: pass what init of this layer returned",
    ),
    "another name": (lambda params: LSTM(UNITS).bind(variables=params), "layer.bind has no argument 'variables'"),
    "an option of Keras": (lambda params: LSTM(UNITS).bind(params)(np.ones((2, 5, 3)), training=True), "a key turns dropout on"),
    "no parameters": (lambda params: LSTM(UNITS)(np.ones((2, 5, 3))), r"or ys = layer\.bind\(params\)\(xs\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    """The error message is one sentence that says what to write."""
    call, sentence = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=sentence) as caught:
        call(small_problem(LSTM(UNITS)).params)
    assert len(str(caught.value)) <= 300
