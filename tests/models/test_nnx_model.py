"""`NNXModel`: the models as NNX modules compute what the linen models compute, from the same parameters."""

import jax
import numpy as np
import pytest
from flax import nnx, traverse_util

from jlstm import LSTM
from jlstm.models import LanguageModel, NNXModel, SequenceClassifier, summary
from problems import assert_close, assert_equal

TOKENS = np.array([[3, 1, 4, 1, 5], [2, 6, 5, 0, 0]])
LENGTHS = np.array([5, 3])
MODELS = {
    "classifier": SequenceClassifier(7, 3, LSTM(4), classes=2),
    "language": LanguageModel(7, 4, layers=1, tied=True),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request):
    """Return a linen model, its variables, and the NNX module of its parameters."""
    model = MODELS[request.param]
    variables = jax.jit(model.init)(jax.random.key(0), TOKENS)
    return model, variables, NNXModel(model, params=variables["params"])


def test_results_and_gradients_are_those_of_linen(pair):
    """Compiled by `nnx.jit`, the results and the gradients of the parameters are those of the linen model."""
    model, variables, module = pair
    total = lambda results: sum((leaf**2).sum() for leaf in jax.tree.leaves(results))

    @jax.jit
    def expected(variables):
        results = model.apply(variables, TOKENS, lengths=LENGTHS)
        return results, jax.grad(lambda variables: total(model.apply(variables, TOKENS, lengths=LENGTHS)))(variables)

    @nnx.jit
    def of_module(module):
        return module(TOKENS, lengths=LENGTHS), nnx.grad(lambda module: total(module(TOKENS, lengths=LENGTHS)))(module)

    results, gradients = of_module(module)
    expected_results, expected_gradients = expected(variables)
    assert_close(results, expected_results, atol=1e-6)
    assert_close(nnx.to_pure_dict(gradients), expected_gradients["params"], atol=1e-5)  # sums in another order


def test_parameters_have_the_names_of_linen(pair):
    """The state is the tree of linen's parameters. A clone may get other parameters."""
    model, variables, module = pair
    names = set(traverse_util.flatten_dict(variables["params"]))
    assert set(traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(module, nnx.Param)))) == names
    assert {type(leaf) for leaf in jax.tree.leaves(nnx.state(module), is_leaf=lambda x: isinstance(x, nnx.Variable))} == {
        nnx.Param
    }
    copy = nnx.clone(module)
    assert copy.module == model
    copy.params = jax.tree.map(np.zeros_like, module.params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(copy.params))
    assert_equal(module.params, variables["params"])


def test_parameters_are_drawn_as_in_linen():
    """Without `params`, a key of the stream `params` draws what it draws in linen."""
    model = MODELS["language"]
    module = NNXModel(model, rngs=nnx.Rngs(0))
    assert_equal(module.params, model.init(nnx.Rngs(0).params(), TOKENS)["params"])


def test_dropout_follows_train_eval_and_views():
    """It is on at first, with new masks in each call. The same key gives the same masks as in linen."""
    model = LanguageModel(7, 4, layers=1, dropout=0.5)
    module, key = NNXModel(model, rngs=nnx.Rngs(0)), jax.random.key(7)
    differ = lambda module: bool((module(TOKENS)[0] != module(TOKENS)[0]).any())
    assert differ(module)
    assert not differ(nnx.view(module, deterministic=True))
    module.eval()
    assert_equal(module(TOKENS), model.apply({"params": module.params}, TOKENS))
    assert_equal(module(TOKENS, key=key), model.apply({"params": module.params}, TOKENS, key=key))
    module.train()
    assert differ(module)


@pytest.mark.parametrize(
    "model",
    [
        SequenceClassifier(7, 3, LSTM(4), dropout=0.5),
        SequenceClassifier(7, 3, (LSTM(4), LSTM(4, dropout=0.5))),
        LanguageModel(7, 4, lstm={"recurrent_dropout": 0.5}),
    ],
    ids=["classifier", "layer of a classifier", "layer of a language model"],
)
def test_dropout_of_any_part_needs_a_stream(model):
    """Dropout inside a layer is recognized, too."""
    assert model.stochastic
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(model.init, jax.random.key(0), TOKENS)["params"])
    assert isinstance(NNXModel(model, params=params, rngs=nnx.Rngs(0)).rngs, nnx.RngStream)
    with pytest.raises(ValueError, match="dropout needs random keys but rngs has no such stream"):
        NNXModel(model, params=params)


def test_the_table_is_that_of_linen(pair):
    """`summary` lists each part of the model, as for linen."""
    model, _, module = pair
    assert summary(module, TOKENS) == summary(model, TOKENS)


REFUSED = {
    "a layer": (lambda: NNXModel(LSTM(4), rngs=nnx.Rngs(0)), "module must be a LanguageModel or a SequenceClassifier, got RNN"),
    "nothing to draw from": (lambda: NNXModel(MODELS["language"]), "NNXModel needs rngs to draw parameters, or params"),
    "a key": (lambda: NNXModel(MODELS["language"], rngs=jax.random.key(0)), "rngs must be a Rngs such as"),
    "a model's variables": (
        lambda: NNXModel(MODELS["language"], params={"params": {}}),
        r"params\['bias'\] is missing, expected shape \(7,\): pass model.init",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    """The error message is one sentence that says what to write."""
    call, sentence = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=sentence):
        call()
