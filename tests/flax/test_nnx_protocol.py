"""Flax's protocol for NNX modules: `Recurrent` behaves in it as Flax's own modules do."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jlstm import GRU, LSTM, Bidirectional, Stack
from jlstm.cells import LearnedCarry, LSTMCell
from jlstm.layers import RNN
from jlstm.nnx import Outputs, Recurrent
from problems import assert_equal

LAYERS = {
    "lstm": LSTM(4),
    "gru": GRU(4),
    "bidirectional": Bidirectional(LSTM(4), "sum"),
    "stack": Stack((Bidirectional(LSTM(4)), LSTM(5, use_bias=False))),
    "learned carry": RNN(LearnedCarry(LSTMCell(4))),
}
XS = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)


def recurrent(layer, **streams):
    return Recurrent(layer, 3, rngs=nnx.Rngs(0, **streams))


class Model(nnx.Module):
    """Flax's dropout before a layer with dropout."""

    def __init__(self, rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.recurrent = Recurrent(Stack((LSTM(4, dropout=0.5), LSTM(5, recurrent_dropout=0.5))), 3, rngs=rngs)

    def __call__(self, xs):
        return self.recurrent(self.dropout(xs))[1]


@pytest.mark.parametrize("build", [Model, lambda rngs: Recurrent(LSTM(4, dropout=0.5), 3, rngs=rngs)], ids=["inside", "alone"])
def test_a_view_turns_dropout_off_and_on(build):
    """`nnx.view` works as for `nnx.Dropout`, and leaves the model unchanged."""
    model = build(nnx.Rngs(0))
    evaluated = nnx.view(model, deterministic=True)
    assert_equal(evaluated(XS), evaluated(XS))
    differs = jax.tree.map(lambda a, b: bool((a != b).any()), jax.tree.leaves(model(XS)), jax.tree.leaves(model(XS)))
    assert all(differs)
    model.eval()
    assert_equal(evaluated(XS), model(XS))
    trained = nnx.view(model, deterministic=False)
    assert (jax.tree.leaves(trained(XS))[-1] != jax.tree.leaves(trained(XS))[-1]).any()
    assert_equal(model(XS), model(XS))


def test_a_view_goes_by_filters():
    """`only=` selects one of the two modules, as it selects one of two `nnx.Dropout`s."""
    model = Model(nnx.Rngs(0))
    assert nnx.view(model, deterministic=True, only=Recurrent).recurrent.deterministic
    dropout_view = nnx.view(model, deterministic=True, only=nnx.Dropout)
    assert (dropout_view.dropout.deterministic, dropout_view.recurrent.deterministic) == (True, False)


WAYS = {
    "split and merge": lambda model: nnx.merge(*nnx.split(model)),
    "split by a filter": lambda model: nnx.merge(*nnx.split(model, nnx.Param, ...)),
    "clone": nnx.clone,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "tree": lambda model: jax.tree.map(lambda leaf: leaf, model),
    "view": lambda model: nnx.view(model, deterministic=False),
}


@pytest.mark.table(quick=5)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_copies_compute_the_same(name, way):
    """A module that is taken apart and put together again keeps its layer and parameters."""
    model = recurrent(LAYERS[name])
    again = WAYS[way](model)
    assert again.layer == model.layer
    assert_equal(again(XS), model(XS))


@pytest.mark.table(quick=1)
@pytest.mark.parametrize("name", LAYERS)
def test_transformations_compute_the_same(name):
    """`nnx.jit`, `nnx.eval_shape` and `nnx.vmap` over an ensemble give what calls one by one give."""
    layer = LAYERS[name]
    model = recurrent(layer)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6),  # XLA may sum in another order
        nnx.jit(lambda model, xs: model(xs))(model, XS),
        model(XS),
    )
    shapes = nnx.eval_shape(lambda: recurrent(layer)).params
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, model.params)
    keys = jax.random.split(jax.random.key(1), 3)
    ensemble = nnx.vmap(lambda key: Recurrent(layer, 3, rngs=nnx.Rngs(key)))(keys)
    got = nnx.vmap(lambda model, xs: model(xs)[1], in_axes=(0, None))(ensemble, XS)
    for k, key in enumerate(keys):
        expected = Recurrent(layer, 3, rngs=nnx.Rngs(key))(XS)[1]
        np.testing.assert_allclose(got[k], expected, rtol=0, atol=1e-6)  # batched matrix products


def test_state_filters_find_what_nnx_rnn_has():
    """Parameters, and with dropout the random state, are found by the same filters as in a module of Flax's."""
    model, theirs = recurrent(LSTM(4, dropout=0.5)), nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))
    ours = jax.tree.leaves(nnx.state(model, nnx.Param))
    # two kernels and the bias as here; Flax has one of each, too
    assert sum(leaf.size for leaf in ours) == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(theirs, nnx.Param)))
    assert len(jax.tree.leaves(nnx.state(model, nnx.RngState))) == 2
    assert len(jax.tree.leaves(nnx.state(model, nnx.Any(nnx.Param, nnx.RngState)))) == 5
    assert [type(module) for _, module in nnx.iter_modules(Model(nnx.Rngs(0)))] == [nnx.Dropout, Recurrent, Model]


