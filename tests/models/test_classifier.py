"""The sequence classifier: pooling, padding and dropout."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from hypothesis import given
from hypothesis import strategies as st

from jlstm import LSTM, Bidirectional, Stack
from jlstm.models import SequenceClassifier, Uniform
from parity import textbook

VOCABULARY, FEATURES, CLASSES = 11, 3, 5
LAYERS = {
    "lstm": LSTM(4),
    "reverse": LSTM(4, reverse=True),
    **{f"bidirectional {merge}": Bidirectional(LSTM(4), merge) for merge in ("concat", "sum", "mul", "ave")},
    "bidirectional, reverse": Bidirectional(LSTM(4, reverse=True)),
    "bidirectional stack": Bidirectional(Stack((LSTM(2), LSTM(4)))),
    "stack": Stack((Bidirectional(LSTM(2)), LSTM(4))),
    "stack, bidirectional": Stack((LSTM(2), Bidirectional(LSTM(4)))),
}
TOKENS = np.random.default_rng(0).integers(1, VOCABULARY, (6, 7)).astype(np.int32)
MASK = np.array(
    [[1] * 7, [0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0, 0], [0] * 7, [0, 0, 1, 0, 0, 0, 0]], bool
)
PADDED = np.where(MASK, TOKENS, 0)


def small_model(layer, tokens=PADDED, **options):
    """Return a model and random parameters, including biases."""
    model = SequenceClassifier(VOCABULARY, FEATURES, layer, **{"classes": CLASSES} | options)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens)["params"])
    rng = np.random.default_rng(0)
    dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    return model, jax.tree.map(lambda leaf: (rng.standard_normal(leaf.shape) / 2).astype(dtype), shapes)


@partial(jax.jit, static_argnums=0)
def logits(model, params, *args, **kwargs):
    return model.apply({"params": params}, *args, **kwargs)


@partial(jax.jit, static_argnums=0)
def loss_and_grads(model, params, tokens, lengths):
    return jax.value_and_grad(lambda p: (logits(model, p, tokens, lengths=lengths, key=jax.random.key(0)) ** 2).sum())(params)


def as_layers(entry):
    """Return a Stack's parameters as its `init` makes them: linen names the entries "0", "1", …."""
    if not isinstance(entry, dict) or "0" not in entry:
        return entry
    return tuple(entry[str(k)] for k in range(len(entry)))


def head(params, pooled):
    return np.asarray(pooled) @ np.asarray(params["head"]["kernel"]) + np.asarray(params["head"]["bias"])


def captured(model, params, *args, **kwargs):
    """Return the outputs of every part by its name."""
    apply = jax.jit(partial(model.apply, capture_intermediates=True, mutable="intermediates"))
    _, state = apply({"params": params}, *args, **kwargs)
    parts = traverse_util.flatten_dict(state["intermediates"])
    return {"/".join(path[:-1]): value[0] for path, value in parts.items()}


