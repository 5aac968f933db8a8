"""A classifier with a Keras model's weights equals that model in outputs and gradients, with padding on either side."""

import jax
import numpy as np
import pytest

from jlstm import LSTM, Bidirectional
from jlstm.models import SequenceClassifier
from parity.peers.keras import keras, tf  # first: sets TensorFlow to the CPU, with kernels that round alike everywhere

pytestmark = [pytest.mark.no_cover, pytest.mark.xdist_group("tensorflow")]

VOCABULARY, FEATURES, UNITS = 50, 15, 10
LAYERS = {
    "lstm": (LSTM(UNITS), lambda: keras.layers.LSTM(UNITS)),
    "bidirectional": (Bidirectional(LSTM(UNITS)), lambda: keras.layers.Bidirectional(keras.layers.LSTM(UNITS))),
}


def tokens(padding):
    """Return reviews of 1 to 12 words, padded to 12 by Keras. Without padding all have 12 words."""
    rng = np.random.default_rng(0)
    reviews = [rng.integers(1, VOCABULARY, length if padding else 12).tolist() for length in (12, 7, 1, 3, 11)]
    return keras.utils.pad_sequences(reviews, maxlen=12, padding=padding or "pre")


def keras_model(layer, masked):
    """Return an embedding, the layer and one logit, with random weights and biases."""
    embedding = keras.layers.Embedding(VOCABULARY, FEATURES, mask_zero=masked)
    model = keras.Sequential([keras.Input((12,), dtype="int32"), embedding, layer, keras.layers.Dense(1)])
    rng = np.random.default_rng(1)
    model.set_weights([rng.standard_normal(weight.shape).astype(np.float32) / 2 for weight in model.get_weights()])
    return model


def loaded(model, weights):
    """Return our parameters with Keras's list of weights in them, in the same order."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens("pre"))["params"])
    names = ("kernel", "recurrent_kernel", "bias")
    embedding, *inner, kernel, bias = weights
    cells = [dict(zip(names, inner[k : k + 3], strict=True)) for k in range(0, len(inner), 3)]
    layer = cells[0] if len(cells) == 1 else dict(zip(("forward", "backward"), cells, strict=True))
    params = {"embed": {"embedding": embedding}, "layer_0": layer, "head": {"kernel": kernel, "bias": bias}}
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    return params


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("padding", ["pre", "post", None])
@pytest.mark.parametrize("name", LAYERS)
def test_a_keras_models_weights_give_its_logits_and_gradients(name, padding):
    """The tolerance of 1e-5 is a few ULP of float32 sums over 12 steps."""
    ours, make = LAYERS[name]
    batch, targets = tokens(padding), np.array([0, 1, 1, 0, 1], np.float32)
    theirs = keras_model(make(), masked=padding is not None)
    model = SequenceClassifier(VOCABULARY, FEATURES, ours, masked=padding is not None)

    with tf.GradientTape() as tape:
        expected = theirs(batch)[:, 0]
        loss = tf.reduce_sum((expected - targets) ** 2)
    gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, theirs.trainable_variables)]

    def loss_fn(params):
        logits = model.apply({"params": params}, batch)
        return ((logits - targets) ** 2).sum(), logits

    params = loaded(model, theirs.get_weights())
    grads, logits = jax.jit(jax.grad(loss_fn, has_aux=True))(params)
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-5)
    close = lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * max(1, abs(wanted).max()))
    jax.tree.map(close, grads, loaded(model, gradients))


def test_the_count_is_keras_own():
    """5,000 words, 15 features and LSTM(10) make 76,051 parameters."""
    layers = [keras.Input((300,)), keras.layers.Embedding(5_000, 15), keras.layers.LSTM(10), keras.layers.Dense(1)]
    params = jax.eval_shape(SequenceClassifier(5_000, 15, LSTM(10)).init, jax.random.key(0), tokens("pre"))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == keras.Sequential(layers).count_params() == 76_051
