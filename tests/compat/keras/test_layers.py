"""The drop-ins compute what Keras's layers compute: outputs, states and gradients."""

import runpy

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from jlstm import backends
from jlstm.activations import activation
from jlstm.compat import keras as drop_ins
from jlstm.compat.keras import explain, loop

# Keras's own code mixes dtypes, and its variables have an old `__array__`.
pytestmark = [pytest.mark.loose, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]
BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
HOLES = np.array([[0, 1, 1, 0, 1, 0], [0] * TIME, [1] * TIME], bool)  # the second sequence has no step that counts
ALL = {"return_sequences": True, "return_state": True}


def normal(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("float32")


def pair(kind, **options):
    """Return Keras's layer and the drop-in with the same random weights."""
    layers = [getattr(module, kind)(UNITS, **({"seed": 7} | options)) for module in (keras.layers, drop_ins)]
    for layer in layers:
        layer.build((BATCH, TIME, FEATURES))
        layer.set_weights([normal(*weight.shape) for weight in layer.get_weights()])
    return layers


def results(layer, mask=None, training=False):
    """Return outputs, last states, and the gradients of the squared outputs and states for weights, inputs and initial states."""
    trainable, fixed = ([variable.value for variable in variables] for variables in split(layer))
    states = [normal(BATCH, UNITS).astype(layer.compute_dtype) for _ in layer.state_size]

    @jax.jit
    def run(trainable, xs, states):
        def loss(trainable, xs, states):
            out = layer.stateless_call(trainable, fixed, xs, initial_state=states, mask=mask, training=training)[0]
            return sum(jnp.sum(jnp.asarray(leaf, "float32") ** 2) for leaf in jax.tree.leaves(out)), out

        return jax.grad(loss, (0, 1, 2), has_aux=True)(trainable, xs, states)

    return run(trainable, normal(BATCH, TIME, FEATURES), states)


def split(layer):
    return layer.trainable_variables, layer.non_trainable_variables


def assert_same(kind, mask=None, *, training=False, tolerance=1e-5, **options):
    """Assert that the drop-in runs jlstm, and that its results equal Keras's, up to rounding of the largest one of an array."""
    layer, drop_in = pair(kind, **options)
    expected = results(layer, mask, training)
    with backends.recorded() as choices:
        actual = results(drop_in, mask, training)
    assert choices
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype
        ours, theirs = np.asarray(ours, "float32"), np.asarray(theirs, "float32")
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()))


@pytest.mark.table(quick=2)
@pytest.mark.parametrize(
    ("kind", "mask", "options"),
    [
        ("LSTM", "holes", {"go_backwards": True, "dropout": 0.3, "training": True} | ALL),
        ("LSTM", "holes", {"zero_output_for_mask": True}),
        ("LSTM", "none", {"unroll": True, "use_bias": False} | ALL),
        ("LSTM", "holes", {"dropout": 0.3, "recurrent_dropout": 0.4, "training": True} | ALL),
        ("GRU", "holes", {"reset_after": False, "dropout": 0.3, "training": True} | ALL),
        ("GRU", "holes", ALL),
        (
            "GRU",
            "holes",
            {"reset_after": False, "dropout": 0.3, "recurrent_dropout": 0.4, "training": True, "return_state": True},
        ),
        ("LSTM", "none", {"activation": "relu", "recurrent_activation": "hard_sigmoid"} | ALL),
        ("GRU", "none", {"go_backwards": True, "activation": "gelu", "recurrent_activation": "hard_sigmoid"} | ALL),
        ("GRU", "none", {"dropout": 0.3, "implementation": 1, "use_cudnn": False, "use_bias": False, "training": True}),
        ("LSTM", "holes", ALL),
        ("LSTM", "none", {"return_state": True, "go_backwards": True}),
        ("LSTM", "holes", {"go_backwards": True, "zero_output_for_mask": True} | ALL),
        ("LSTM", "none", {"activation": "linear", "recurrent_activation": "softsign"} | ALL),
        ("GRU", "holes", {"go_backwards": True, "zero_output_for_mask": True} | ALL),
    ],
    ids=str,
)
def test_it_is_the_same(kind, mask, options):
    """Outputs, states and gradients equal those of Keras's layer, with the dropout masks that Keras draws."""
    assert_same(kind, HOLES if mask == "holes" else None, **options)


