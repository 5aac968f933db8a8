"""03_imdb.py trains as Keras does, over several seeds, and also offers a better network."""

import os
import re
from functools import partial
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tyro

import synthetic_reviews
from jlstm import train
from jlstm.data import Bucketed, Minibatches
from synthetic_reviews import with_random_reviews

pytestmark = [pytest.mark.no_cover, pytest.mark.xdist_group("tensorflow"), pytest.mark.loose]
SMALL = ("--words", str(synthetic_reviews.WORDS), "--length", "20")
FIGURES = r"accuracy [01]\.\d{4}, loss \d\.\d{4}"


@pytest.fixture
def example(monkeypatch) -> ModuleType:
    """The module of 03_imdb.py, on random reviews."""
    return with_random_reviews(monkeypatch, "03_imdb")


@pytest.fixture
def keras(monkeypatch) -> ModuleType:
    """Keras on TensorFlow."""
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "tensorflow"))
    return pytest.importorskip("keras")


def run(example: ModuleType, *arguments: str, out) -> None:
    """Run `python 03_imdb.py` with these arguments."""
    example.main(tyro.cli(example.ImdbOptions, args=[*SMALL, "--out", str(out), *arguments]))


@pytest.mark.slow
def test_seeds_are_trained_measured_and_averaged(example, tmp_path, capsys):
    """There is a line for each epoch and seed, and the mean with its standard error. The first seed is saved."""
    run(example, "--epochs", "2", "--batch", "20", "--learning-rate", "0.03", "--seeds", "2", out=tmp_path)
    printed = capsys.readouterr().out
    epochs = re.findall(rf"^Epoch ([12])/2: train {FIGURES}, validation {FIGURES} \(\d+\.\d s\)$", printed, re.MULTILINE)
    assert epochs == ["1", "2", "1", "2"]
    seeds = [float(value) for value in re.findall(r"^Seed [01]: test accuracy (\S+)$", printed, re.MULTILINE)]
    mean, error = map(float, re.search(r"^Mean of 2 seeds: (\S+) ± (\S+) \(standard error\)$", printed, re.MULTILINE).groups())
    assert (mean, error) == pytest.approx((np.mean(seeds), abs(seeds[0] - seeds[1]) / 2), abs=2e-4)  # printed with four digits
    assert printed.endswith(f"\nTest accuracy: {seeds[0]:.4f}\n")
    assert seeds[0] > 0.9
    assert {path.name for path in tmp_path.iterdir()} >= {"checkpoints", "history.jsonl", "weights.safetensors", "seed_1"}


@pytest.mark.slow
def test_the_best_network_learns_and_judges(example, tmp_path, capsys):
    """The bidirectional network learns, and the same options build it again to judge a text."""
    arguments = ("--best", "--words", "17", "--length", "21", "--batch", "32", "--learning-rate", "0.01", "--epochs", "4")
    run(example, *arguments, "--seeds", "2", out=tmp_path)
    printed = capsys.readouterr().out
    assert len(re.findall(r"^Seed \d: test accuracy", printed, re.MULTILINE)) == 2
    assert float(printed.splitlines()[-1].removeprefix("Test accuracy: ")) > 0.9
    run(example, *arguments, "--predict", "The plot was awful", out=tmp_path)
    assert re.search(r"\nVerdict: negative \(0\.\d{3}\)\n$", capsys.readouterr().out)


def test_best_takes_the_place_of_defaults_only(example, monkeypatch, tmp_path):
    """`--best` does not override options that the user gave."""
    calls = []
    monkeypatch.setattr(example, "learn", lambda learned, validation, options, console: calls.append(options) or {})
    monkeypatch.setattr(example, "accuracy", lambda *_: 0.5)
    monkeypatch.setattr(example.jlstm, "save", lambda *_: None)
    run(example, "--best", "--units", "7", out=tmp_path)
    assert (calls[0].units, calls[0].length, calls[0].words) == (7, 20, synthetic_reviews.WORDS)
    assert (calls[0].pool, calls[0].bidirectional, calls[0].features) == tuple(
        example.BEST[name] for name in ("pool", "bidirectional", "features")
    )


def test_training_leaves_out_a_share_of_the_words(example):
    """Dropped words become unknown words. Padding and the start mark stay, and validation drops nothing."""
    tokens = np.tile(np.r_[np.zeros(10), 1, np.arange(3, 1003)].astype(np.int32), (4, 1))
    batch = Bucketed(tokens, np.full(4, 1001, np.int32), np.ones(4, np.int32))
    token_batches = []
    model = SimpleNamespace(apply=lambda params, tokens, key: token_batches.append(np.asarray(tokens)) or jnp.zeros(4))
    for key in (None, jax.random.key(0)):
        example.reviews.loss_fn(model, optax.sigmoid_binary_cross_entropy, 0.3, {}, batch, key, None)
    dropped = token_batches[1] == example.reviews.UNKNOWN
    np.testing.assert_array_equal(token_batches[0], tokens)
    np.testing.assert_array_equal(token_batches[1][~dropped], tokens[~dropped])
    assert not dropped[:, :11].any()
    assert 0.25 < dropped[:, 11:].mean() < 0.35


