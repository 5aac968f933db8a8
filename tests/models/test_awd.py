"""The parts of the AWD-LSTM: sizes, kinds of dropout, the activation penalty and the neural cache."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jlstm import LSTM
from jlstm.models import LanguageModel, NeuralCache, activation_penalty
from parity import textbook

VOCABULARY = 11
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (3, 6)).astype(np.int32)
RNG = np.random.default_rng(1)


def drawn(model):
    """Return parameters large enough for the predictions to differ."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), TOKENS)["params"])
    dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    return jax.tree.map(lambda leaf: np.random.default_rng(0).standard_normal(leaf.shape).astype(dtype), shapes)


@partial(jax.jit, static_argnums=0)
def run(model, params, *args, **kwargs):
    (logits, carry), state = model.apply({"params": params}, *args, **kwargs, mutable="intermediates")
    return logits, carry, state["intermediates"]


def test_the_papers_network_has_the_papers_size():
    """Merity, Keskar & Socher 2018 count 24 million parameters. PyTorch has a second bias in each LSTM."""
    shapes = jax.eval_shape(LanguageModel(10_000, (1150, 1150, 400), tied=True).init, jax.random.key(0), TOKENS)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) + 4 * (1150 + 1150 + 400) == 24_221_600


@pytest.mark.parametrize("options", [{"tied": True}, {"features": 3}], ids=["tied", "features"])
def test_layers_of_different_sizes_are_the_textbooks(options, x64):
    """Logits, carry and the outputs of the last layer equal those of the textbook's layers, in float64."""
    model = LanguageModel(VOCABULARY, (6, 5, 4), **options)
    params = drawn(model)
    logits, carry, intermediates = run(model, params, TOKENS)
    ys, embedding = params["embed"]["embedding"][TOKENS], params["embed"]["embedding"]
    assert embedding.shape == (VOCABULARY, options.get("features", 4))
    for k, units in enumerate((6, 5, 4)):
        last, ys, _ = textbook.run(LSTM(units), params[f"layer_{k}"], ys)
        np.testing.assert_allclose(carry[k].c, last.c, rtol=0, atol=1e-12)
    kernel, bias = (embedding.T, params["bias"]) if model.tied else (params["head"]["kernel"], params["head"]["bias"])
    np.testing.assert_allclose(logits, ys @ kernel + bias, rtol=0, atol=1e-12)
    np.testing.assert_allclose(intermediates["outputs"][0], ys, rtol=0, atol=1e-12)
    assert [leaf.shape for leaf in jax.tree.leaves(model.initial_carry(3))] == [leaf.shape for leaf in jax.tree.leaves(carry)]