@pytest.mark.table(quick=6)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_last_is_what_each_direction_says_at_its_own_end(name, masked, x64):
    """With padding anywhere, `last` equals the textbook's last outputs in float64."""
    tokens = PADDED if masked else TOKENS
    model, params = small_model(LAYERS[name], masked=masked)
    xs = np.asarray(params["embed"]["embedding"])[tokens]
    weights = jax.tree.map(np.asarray, as_layers(params["layer_0"]))
    _, pooled, _ = textbook.run(LAYERS[name], weights, xs, mask=MASK if masked else None, last=True)
    np.testing.assert_allclose(logits(model, params, tokens), head(params, pooled[:, 0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_mean_and_max_are_over_the_steps_that_count(pool, masked, x64):
    """They equal NumPy's, row by row, and are zero where no step counts."""
    tokens, mask = (PADDED, MASK) if masked else (TOKENS, np.ones_like(MASK))
    model, params = small_model(LAYERS["stack"], masked=masked, pool=pool)
    xs = np.asarray(params["embed"]["embedding"])[tokens]
    ys = textbook.run(LAYERS["stack"], jax.tree.map(np.asarray, as_layers(params["layer_0"])), xs, mask=mask)[1]
    pooled = [getattr(row[counts], pool)(axis=0) if counts.any() else np.zeros(4) for row, counts in zip(ys, mask, strict=True)]
    np.testing.assert_allclose(logits(model, params, tokens), head(params, pooled), rtol=0, atol=1e-12)


def test_a_tuple_of_layers_is_a_stack():
    """Without dropout a tuple of layers gives the results of a Stack of them."""
    layers = (LSTM(4), Bidirectional(LSTM(2)))
    model, params = small_model(layers, masked=True)
    stacked = {"embed": params["embed"], "head": params["head"], "layer_0": {str(k): params[f"layer_{k}"] for k in range(2)}}
    got = logits(model, params, PADDED)
    np.testing.assert_array_equal(got, logits(small_model(Stack(layers), masked=True)[0], stacked, PADDED))
    assert small_model(list(layers), masked=True)[0] == model


def test_the_parameters_are_counted_by_hand():
    """The tutorial's IMDB model has 5000·15 + 4·10·(15 + 10 + 1) + 11 parameters, under documented names."""
    model = SequenceClassifier(5_000, 15, LSTM(10), dropout=0.2)
    params = jax.eval_shape(model.init, jax.random.key(0), TOKENS)["params"]
    shapes = {"/".join(path): leaf.shape for path, leaf in traverse_util.flatten_dict(params).items()}
    assert shapes == {
        "embed/embedding": (5_000, 15),
        "layer_0/kernel": (15, 40),
        "layer_0/recurrent_kernel": (10, 40),
        "layer_0/bias": (40,),
        "head/kernel": (10, 1),
        "head/bias": (1,),
    }
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 76_051


def test_one_class_has_no_axis():
    """Logits have shape (batch,) for one class, otherwise (batch, classes)."""
    assert logits(*small_model(LSTM(4), classes=1), TOKENS).shape == (6,)
    assert logits(*small_model(LSTM(4), classes=2), TOKENS).shape == (6, 2)


def test_the_embedding_starts_as_asked():
    """The default is uniform in ±0.05, as in Keras. Another initializer is given by name."""
    init = lambda **options: SequenceClassifier(500, 40, LSTM(4, recurrent_init="zeros"), **options).init(
        jax.random.key(0), TOKENS
    )
    embedding = init()["params"]["embed"]["embedding"]
    assert abs(embedding).max() <= 0.05
    np.testing.assert_allclose(embedding.std(), 0.05 / 3**0.5, rtol=0.02)  # 20,000 draws
    assert not init(embedding_init="zeros")["params"]["embed"]["embedding"].any()


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("pool", ["last", "mean", "max"])
@given(data=st.data())
def test_padding_anywhere_cannot_matter(pool, data):
    """Zeros put into a sequence, wherever, leave a masked model's logits as they are, bit by bit."""
    model, params = small_model(LAYERS["bidirectional concat"], masked=True, pool=pool)
    sequence = data.draw(st.lists(st.integers(1, VOCABULARY - 1), max_size=6))
    places = sorted(data.draw(st.lists(st.integers(0, 6), min_size=len(sequence), max_size=len(sequence), unique=True)))
    tokens = np.zeros((2, 7), np.int32)
    tokens[0, : len(sequence)] = sequence
    tokens[1, places] = sequence
    first, second = logits(model, params, tokens)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)  # a sum over steps may be taken in another order


@given(data=st.data())
def test_what_stands_after_the_lengths_cannot_matter(data):
    """Neither logits nor gradients change, even for a token outside the vocabulary, whose embedding is NaN."""
    model, params = small_model(LAYERS["lstm"], dropout=0.5)
    lengths = np.array(data.draw(st.lists(st.integers(0, 7), min_size=6, max_size=6)))
    replacement = np.array(data.draw(st.lists(st.integers(0, VOCABULARY + 3), min_size=42, max_size=42)), np.int32).reshape(6, 7)
    padding = np.arange(7) >= lengths[:, None]

    results = (loss_and_grads(model, params, tokens, lengths) for tokens in (np.where(padding, replacement, TOKENS), TOKENS))
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_lengths_are_padding_after():
    """Lengths give the same as zeros behind the sequences in a masked model."""
    lengths = np.array([7, 3, 1, 0, 5, 2])
    model, params = small_model(LAYERS["bidirectional concat"])
    padded = np.where(np.arange(7) < lengths[:, None], TOKENS, 0)
    masked, _ = small_model(LAYERS["bidirectional concat"], masked=True)
    np.testing.assert_array_equal(logits(model, params, TOKENS, lengths=lengths), logits(masked, params, padded))


@pytest.mark.parametrize("pool", ["last", "mean", "max"])
def test_a_sequence_without_steps_gives_the_bias_and_finite_gradients(pool):
    """The head then sees zeros, and neither 0/0 nor -inf appears."""
    model, params = small_model(LAYERS["bidirectional concat"], masked=True, pool=pool)
    nothing = np.zeros_like(PADDED)
    np.testing.assert_array_equal(logits(model, params, nothing), np.stack([params["head"]["bias"]] * len(nothing)))
    grads = jax.jit(jax.grad(lambda p: (model.apply({"params": p}, nothing) ** 2).sum()))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_a_key_or_an_rng_turns_dropout_on():
    """The logits change with the key, the same key gives the same, and without one it is inference."""
    model, params = small_model((LSTM(4, dropout=0.3), LSTM(4)), dropout=0.5)
    plain = logits(small_model((LSTM(4), LSTM(4)))[0], params, TOKENS)
    np.testing.assert_array_equal(logits(model, params, TOKENS), plain)
    first, again, different = (logits(model, params, TOKENS, key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != different).any()
    assert (first != plain).any()
    by_rng = logits(model, params, TOKENS, rngs={"dropout": jax.random.key(1)})
    assert (by_rng != plain).any()


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_is_on_the_outputs_of_each_layer(variational):
    """A quarter is zero, the rest 4/3 of what it was, so that the mean stays; constant over time only if variational."""
    model, params = small_model((LSTM(40), LSTM(50)), dropout=0.25, variational=variational)
    tokens = np.tile(TOKENS, (20, 1))
    parts = captured(model, params, tokens, key=jax.random.key(3))
    inputs = {"dropout_0": parts["layer_0"][1], "dropout_1": parts["layer_1"][1][:, -1]}
    for name, ys in inputs.items():
        keep_mask = parts[name] != 0
        np.testing.assert_allclose(parts[name], jnp.where(keep_mask, ys / 0.75, 0), rtol=1e-6)
        draws = keep_mask.size // (7 if variational and keep_mask.ndim == 3 else 1)
        assert abs(keep_mask.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / draws)  # four standard deviations
    constant = (parts["dropout_0"] != 0).all(axis=1) | (parts["dropout_0"] == 0).all(axis=1)
    assert constant.all() == variational
    again = LSTM(50).apply(params["layer_1"], parts["dropout_0"])[1]
    np.testing.assert_array_equal(parts["layer_1"][1], again)


def test_no_dropout_means_no_such_part():
    """A rate of zero makes no module."""
    assert not any("dropout" in name for name in captured(*small_model(LSTM(4)), TOKENS, key=jax.random.key(0)))


def test_equal_models_compile_once():
    """A model is hashable and equal to another with the same options, so it can be a static argument of `jit`."""
    compiled = jax.jit(logits, static_argnums=0)
    for _ in range(2):
        model, params = small_model((LSTM(4), LSTM(3)), dropout=0.5, masked=True, embedding_init=Uniform(0.1))
        compiled(model, params, PADDED)
    assert compiled._cache_size() == 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SequenceClassifier(0, 3, LSTM(4)), ValueError, "vocabulary must be a whole number of at least 1"),
        (lambda: small_model(LSTM(4), classes=0), ValueError, "classes must be a whole number of at least 1"),
        (lambda: small_model(LSTM(4), dropout=1), ValueError, r"dropout must be a rate in \[0, 1\)"),
        (lambda: small_model(LSTM(4), pool="first"), ValueError, "pool must be one of 'last', 'mean', 'max', got 'first'"),
        (lambda: small_model(LSTM(4), masked=1), TypeError, "masked must be True or False"),
        (lambda: small_model(LSTM(4), embedding_init="unifrom"), ValueError, "unknown initializer 'unifrom'"),
        (lambda: small_model(()), ValueError, "layers must hold at least one layer"),
        (lambda: small_model((LSTM(4), 5)), TypeError, r"layers must be Layers such as LSTM\(units\), got 5"),
        (lambda: small_model(LSTM(4, time_major=True)), ValueError, "must not have time_major=True or merge=None"),
        (lambda: small_model(Bidirectional(LSTM(4), None)), ValueError, "must not have time_major=True or merge=None"),
        (
            lambda: small_model(Bidirectional(Bidirectional(LSTM(4)))),
            ValueError,
            "a Bidirectional around another has no last step",
        ),
        (
            lambda: small_model(LSTM(4), TOKENS[0]),
            ValueError,
            r"tokens must have shape \(batch, time\) with at least 1 time step, got",
        ),
        (lambda: small_model(LSTM(4), TOKENS[:, :0]), ValueError, "with at least 1 time step"),
        (lambda: small_model(LSTM(4), TOKENS / 1), TypeError, "tokens must be whole numbers, indices into the vocabulary"),
        (
            lambda: logits(*small_model(LSTM(4), masked=True), TOKENS, lengths=[1] * 6),
            ValueError,
            "masked=True, which sees from the zeros",
        ),
        (
            lambda: small_model(LSTM(4))[0].init(jax.random.key(0), TOKENS, lengths=[8] * 6),
            ValueError,
            "lengths must lie between 0 and the 7 time steps",
        ),
        (lambda: Uniform("wide"), TypeError, "scale must be a number, got 'wide'"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(make, error, message):
    """The sentence says what was expected, what came and what to do."""
    with pytest.raises(error, match=message):
        make()


def test_a_bidirectional_around_another_can_be_averaged():
    """It has no last step, but it has a mean."""
    model, params = small_model(Bidirectional(Bidirectional(LSTM(4)), "sum"), pool="mean")
    assert logits(model, params, TOKENS).shape == (6, CLASSES)
