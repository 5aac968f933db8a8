"""The language model: parameters, dropout, carry and generated text."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jlstm import LSTM
from jlstm.cells.tuples import LSTMCarry
from jlstm.models import LanguageModel, generate
from parity import textbook
from problems import assert_equal

VOCABULARY, UNITS = 11, 4
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (3, 6)).astype(np.int32)


def small_model(**options):
    """Return a model with parameters large enough for its predictions to differ."""
    model = LanguageModel(VOCABULARY, UNITS, **options)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), TOKENS)["params"])
    rng = np.random.default_rng(0)
    dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    return model, jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(dtype), shapes)


@partial(jax.jit, static_argnums=0)
def run(model, params, *args, **kwargs):
    return model.apply({"params": params}, *args, **kwargs)


def captured(model, params, *args, **kwargs):
    """Return the outputs of every part by its name."""
    apply = jax.jit(partial(model.apply, capture_intermediates=True, mutable="intermediates"))
    _, state = apply({"params": params}, *args, **kwargs)
    return {path[0]: value[0] for path, value in traverse_util.flatten_dict(state["intermediates"]).items()}


@pytest.mark.parametrize(
    ("units", "tied", "count"),
    [
        (200, False, 4_651_600),  # 2·V·u + V + 2·4·u·(2u + 1), V = 10,000
        (650, False, 19_775_200),  # the paper says 20M
        (1500, False, 66_022_000),  # the paper says 66M
        (1500, True, 51_022_000),  # the paper says 51M
    ],
)
def test_the_papers_networks_have_the_papers_size(units, tied, count):
    """The small, medium and large network for Penn Treebank, as Press & Wolf 2017 count Zaremba's and their own tied one."""
    shapes = jax.eval_shape(LanguageModel(10_000, units, tied=tied).init, jax.random.key(0), TOKENS)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("tied", [False, True])
def test_the_parameters_are_the_documented_ones(tied):
    """Names and shapes are those of the docs. With tied embeddings the logits add only a bias."""
    shapes = {"/".join(path): leaf.shape for path, leaf in traverse_util.flatten_dict(small_model(tied=tied)[1]).items()}
    layer = {"kernel": (4, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    layers = {f"layer_{k}/{name}": shape for k in range(2) for name, shape in layer.items()}
    head = {"bias": (11,)} if tied else {"head/kernel": (4, 11), "head/bias": (11,)}
    assert shapes == {"embed/embedding": (11, 4), **layers, **head}


@pytest.mark.parametrize("tied", [False, True])
def test_logits_and_carry_are_the_textbooks(tied, x64):
    """They equal the textbook's layers between the embedding and y W + b, or y E^T + b, in float64."""
    model, params = small_model(tied=tied)
    logits, carry = run(model, params, TOKENS)
    ys, lasts = params["embed"]["embedding"][TOKENS], []
    for k in range(2):
        last, ys, _ = textbook.run(LSTM(UNITS), params[f"layer_{k}"], ys)
        lasts.append(last)
    kernel, bias = (params["embed"]["embedding"].T, params["bias"]) if tied else (params["head"][n] for n in ("kernel", "bias"))
    np.testing.assert_allclose(logits, ys @ kernel + bias, rtol=0, atol=1e-12)
    for got, expected in zip(jax.tree.leaves(carry), jax.tree.leaves(lasts), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("split", [0, 1, 4])
def test_two_windows_with_the_carry_handed_on_are_one(split):
    """A text may be cut anywhere, and an empty window changes nothing."""
    model, params = small_model(layers=3)
    whole, end = run(model, params, TOKENS)
    first, carry = run(model, params, TOKENS[:, :split], model.initial_carry(3))
    second, carry = run(model, params, TOKENS[:, split:], carry)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, rtol=0, atol=1e-5)  # float32, sums of 4
    jax.tree.map(lambda got, expected: np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5), carry, end)


def test_the_initial_carry_needs_no_parameters():
    """It is zeros in the layers' dtype for each layer, and None means the same."""
    model, params = small_model()
    carry = model.initial_carry(3)
    assert_equal(carry, (LSTMCarry(*np.zeros((2, 3, UNITS), np.float32)),) * 2)
    assert_equal(run(model, params, TOKENS, carry), run(model, params, TOKENS))
    half = LanguageModel(VOCABULARY, UNITS, lstm={"dtype": "bfloat16"}).initial_carry(2)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("bfloat16")}


