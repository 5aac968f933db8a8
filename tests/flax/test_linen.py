"""The linen modules have the layer's own parameters and pass every argument through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jlstm import LSTM, Bidirectional, LSTMCell, Stack
from jlstm.linen import Outputs, Recurrent, Step
from problems import assert_equal

pytestmark = pytest.mark.newest_jax

LAYERS = {
    "lstm": LSTM(4),
    "bidirectional": Bidirectional(LSTM(4), "sum"),
    "stack": Stack((Bidirectional(LSTM(4)), LSTM(5, use_bias=False))),
    "one in a stack": Stack((LSTM(4),)),
}
XS = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)


def named(params):
    """Return a layer's parameters as linen names them: the entries of a tuple are "0", "1", …."""
    return {str(k): p for k, p in enumerate(params)} if isinstance(params, tuple) else params


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_are_the_layers_own(name):
    """`init` gives the tree and the shapes of `layer.init`, and `apply` on a layer's parameters gives the layer's results."""
    layer, key = LAYERS[name], jax.random.key(1)
    params = layer.init(key, 3)
    variables = Recurrent(layer).init(key, XS)
    assert jax.tree.map(jnp.shape, variables) == {"params": jax.tree.map(jnp.shape, named(params))}
    assert_equal(Recurrent(layer).apply({"params": named(params)}, XS), layer.apply(params, XS))
    assert_equal(Outputs(layer).apply({"params": named(params)}, XS), layer.apply(params, XS)[1])


@pytest.mark.parametrize("name", LAYERS)
def test_init_draws_all_layers_differently(name):
    """No two kernels of the same shape are the same."""
    leaves = [leaf for leaf in jax.tree.leaves(jax.jit(Recurrent(LAYERS[name]).init)(jax.random.key(1), XS)) if leaf.ndim == 2]
    leaves = list(map(np.asarray, leaves))
    for k, first in enumerate(leaves):
        assert not any(first.shape == second.shape and (first == second).all() for second in leaves[k + 1 :])


def test_lengths_carry_and_the_rest_pass_through():
    """The module takes by name what `Layer.apply` takes by name."""
    layer = LSTM(4)
    params = layer.init(jax.random.key(0), 3)
    carry = jax.tree.map(lambda leaf: leaf + 0.5, layer.initial_carry(params, (2,)))
    sequence = {"lengths": np.array([5, 2]), "resets": np.eye(2, 5, dtype=bool)}
    assert_equal(Recurrent(layer).apply({"params": params}, XS, carry, **sequence), layer.apply(params, XS, carry, **sequence))
    mask = {"mask": np.array([[True] * 5, [False] * 3 + [True] * 2])}
    assert_equal(Outputs(layer).apply({"params": params}, XS, **mask), layer.apply(params, XS, **mask)[1])


def test_dropout_is_on_with_a_key_and_off_without():
    """A `dropout` rng, a key or masks turn dropout on; without any it is inference."""
    layer = LSTM(4, dropout=0.5, recurrent_dropout=0.5)
    params = layer.init(jax.random.key(0), 3)
    model, variables, key = Recurrent(layer), {"params": params}, jax.random.key(7)
    assert_equal(model.apply(variables, XS), layer.apply(params, XS))
    assert_equal(model.apply(variables, XS, key=key), layer.apply(params, XS, key=key))
    dropout_masks = {"inputs": np.zeros((1, 2, 3), np.float32)}
    assert_equal(model.apply(variables, XS, dropout_masks=dropout_masks), layer.apply(params, XS, dropout_masks=dropout_masks))
    dropped, again, different = (model.apply(variables, XS, rngs={"dropout": jax.random.key(k)})[1] for k in (1, 1, 2))
    assert_equal(dropped, again)
    assert (dropped != different).any()
    assert (dropped != layer.apply(params, XS)[1]).any()


def test_layers_without_dropout_draw_no_key():
    """A `dropout` rng meant for other modules changes nothing."""
    layer = LSTM(4)
    params = layer.init(jax.random.key(0), 3)
    rngs = {"dropout": jax.random.key(1)}
    assert_equal(Recurrent(layer).apply({"params": params}, XS, rngs=rngs), layer.apply(params, XS))


def test_outputs_compose_with_sequential():
    """`nn.Sequential` takes `Outputs` as a layer like any other."""
    model = nn.Sequential([nn.Dense(6), Outputs(LSTM(4)), nn.Dense(2)])
    variables = model.init(jax.random.key(0), XS)
    params = variables["params"]["layers_1"]
    dense = [nn.Dense(size).bind({"params": variables["params"][f"layers_{k}"]}) for k, size in ((0, 6), (2, 2))]
    assert_equal(model.apply(variables, XS), dense[1](LSTM(4).apply(params, dense[0](XS))[1]))


def test_step_composes_with_scan():
    """`nn.scan` over one step gives what the whole sequence gives, to rounding, with the same parameters."""
    layer = Stack((LSTM(4), LSTM(5)))
    params = layer.init(jax.random.key(0), 3)
    scanned = nn.scan(Step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)(layer)
    start = layer.initial_carry(params, (2,))
    assert jax.tree.structure(scanned.init(jax.random.key(0), start, XS)["params"]) == jax.tree.structure(named(params))
    got = scanned.apply({"params": named(params)}, start, XS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), got, layer.apply(params, XS))


def test_missing_parameters_are_named():
    """Variables of another module are refused in one sentence."""
    with pytest.raises(ValueError, match=r"params\['bias'\] .*expected shape \(16,\)"):
        Recurrent(LSTM(4)).apply({"params": LSTM(4, use_bias=False).init(jax.random.key(0), 3)}, XS)


def test_cells_are_refused():
    """A cell in place of a layer is refused in one sentence."""
    with pytest.raises(TypeError, match="layer must be a Layer such as LSTM"):
        Recurrent(LSTMCell(4)).init(jax.random.key(0), XS)


@pytest.mark.parametrize("name", LAYERS)
def test_the_rest_of_the_protocol(name):
    """`bind`, `tabulate`, `clone` and `eval_shape` work as for Flax's own modules."""
    layer, key = LAYERS[name], jax.random.key(1)
    module = Recurrent(layer)
    variables = module.init(key, XS)
    assert_equal(module.bind(variables)(XS), module.apply(variables, XS))
    assert_equal(module.clone().apply(variables, XS), module.apply(variables, XS))
    sizes = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert f"Total Parameters: {sizes}" in module.tabulate(key, XS)
    assert jax.tree.map(jnp.shape, jax.eval_shape(module.init, key, XS)) == jax.tree.map(jnp.shape, variables)


def test_arguments_of_flax_are_answered():
    """`deterministic` and other arguments of Flax are refused in one sentence."""
    module = Recurrent(LSTM(4, dropout=0.5))
    variables = module.init(jax.random.key(0), XS)
    with pytest.raises(TypeError, match="has no argument 'deterministic': a key turns dropout on"):
        module.apply(variables, XS, deterministic=True)
    with pytest.raises(TypeError, match=r"has no argument 'seq_lengths': write .* lengths=lengths"):
        module.apply(variables, XS, seq_lengths=[1, 2])