@pytest.mark.parametrize("name", loop._NAMES)
def test_named_activations_are_those_of_keras(name):
    """A function that the drop-ins run by its name in jlstm has the values and derivatives of Keras's, also at its corners."""
    ours, theirs = activation(name), keras.activations.get(name)
    assert loop._activation(theirs) == name
    assert loop._activation(keras.activations.get(None)) == "linear"
    for x in np.float32([-4, -3, -1, -0.3, 0, 0.3, 1, 3, 4]):
        assert jax.value_and_grad(ours)(x) == jax.value_and_grad(theirs)(x)


def test_other_activations_are_called_as_they_are():
    """jlstm has functions of these names too, with other defaults than Keras."""
    for name in ("gelu", "leaky_relu"):
        theirs = keras.activations.get(name)
        assert loop._activation(theirs) is theirs
        assert activation(name)(jnp.float32(-1)) != theirs(jnp.float32(-1))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_mixed_precision_is_the_same(policy):
    """Weights stay float32, outputs are in the lower precision, and differ from Keras's by its rounding."""
    assert_same("LSTM", HOLES, dtype=policy, tolerance=16 * float(jnp.finfo(policy.removeprefix("mixed_")).eps), **ALL)


def test_masks_hide_what_is_in_the_padding():
    """NaN at masked steps reaches neither the outputs nor the gradients. In Keras's layers it reaches the gradients."""
    _, drop_in = pair("LSTM")
    xs = jnp.where(HOLES[..., None], normal(BATCH, TIME, FEATURES), np.nan)
    weights, fixed = ([variable.value for variable in variables] for variables in split(drop_in))
    gradients = jax.grad(lambda weights: jnp.sum(drop_in.stateless_call(weights, fixed, xs, mask=HOLES)[0]))(weights)
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(
    ("reason", "options", "mask"),
    [
        ("unroll=True has other outputs at masked steps", {"unroll": True} | ALL, HOLES),
        ("an activation is a layer", {"activation": keras.layers.LeakyReLU()}, None),
        ("a dropout rate is 1", {"dropout": 1.0}, None),
        ("the mask is not", ALL, np.stack([HOLES, HOLES, HOLES], -1)),
    ],
    ids=("unrolled", "layer", "rate", "mask"),
)
def test_keras_runs_what_jlstm_does_not(reason, options, mask):
    """Other calls are left to Keras's own code, and give its bits."""
    layer, drop_in = pair("LSTM", **options)
    assert reason in loop.obstacle(drop_in, mask)
    xs = normal(BATCH, TIME, FEATURES)
    with backends.recorded() as choices:
        actual, expected = drop_in(xs, mask=mask), layer(xs, mask=mask)
    assert not choices
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_cudnn_stays_in_use(monkeypatch):
    """On a GPU, Keras runs by cuDNN what cuDNN can. With use_cudnn=True, Keras raises its error where it cannot."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert str(explain(drop_ins.LSTM(4, name="lstm"))) == "lstm: LSTM is run by Keras: cuDNN runs it"
    assert loop.obstacle(drop_ins.LSTM(4), HOLES) == ""
    for layer in (drop_ins.GRU(4), drop_ins.LSTM(4, recurrent_dropout=0.5), drop_ins.LSTM(4, use_cudnn=False)):
        assert loop.obstacle(layer, None) == ""
    monkeypatch.undo()
    with pytest.raises(ValueError, match="use_cudnn=True was specified"):
        drop_ins.LSTM(4, use_cudnn=True)(normal(BATCH, TIME, FEATURES))


def test_keras_on_another_backend_is_refused(monkeypatch):
    """If Keras is imported already, and on another backend, the import says so."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ImportError, match="got Keras on tensorflow: set the environment variable KERAS_BACKEND=jax"):
        runpy.run_path(drop_ins.__file__)