def test_what_is_masked_or_reset_passes_through():
    """A reset forgets what was before its step, and lengths freeze the carry."""
    model, params = small_model()
    resets = np.zeros(TOKENS.shape, bool)
    resets[:, 3] = True
    np.testing.assert_allclose(
        run(model, params, TOKENS, resets=resets)[0][:, 3:], run(model, params, TOKENS[:, 3:])[0], rtol=0, atol=1e-5
    )
    _, carry = run(model, params, TOKENS, lengths=np.full(3, 2))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-5), carry, run(model, params, TOKENS[:, :2])[1])


def test_all_parameters_start_uniform():
    """Parameters, biases too, are uniform in ±init_scale. `forget_bias` moves the forget gates' biases."""
    model = partial(LanguageModel, 500, 50, layers=1, init_scale=0.04)
    for tied in (False, True):
        params = jax.tree.map(np.asarray, jax.jit(model(tied=tied).init)(jax.random.key(0), TOKENS)["params"])
        for path, leaf in traverse_util.flatten_dict(params).items():
            assert 0.037 < abs(leaf).max() <= 0.04, path
            assert abs(leaf.std() - 0.04 / 3**0.5) < 0.004, path
    bias = jax.jit(model(forget_bias=1).rnns[0].init, static_argnums=1)(jax.random.key(0), 50)["bias"]
    i, f, g, o = np.split(np.asarray(bias), 4)
    assert (f == 1).all()
    assert max(abs(gate).max() for gate in (i, g, o)) <= 0.04


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_is_on_non_recurrent_connections(variational):
    """It follows the embedding and each LSTM. Masks are constant over time only if variational."""
    model = LanguageModel(VOCABULARY, 60, dropout=0.4, variational=variational)
    params = jax.jit(model.init)(jax.random.key(0), TOKENS)["params"]
    tokens = np.tile(TOKENS, (20, 1))
    parts = captured(model, params, tokens, key=jax.random.key(3))
    inputs = {"dropout_0": parts["embed"], "dropout_1": parts["layer_0"][1], "dropout_2": parts["layer_1"][1]}
    for name, xs in inputs.items():
        keep_mask = parts[name] != 0
        np.testing.assert_allclose(parts[name], jnp.where(keep_mask, xs / 0.6, 0), rtol=1e-6)
        draws = keep_mask.size // (6 if variational else 1)
        assert abs(keep_mask.mean() - 0.6) < 4 * np.sqrt(0.6 * 0.4 / draws)  # four standard deviations
        assert (keep_mask == keep_mask[:, :1]).all() == variational
    assert (keep_mask[0] != keep_mask[1]).any()  # another mask for every text
    for k in range(2):
        got = model.rnns[k].apply(params[f"layer_{k}"], parts[f"dropout_{k}"])
        jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), parts[f"layer_{k}"], got)
    head = params["head"]
    logits, _ = parts["__call__"]
    np.testing.assert_allclose(logits, parts["dropout_2"] @ head["kernel"] + head["bias"][None, None], rtol=0, atol=1e-6)


def test_a_key_or_an_rng_turns_dropout_on():
    """The same key gives the same result. Without a key there is no dropout."""
    model, params = small_model(dropout=0.5, lstm={"recurrent_dropout": 0.3})
    plain = run(small_model()[0], params, TOKENS)
    assert_equal(run(model, params, TOKENS), plain)
    first, again, different = (run(model, params, TOKENS, key=jax.random.key(k))[0] for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != different).any()
    assert (run(model, params, TOKENS, rngs={"dropout": jax.random.key(1)})[0] != plain[0]).any()


def test_recurrent_dropout_is_the_layers():
    """With recurrent dropout alone, the key goes to the layer itself."""
    model, params = small_model(lstm={"recurrent_dropout": 0.5})
    assert (run(model, params, TOKENS, key=jax.random.key(1))[0] != run(model, params, TOKENS)[0]).any()


@pytest.mark.parametrize("options", [{"unroll": 3}, {"remat": True}, {"unroll": "all", "backend": "scan"}])
def test_options_of_the_loop_change_no_result(options):
    """Options of the loop reach every layer, and change neither loss nor gradients."""

    def loss(model, params):
        return (run(model, params, TOKENS)[0] ** 2).mean()

    grad = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)
    plain, params = small_model()
    model = LanguageModel(VOCABULARY, UNITS, lstm=options)
    assert all(getattr(layer, name) == getattr(LSTM(UNITS, **options), name) for layer in model.rnns for name in options)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)  # float32, another order of sums
    jax.tree.map(close, grad(model, params), grad(plain, params))


