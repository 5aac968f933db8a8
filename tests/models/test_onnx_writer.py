"""`write_onnx`: ONNX Runtime runs whole models with its own recurrent nodes, and computes what the models compute."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from jlstm import GRU, LSTM, Bidirectional
from jlstm.models import LanguageModel, SequenceClassifier, write_onnx
from onnx_models import runtime
from problems import normal

TOKENS = np.array([[3, 1, 4, 1], [2, 6, 5, 0], [1, 0, 0, 0]], np.int32)
LENGTHS = np.array([4, 3, 0], np.int32)
MODELS = {
    "last": SequenceClassifier(7, 3, (GRU(4), Bidirectional(LSTM(5, dropout=0.5))), classes=2, dropout=0.5),
    "reverse": SequenceClassifier(7, 3, LSTM(4, reverse=True), masked=True),
    "mean": SequenceClassifier(7, 3, LSTM(4), pool="mean", classes=2),
    "max": SequenceClassifier(7, 3, GRU(4), pool="max"),
}
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # other code for the same float32 formulas


def random_params(model):
    """Return random parameters, biases too, without running an initializer."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)["params"]
    return normal(shapes, rng=np.random.default_rng(0), dtype=np.float32)


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("has_lengths", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_classifier_gives_its_logits(name, has_lengths, tmp_path):
    """For each pooling, with lengths and without, also for a sequence without steps, in sizes other than one."""
    model, path = MODELS[name], tmp_path / "model.onnx"
    params = random_params(model)
    write_onnx(path, model, params, lengths=has_lengths)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert (kinds.count("LSTM"), kinds.count("GRU")) == {"last": (1, 1), "max": (0, 1)}.get(name, (1, 0))
    lengths = {"lengths": LENGTHS} if has_lengths else {}
    # a masked model knows the lengths from the zeros, and without lengths all tokens count
    tokens = np.where(np.arange(4) < LENGTHS[:, None], TOKENS, 0) if has_lengths else np.maximum(TOKENS, 1)
    arguments = {} if model.masked else lengths
    expected = jax.jit(model.apply)({"params": params}, tokens, **arguments)
    np.testing.assert_allclose(runtime(path, tokens=tokens, **lengths)[0], expected, **CLOSE)


@pytest.mark.table(quick=1)
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_reads_on_from_its_states(tied, tmp_path):
    """The last states of one call are the initial states of the next, as with the carry."""
    model, path = LanguageModel(7, (4, 3), tied=tied, weight_drop=0.5), tmp_path / "model.onnx"
    params = random_params(model)
    write_onnx(path, model, params, lengths=False)
    states = {f"{state}_{k}": np.zeros((1, 3, units), np.float32) for k, units in enumerate((4, 3)) for state in "hc"}
    first, *last = runtime(path, tokens=TOKENS[:, :3], **states)
    second, *_ = runtime(path, tokens=TOKENS[:, 3:], **dict(zip(states, last, strict=True)))
    expected, _ = jax.jit(model.apply)({"params": params}, TOKENS)
    np.testing.assert_allclose(np.concatenate([first, second], 1), expected, **CLOSE)


def refusals():
    """Yield calls that are refused, with the sentence."""
    model = LanguageModel(7, 4)
    params = random_params(model)
    mixed = params | {"embed": {"embedding": params["embed"]["embedding"].astype("float16")}}
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    clipped = LanguageModel(7, 4, lstm={"cell_clip": 1.0})
    yield "a layer", LSTM(4), params, "model must be a LanguageModel or a SequenceClassifier, got RNN"
    yield "another model's", SequenceClassifier(7, 4, LSTM(4)), params, "pass model.init"
    yield "two dtypes", model, mixed, "params must have one dtype"
    yield "bfloat16", model, half, "got bfloat16: cast the parameters"
    yield "an option", clipped, params, "ONNX has no cell_clip=1.0"


@pytest.mark.parametrize(("model", "params", "sentence"), [pytest.param(*row, id=name) for name, *row in refusals()])
def test_what_onnx_does_not_have_is_refused(model, params, sentence, tmp_path):
    """The error message is one sentence, and no file is written."""
    with pytest.raises((TypeError, ValueError), match=sentence):
        write_onnx(tmp_path / "model.onnx", model, params)
    assert not [*tmp_path.iterdir()]
