"""The NNX modules have the layer's own parameters and pass every argument through."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jlstm import LSTM, RNN, Bidirectional, LSTMCell, Stack
from jlstm.nnx import Outputs, Recurrent
from problems import assert_equal

pytestmark = pytest.mark.newest_jax

LAYERS = {
    "lstm": LSTM(4),
    "bidirectional": Bidirectional(LSTM(4), "sum"),
    "stack": Stack((Bidirectional(LSTM(4)), LSTM(5, use_bias=False))),
}
XS = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)


def recurrent(layer, **streams):
    return Recurrent(layer, 3, rngs=nnx.Rngs(0, **streams))


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_are_the_layers_own(name):
    """The module's parameters have the layer's tree and names, and give the layer's results."""
    layer = LAYERS[name]
    model = recurrent(layer)
    expected = jax.tree.map(jnp.shape, layer.init(jax.random.key(0), 3))
    assert jax.tree.map(jnp.shape, model.params) == expected
    state = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    names = {str(k) for k in range(len(expected))} if isinstance(expected, tuple) else set(expected)
    assert {str(name) for name in state} == names
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(model.params))
    assert_equal(model(XS), layer.apply(model.params, XS))


def test_lengths_carry_and_the_rest_pass_through():
    """The module takes by name what `Layer.apply` takes by name."""
    layer = LSTM(4)
    model = recurrent(layer)
    carry = jax.tree.map(lambda leaf: leaf + 0.5, layer.initial_carry(model.params, (2,)))
    sequence = {"lengths": np.array([5, 2]), "resets": np.eye(2, 5, dtype=bool)}
    assert_equal(model(XS, carry, **sequence), layer.apply(model.params, XS, carry, **sequence))
    mask = {"mask": np.array([[True] * 5, [False] * 3 + [True] * 2])}
    assert_equal(model(XS, **mask), layer.apply(model.params, XS, **mask))


def test_dropout_follows_train_and_eval():
    """`train()` turns dropout on with fresh masks, `eval()` turns it off, and a given key takes precedence."""
    layer = LSTM(4, dropout=0.5, recurrent_dropout=0.5)
    model, key = recurrent(layer, dropout=3), jax.random.key(7)
    first, second = model(XS)[1], model(XS)[1]
    assert (first != second).any()
    assert_equal(model(XS, key=key), layer.apply(model.params, XS, key=key))
    dropout_masks = {"inputs": np.zeros((1, 2, 3), np.float32)}
    assert_equal(model(XS, dropout_masks=dropout_masks), layer.apply(model.params, XS, dropout_masks=dropout_masks))
    model.eval()
    assert_equal(model(XS), layer.apply(model.params, XS))
    model.train()
    assert (model(XS)[1] != model(XS)[1]).any()


def test_layers_without_dropout_hold_no_random_state():
    """Their state is their parameters, so that `nnx.split` needs no filter for keys."""
    model = recurrent(LSTM(4))
    assert {type(leaf) for leaf in jax.tree.leaves(nnx.state(model), is_leaf=lambda x: isinstance(x, nnx.Variable))} == {
        nnx.Param
    }


def test_outputs_compose_with_sequential_and_jit():
    """`nnx.Sequential` takes `Outputs` as a layer like any other; `nnx.jit` changes nothing but rounding."""
    inner = Outputs(LSTM(4), 6, rngs=nnx.Rngs(1))
    model = nnx.Sequential(nnx.Linear(3, 6, rngs=nnx.Rngs(0)), inner, nnx.Linear(4, 2, rngs=nnx.Rngs(2)))
    first, _, last = model.layers
    got = model(XS)
    assert_equal(got, last(LSTM(4).apply(inner.params, first(XS))[1]))
    np.testing.assert_allclose(nnx.jit(lambda model, xs: model(xs))(model, XS), got, rtol=0, atol=1e-6)


def test_step_composes_with_scan():
    """`nnx.scan` over one step gives what the whole sequence gives, to rounding."""
    layer = Stack((LSTM(4), LSTM(5)))
    model = recurrent(layer)
    scan = nnx.scan(lambda model, carry, x: model.step(carry, x), in_axes=(None, nnx.Carry, 1), out_axes=(nnx.Carry, 1))
    got = scan(model, layer.initial_carry(model.params, (2,)), jnp.asarray(XS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), got, model(XS))


@pytest.mark.loose
def test_optimizer_trains_it():
    """`nnx.Optimizer` inside `nnx.jit`, with dropout, halves the loss of a small problem in 60 steps."""
    model = Recurrent(LSTM(8, dropout=0.1), 3, rngs=nnx.Rngs(0, dropout=1))
    optimizer = nnx.Optimizer(model, optax.adam(3e-2), wrt=nnx.Param)
    targets = np.tanh(np.cumsum(XS, axis=1)[..., :1])

    def loss(model):
        return ((model(XS)[1][..., :1] - targets) ** 2).mean()

    @nnx.jit
    def train(model, optimizer):
        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    losses = [float(train(model, optimizer)) for _ in range(60)]
    assert losses[-1] < losses[0] / 2


def test_what_does_not_fit_is_refused():
    """A cell for a layer, missing random streams, and parameters with names of the module's own are one sentence each."""
    with pytest.raises(TypeError, match="layer must be a Layer such as LSTM"):
        recurrent(LSTMCell(4))
    with pytest.raises(ValueError, match=r"rngs has no such stream: pass nnx\.Rngs\(0\)"):
        Recurrent(LSTM(4, dropout=0.5), 3, rngs=nnx.Rngs(params=0))

    class Named(LSTMCell):
        def init(self, key, features, dtype="float32"):
            return {"rngs": super().init(key, features, dtype)["kernel"]}

    with pytest.raises(ValueError, match="a parameter 'rngs', which this module has for something else"):
        recurrent(RNN(Named(4)))
