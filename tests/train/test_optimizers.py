"""optax here and Keras on TensorFlow take the same steps from the same weights, in float64."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jlstm import LSTM
from jlstm.train import keras_optimizer
from jlstm.train.optimizers import OPTIMIZERS
from parity import peers

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64"), pytest.mark.xdist_group("tensorflow"), pytest.mark.loose]

STEPS, BATCH, TIME, FEATURES, UNITS = 12, 5, 3, 3, 4
RATE = 2**-6  # Keras on TensorFlow rounds learning rate, momentum and betas to float32: these are representable
NAMES = {"sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop", "adadelta": "Adadelta"}
SETTINGS = [
    ("sgd", {}),
    ("sgd", {"momentum": 0.875}),
    ("sgd", {"momentum": 0.875, "nesterov": True}),
    ("adam", {"beta_1": 0.75, "beta_2": 1 - 2**-10}),
    ("adam", {"beta_1": 0.75, "beta_2": 1 - 2**-4, "epsilon": 0.01}),
    ("rmsprop", {}),
    ("rmsprop", {"rho": 0.8, "momentum": 0.875, "epsilon": 0.01}),
    ("rmsprop", {"centered": True, "epsilon": 0.01}),
    ("adadelta", {}),
    ("adadelta", {"rho": 0.8, "epsilon": 0.01, "learning_rate": 1.0}),
    ("sgd", {"clipnorm": 0.05, "momentum": 0.875}),
    ("sgd", {"clipvalue": 0.02}),
    ("adam", {"global_clipnorm": 0.05, "beta_1": 0.875, "beta_2": 1 - 2**-10}),
]


def drawn():
    """Return weights of an LSTM and of a dense layer on its last output, and a batch for every step."""
    rng = np.random.default_rng(0)
    shapes = {"kernel": (FEATURES, 4 * UNITS), "recurrent_kernel": (UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
    lstm = {name: 0.4 * rng.standard_normal(shape) for name, shape in shapes.items()}
    dense = {"kernel": rng.standard_normal((UNITS, 2)), "bias": rng.standard_normal(2)}
    xs, ys = rng.standard_normal((STEPS, BATCH, TIME, FEATURES)), rng.standard_normal((STEPS, BATCH, 2))
    return {"lstm": lstm, "dense": dense}, xs, ys


@jax.jit
@jax.value_and_grad
def loss_and_gradients(params, x, y):
    carry, _ = LSTM(UNITS).apply(params["lstm"], x)
    return jnp.mean((carry.h @ params["dense"]["kernel"] + params["dense"]["bias"][None] - y) ** 2)


def train_here(name, options):
    params, xs, ys = drawn()
    optimizer = keras_optimizer(name, **options)

    @jax.jit
    def step(params, opt_state, gradients):
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    params = jax.tree.map(jnp.asarray, params)
    opt_state, losses = optimizer.init(params), []
    for x, y in zip(xs, ys, strict=True):
        value, gradients = loss_and_gradients(params, x, y)
        params, opt_state = step(params, opt_state, gradients)
        losses.append(float(value))
    return losses, [leaf for layer_name in ("lstm", "dense") for _, leaf in sorted(params[layer_name].items())]


def train_in_keras(name, options):
    peers.load("keras")
    import keras
    import tensorflow as tf

    params, xs, ys = drawn()
    model = keras.Sequential([keras.layers.LSTM(UNITS, dtype="float64"), keras.layers.Dense(2, dtype="float64")])
    model.build((None, TIME, FEATURES))
    order = ("kernel", "recurrent_kernel", "bias")
    model.set_weights([params["lstm"][n] for n in order] + [params["dense"][n] for n in ("kernel", "bias")])
    optimizer, losses = getattr(keras.optimizers, NAMES[name])(**options), []
    for x, y in zip(xs, ys, strict=True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
        losses.append(float(loss))
    weights = dict(zip((*order, "dense kernel", "dense bias"), map(np.asarray, model.get_weights()), strict=True))
    return losses, [weights[n] for n in ("bias", "kernel", "recurrent_kernel", "dense bias", "dense kernel")]


@pytest.mark.table(quick=3)
@pytest.mark.parametrize(("name", "options"), SETTINGS, ids=str)
def test_training_takes_the_steps_of_keras(name, options):
    """After 12 steps losses and weights agree to rounding. The losses have changed by far more."""
    options = {"learning_rate": RATE} | options
    losses, weights = train_here(name, options)
    their_losses, their_weights = train_in_keras(name, options)
    np.testing.assert_allclose(losses, their_losses, rtol=1e-10)
    for ours, theirs in zip(weights, their_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    start = [leaf for layer in drawn()[0].values() for _, leaf in sorted(layer.items())]
    assert all(np.abs(after - initial).max() > 1e-5 for after, initial in zip(weights, start, strict=True))


def test_adam_with_its_defaults_is_that_of_keras_but_for_the_rounding_of_its_betas():
    """Keras rounds the betas to float32, even in float64 runs, so 1 - 0.999ᵗ is off by 1e-5."""
    (losses, _), (theirs, _) = (train("adam", {"learning_rate": RATE}) for train in (train_here, train_in_keras))
    np.testing.assert_allclose(losses, theirs, rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_are_those_of_keras(name):
    """Each option has Keras's default."""
    peers.load("keras")
    import keras

    theirs = inspect.signature(getattr(keras.optimizers, NAMES[name]).__init__).parameters
    for option, parameter in inspect.signature(OPTIMIZERS[name]).parameters.items():
        assert parameter.default == theirs[option].default, option


def test_a_schedule_is_taken_as_keras_takes_its_own():
    """The learning rate of a step scales its gradient, not the earlier momentum."""
    optimizer = keras_optimizer("SGD", learning_rate=lambda count: jnp.where(count < 1, 1.0, 0.0), momentum=0.5)
    opt_state, updates = optimizer.init({"w": jnp.zeros(())}), []
    for _ in range(3):
        update, opt_state = optimizer.update({"w": jnp.ones(())}, opt_state)
        updates.append(float(update["w"]))
    assert updates == [-1.0, -0.5, -0.25]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("lion", {}, ValueError, "there is no optimizer 'lion' here: choose among sgd, adam, rmsprop, adadelta"),
        ("adam", {"momentum": 0.9}, TypeError, "adam has no option 'momentum': it takes learning_rate, beta_1, beta_2, epsilon"),
        ("sgd", {"clipnorm": 1.0, "clipvalue": 1.0}, ValueError, "clipnorm and clipvalue are given, expected at most one"),
        ("sgd", {"clipvalue": 0.0}, ValueError, "clipvalue must be"),
    ],
)
def test_wrong_options_are_refused(name, options, error, message):
    """The sentence lists the options that there are."""
    with pytest.raises(error, match=message):
        keras_optimizer(name, **options)