def test_adam_is_that_of_keras(example, keras):
    """Thirty steps with gradients from 1e-9 to 1, where ε matters, equal Keras. With optax's ε they do not."""
    draw = np.random.default_rng(0)
    gradients = (draw.normal(size=(30, 10)) * 10.0 ** np.arange(-9, 1)).astype(np.float32)
    theirs, optimizer = keras.Variable(np.zeros(10, np.float32)), keras.optimizers.Adam(1e-3)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [theirs])

    @partial(jax.jit, static_argnums=0)
    def ours(adam: optax.GradientTransformation) -> jax.Array:
        def step(state, gradient):
            weights, opt_state = state
            updates, opt_state = adam.update(gradient, opt_state)
            return (weights + updates, opt_state), None

        initial = jnp.zeros(10)
        return jax.lax.scan(step, (initial, adam.init(initial)), gradients)[0][0]

    np.testing.assert_allclose(ours(example.adam(1e-3)), theirs, rtol=1e-4, atol=1e-8)  # float32, thirty roundings
    assert np.abs(ours(optax.adam(1e-3, eps=1e-7)) - theirs).max() > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_training_ends_in_the_weights_of_keras(example, keras, masked):
    """Ten steps of Keras's `fit` and of ours agree, from the same weights and on the same batches.

    Keras's Adam squares the embedding's gradient before it adds up a word's occurrences in a batch (it takes the rows
    of TensorFlow's IndexedSlices for different words), so that its steps are longer. Here it gets the sum, as its SGD does.
    """
    options = example.ImdbOptions(words=synthetic_reviews.WORDS, length=20, batch=16, masked=masked)
    reviews = synthetic_reviews.random_reviews(160, seed=5)
    batch = next(example.reviews.batches(reviews, example.replace(options, batch=160), width=20).epoch(0)).examples
    model = example.network(options)
    params = model.init(jax.random.key(0), batch.tokens)["params"]
    loss = example.partial(example.reviews.loss_fn, model, optax.sigmoid_binary_cross_entropy, 0.0)
    trained = train.fit(loss, params, example.adam(1e-3), Minibatches(batch, 16), epochs=1).params

    layers = keras.layers
    head = [
        layers.Embedding(synthetic_reviews.WORDS, 15, mask_zero=masked),
        layers.LSTM(10),
        layers.Dense(1, activation="sigmoid"),
    ]
    theirs = keras.Sequential([layers.Input((20,), dtype="int32"), *head])
    theirs.set_weights(weights(params))
    theirs.compile(adam_of_sums(keras), "binary_crossentropy")
    theirs.fit(batch.tokens, batch.labels, batch_size=16, epochs=1, shuffle=False, verbose=0)
    for initial, ours, reference in zip(weights(params), weights(trained), theirs.get_weights(), strict=True):
        assert np.abs(ours - initial).max() > 1e-3
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-5)  # a hundredth of a step: Adam divides rounding by rounding


def adam_of_sums(keras: ModuleType):
    """Return Keras's Adam on the sum over a word's occurrences."""
    import tensorflow as tf

    class AdamOfSums(keras.optimizers.Adam):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(tf.convert_to_tensor(gradient), variable, learning_rate)

    return AdamOfSums(1e-3)


def weights(params) -> list[np.ndarray]:
    """Return our parameters as a list in Keras's order."""
    layer, head = params["layer_0"], params["head"]
    of_layer = (layer["kernel"], layer["recurrent_kernel"], layer["bias"])
    return [np.asarray(leaf) for leaf in (params["embed"]["embedding"], *of_layer, head["kernel"], head["bias"])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict", "great"], r"error: there is no (folder|checkpoint)"),
        (["--reviews", "3"], "error: --reviews must be at least 10, got 3"),
        (["--seeds", "0"], "error: --seeds must be at least 1, got 0"),
        (["--dropout", "1"], r"error: dropout must"),
        (["--word-dropout", "1"], r"error: --word-dropout must be a share in \[0, 1\), got 1"),
    ],
)
def test_a_mistake_is_one_sentence(example, tmp_path, arguments, message):
    """A mistake ends the script with one sentence."""
    with pytest.raises(SystemExit, match=message), example.one_sentence():
        run(example, *arguments, out=tmp_path)


def test_an_ensemble_judges_by_the_mean_of_the_logits(example):
    """Two models that disagree give the mean of their logits."""
    model = SimpleNamespace(apply=lambda variables, tokens: variables["params"] * tokens)
    ensemble_logits = example.Ensemble(model).apply({"params": [jnp.float32(1), jnp.float32(-3)]}, jnp.ones(2))
    np.testing.assert_array_equal(ensemble_logits, [-1, -1])