def test_embedding_dropout_drops_a_token_everywhere(x64):
    """The logits are those of an embedding of zero, or of one scaled by 1 / (1 - rate), the same for each copy of a token."""
    model = LanguageModel(600, 4, layers=1, embedding_dropout=0.4)
    params, tokens = drawn(model), np.tile(np.arange(600, dtype=np.int32)[:, None], (2, 1))
    logits, _, _ = run(model, params, tokens, key=jax.random.key(1))
    embedding = params["embed"]["embedding"]
    kept, dropped = (run(model, params | {"embed": {"embedding": embedding * s}}, tokens)[0] for s in (1 / 0.6, 0.0))
    is_kept = np.isclose(logits, kept, rtol=0, atol=1e-12).all((1, 2))
    np.testing.assert_allclose(logits, np.where(is_kept[:, None, None], kept, dropped), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(is_kept[:600], is_kept[600:])
    assert abs(is_kept.mean() - 0.6) < 4 * np.sqrt(0.6 * 0.4 / 600)  # four standard deviations


def test_each_place_has_its_own_rate():
    """The embedding, the outputs between layers and those of the last layer are dropped at the rates asked for."""
    rates = {"input_dropout": 0.2, "dropout": 0.4, "output_dropout": 0.6}
    model = LanguageModel(VOCABULARY, 100, layers=3, **rates)
    tokens = np.tile(TOKENS, (4, 1))
    apply = partial(model.apply, capture_intermediates=True, mutable="intermediates")
    _, state = jax.jit(apply)({"params": drawn(model)}, tokens, key=jax.random.key(0))
    shares = [np.mean(np.asarray(state["intermediates"][f"dropout_{k}"]["__call__"][0]) == 0) for k in range(4)]
    np.testing.assert_allclose(shares, [0.2, 0.4, 0.4, 0.6], rtol=0, atol=4 * np.sqrt(0.25 / 7200))
    dropped, outputs = state["intermediates"]["dropped"][0], state["intermediates"]["outputs"][0]
    np.testing.assert_allclose(dropped, jnp.where(dropped == 0, 0, outputs / 0.4), rtol=1e-5)


def test_weight_drop_zeroes_recurrent_weights(x64):
    """The first step, which has no h, is not changed. Without a key nothing is."""
    model, plain = (LanguageModel(VOCABULARY, 4, layers=1, weight_drop=rate) for rate in (0.5, 0.0))
    params = drawn(model)
    logits, _, _ = run(model, params, TOKENS, key=jax.random.key(0))
    expected, _, _ = run(plain, params, TOKENS)
    np.testing.assert_allclose(logits[:, 0], expected[:, 0], rtol=0, atol=1e-12)
    assert (abs(logits - expected)[:, 1:] > 1e-6).all()
    np.testing.assert_array_equal(run(model, params, TOKENS)[0], expected)


def test_the_activation_penalty_is_the_formula(x64):
    """It adds the mean square of the dropped outputs and that of the change of the outputs."""
    outputs, dropped = RNG.standard_normal((2, 3, 5, 4))
    penalty = activation_penalty(outputs, dropped, activation=2.0, slowness=3.0)
    for b in range(3):
        for t in range(5):
            change = np.mean((outputs[b, t] - outputs[b, t - 1]) ** 2) if t else 0
            np.testing.assert_allclose(penalty[b, t], 2 * np.mean(dropped[b, t] ** 2) + 3 * change, rtol=1e-12)


def loop_of_cache(logits, outputs, targets, size, flatness, weight):
    """Return the probabilities of a neural cache for one text, word by word, as the paper writes them."""
    rows = []
    for t in range(len(targets)):
        of_model = np.exp(logits[t]) / np.exp(logits[t]).sum()
        similarities = {i: np.exp(flatness * outputs[t] @ outputs[i]) for i in range(max(0, t - size), t)}
        of_cache = np.zeros(len(of_model))
        for i, similarity in similarities.items():
            of_cache[targets[i]] += similarity / sum(similarities.values())
        rows.append((1 - weight) * of_model + weight * of_cache if similarities else of_model)
    return np.array(rows)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_cache_is_the_papers(weight, x64):
    """Its probabilities equal a loop over the words, also if the text comes in windows."""
    cache = NeuralCache(4, flatness=0.7, weight=weight)
    logits, outputs = RNG.standard_normal((2, 9, VOCABULARY)), RNG.standard_normal((2, 9, 3))
    targets = RNG.integers(0, 3, (2, 9))
    memory, pieces = cache.initial_memory(2, 3, "float64"), []
    for window in (slice(0, 2), slice(2, 8), slice(8, 9)):
        log_probs, memory = jax.jit(cache)(memory, logits[:, window], outputs[:, window], targets[:, window])
        pieces.append(log_probs)
    expected = [loop_of_cache(*text, 4, 0.7, weight) for text in zip(logits, outputs, targets, strict=True)]
    np.testing.assert_allclose(np.exp(np.concatenate(pieces, axis=1)), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LanguageModel(5, (4, 0)), ValueError, "units must be a whole number of at least 1, got 0"),
        (lambda: LanguageModel(5, ()), ValueError, "units must have the size of at least one layer"),
        (lambda: LanguageModel(5, (4, 3), 3), ValueError, r"units must have 3 sizes with layers=3, got \(4, 3\)"),
        (lambda: LanguageModel(5, (4, 3), tied=True, features=4), ValueError, "features must be the 3 units of the last layer"),
        (lambda: LanguageModel(5, 4, weight_drop=1), ValueError, r"weight_drop must be a rate in \[0, 1\)"),
        (lambda: LanguageModel(5, 4, input_dropout="a"), TypeError, "input_dropout must be a number"),
        (lambda: NeuralCache(0), ValueError, "size must be a whole number of at least 1"),
        (lambda: NeuralCache(3, flatness=-1), ValueError, "flatness must be at least 0, got -1"),
        (
            lambda: NeuralCache(3)(NeuralCache(4).initial_memory(2, 3), *map(np.zeros, ((2, 5, 9), (2, 5, 3), (2, 5)))),
            ValueError,
            "the memory must fit",
        ),
        (lambda: activation_penalty(np.ones((2, 3)), np.ones((2, 3))), ValueError, r"the same shape \(batch, time, units\)"),
        (lambda: activation_penalty(*np.ones((2, 2, 3, 4)), slowness=-1), ValueError, "slowness must be at least 0"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(make, error, message):
    """The sentence says what was expected and what came."""
    with pytest.raises(error, match=message):
        make()