def test_parameters_can_be_told_how_to_be_spread():
    """Sharding metadata of a parameter becomes its partition, as in Flax's own modules."""
    model = recurrent(LSTM(4))
    model.kernel.set_metadata(out_sharding=(None, "model"))
    specs = nnx.get_partition_spec(nnx.state(model, nnx.Param))
    assert specs["kernel"].get_value() == jax.sharding.PartitionSpec(None, "model")
    with pytest.raises(TypeError, match=r"an initializer must return an array of shape \(3, 16\), got VariableMetadata"):
        recurrent(LSTM(4, kernel_init=nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))))


def test_tables_and_pictures():
    """`nnx.tabulate` counts the parameters of `Outputs`, and of a model without the rows whose outputs it cannot print."""
    assert "Total Parameters: 128" in nnx.tabulate(Outputs(LSTM(4), 3, rngs=nnx.Rngs(0)), XS)

    class Last(nnx.Module):
        def __init__(self, rngs):
            self.recurrent, self.head = Recurrent(LSTM(4), 3, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, xs):
            return self.head(self.recurrent.last_output(self.recurrent(xs)[0]))

    table = nnx.tabulate(Last(nnx.Rngs(0)), XS, row_filter=lambda row: row.type is not Recurrent)
    assert "Total Parameters: 138" in table
    assert "RNN(cell=LSTMCell(units=4))" in repr(recurrent(LSTM(4)))


@pytest.mark.parametrize("name", LAYERS)
def test_made_from_parameters(name):
    """Given parameters, also NumPy arrays, become the module's and can be replaced. No `rngs` are needed."""
    layer = LAYERS[name]
    first, second = (jax.tree.map(np.asarray, layer.init(jax.random.key(k), 3)) for k in (1, 2))
    made = Recurrent(layer, params=first)
    assert_equal(made(XS), layer.apply(first, XS))
    for model in (made, recurrent(layer)):  # these modules hold their parameters in other orders
        variables = nnx.state(model, nnx.Param)
        model.params = second
        assert_equal(model(XS), layer.apply(second, XS))
        assert jax.tree.structure(nnx.state(model, nnx.Param)) == jax.tree.structure(variables)
        assert model.features_out == layer.features_out


@pytest.mark.parametrize("name", LAYERS)
def test_carries_are_the_layers(name):
    """`initial_carry`, `last_output` and a step with `reset` equal those of the layer."""
    layer = LAYERS[name]
    model = recurrent(layer)
    assert_equal(model.initial_carry((2,)), layer.initial_carry(model.params, (2,)))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.initial_carry((2,), "bfloat16"))} == {"bfloat16"}
    carry, _ = model(XS, lengths=np.array([5, 2]))
    assert_equal(model.last_output(carry), layer.last_output(carry))
    if "bidirectional" not in name and name != "stack":
        reset = np.array([True, False])
        assert_equal(model.step(carry, XS[:, 0], reset=reset), layer.step(model.params, carry, XS[:, 0], reset=reset))


REFUSED = {
    "both": (lambda: Recurrent(LSTM(4), 3, params=LSTM(4).init(jax.random.key(0), 3)), "features and params are both given"),
    "neither": (lambda: Recurrent(LSTM(4), rngs=nnx.Rngs(0)), "Recurrent needs features and rngs to draw parameters, or params"),
    "no rngs": (lambda: Recurrent(LSTM(4), 3), "Recurrent needs features and rngs"),
    "another layer's": (lambda: Recurrent(GRU(4), params=LSTM(4).init(jax.random.key(0), 3)), "pass what init of this layer"),
    "no tree": (lambda: Recurrent(LSTM(4), params=XS), "params must be what init of"),
    "no stream": (lambda: Recurrent(LSTM(4, dropout=0.5), params=LSTM(4).init(jax.random.key(0), 3)), "rngs has no such stream"),
    "set to others": (lambda: setattr(recurrent(LSTM(4)), "params", LSTM(5).init(jax.random.key(0), 3)), "must have shape (16,)"),
    "Flax's name": (lambda: Recurrent(LSTM(4), in_features=3, rngs=nnx.Rngs(0)), "Recurrent has no option 'in_features'"),
    "Flax's argument": (lambda: recurrent(LSTM(4))(XS, deterministic=True), "modules of jlstm.nnx have train() and eval()"),
    "Flax's lengths": (lambda: recurrent(LSTM(4))(XS, seq_lengths=[1, 2]), "write layer.apply(params, xs, lengths=lengths)"),
    "Rngs for a key": (lambda: LSTM(4).init(nnx.Rngs(0), 3), "pass a key of its streams, rngs.params() or rngs.dropout()"),
    "a module for a layer": (lambda: Recurrent(recurrent(LSTM(4)), 3, rngs=nnx.Rngs(0)), "pass its layer, .layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(name):
    """The sentence says what is wrong and what to write."""
    call, sentence = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300