def test_equal_models_compile_once():
    """Models with the same options are hashable and equal."""
    compiled = jax.jit(lambda model, *args: model.apply(*args), static_argnums=0)
    for _ in range(2):
        model, params = small_model(dropout=0.5, lstm={"unroll": 2})
        compiled(model, {"params": params}, TOKENS)
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("tied", [False, True])
def test_greedy_text_is_what_reading_everything_anew_predicts(tied):
    """Temperature 0 gives the argmax after reading the whole text so far."""
    model, params = small_model(tied=tied)
    text = np.zeros((3, 10), np.int32)
    text[:, :2] = TOKENS[:, :2]
    for k in range(2, 10):
        text[:, k] = run(model, params, text)[0][:, k - 1].argmax(axis=-1)
    got = jax.jit(generate, static_argnames=("model", "length"))(model, params, jax.random.key(0), TOKENS[:, :2], 8, 0.0)
    np.testing.assert_array_equal(got, text[:, 2:])
    assert got.dtype == jnp.int32


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_from_the_softmax(temperature):
    """The frequencies of 20,000 texts agree, for the second token given the likeliest first one."""
    model, params = small_model()
    size, prompt = 20_000, TOKENS[:1]
    draw = jax.jit(partial(generate, model, length=2))
    tokens = np.asarray(draw(params, jax.random.key(1), np.tile(prompt, (size, 1)), temperature=temperature))
    likeliest = np.bincount(tokens[:, 0]).argmax()
    cases = [(prompt, tokens[:, 0])]
    cases += [(np.append(prompt, [[likeliest]], axis=1).astype(np.int32), tokens[tokens[:, 0] == likeliest, 1])]
    for read, drawn in cases:
        logits = np.asarray(run(model, params, read)[0][0, -1], np.float64) / temperature
        expected = np.exp(logits) / np.exp(logits).sum()
        frequencies = np.bincount(drawn, minlength=VOCABULARY) / len(drawn)
        np.testing.assert_array_less(abs(frequencies - expected), 4.5 * np.sqrt(expected / len(drawn)) + 1e-4)  # 4.5 deviations


def test_generating_depends_on_the_key_alone():
    """The same key gives the same text, compiled or not. Other keys and rows differ."""
    model, params = small_model()
    prompt, draw = np.tile(TOKENS[:1], (4, 1)), partial(generate, model, length=12)
    texts = [np.asarray(draw(params, jax.random.key(k), prompt)) for k in (1, 2)]
    np.testing.assert_array_equal(jax.jit(draw)(params, jax.random.key(1), prompt), texts[0])
    assert (texts[0] != texts[1]).any()
    assert len({tuple(row) for row in texts[0]}) == 4
    assert ((texts[0] >= 0) & (texts[0] < VOCABULARY)).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LanguageModel(0, 4), ValueError, "vocabulary must be a whole number of at least 1"),
        (lambda: small_model(layers=0), ValueError, "layers must be a whole number of at least 1"),
        (lambda: small_model(dropout=1.5), ValueError, r"dropout must be a rate in \[0, 1\)"),
        (lambda: small_model(tied=1), TypeError, "tied must be True or False"),
        (lambda: small_model(init_scale="small"), TypeError, "scale must be a number, got 'small'"),
        (lambda: small_model(lstm={"unrol": 2}), TypeError, "LSTM has no option 'unrol', perhaps 'unroll'"),
        (lambda: small_model(lstm={"reverse": True}), ValueError, "must not have reverse=True or time_major=True"),
        (lambda: run(*small_model(), TOKENS[0]), ValueError, r"tokens must have shape \(batch, time\), got \(6,\)"),
        (lambda: run(*small_model(), TOKENS / 2), TypeError, "tokens must be whole numbers, indices into the vocabulary"),
        (
            lambda: run(*small_model(), TOKENS, small_model()[0].initial_carry(3)[0]),
            ValueError,
            "carry must be a tuple with one entry for each",
        ),
        (
            lambda: run(*small_model(), TOKENS, small_model()[0].initial_carry(2)),
            ValueError,
            r"carry.h must have shape \(3, 4\), got \(2, 4\)",
        ),
        (
            lambda: generate(*small_model(), jax.random.key(0), TOKENS, 0),
            ValueError,
            "length must be a whole number of at least 1",
        ),
        (
            lambda: generate(*small_model(), jax.random.key(0), TOKENS[:, :0], 3),
            ValueError,
            "prompt must have shape .* at least 1 time",
        ),
        (lambda: generate(*small_model(), jax.random.key(0), TOKENS, 3, -1.0), ValueError, "temperature must be at least 0"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(make, error, message):
    """The sentence says what was expected, what came and what to do."""
    with pytest.raises(error, match=message):
        make()
