"""08_serve.py: both runtimes give the scores of the model, for the exported weights of 02_sentiment.py."""

import re

import jax
import numpy as np
import pytest

import jlstm
from jlstm.data import encode
from scripts import imported

pytestmark = pytest.mark.no_cover
INDEX = {"good": 1, "film": 2, "bad": 3, "long": 4}


@pytest.fixture
def script(monkeypatch):
    """The module of 08_serve.py, for a small vocabulary."""
    module = imported(monkeypatch, "08_serve")
    monkeypatch.setattr(module, "imdb_word_index", lambda data_dir: INDEX)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TensorFlow, about its interpreter
def test_both_runtimes_give_the_scores_of_the_model(script, tmp_path, capsys):
    """Each sentence has one line for each runtime, with the score that JAX computes."""
    texts = ("A good film.", "A bad, long, long film")
    options = script.ServeOptions(
        texts, tmp_path / "weights.safetensors", words=8, features=3, length=7, rounds=2, out=tmp_path / "out"
    )
    sentiment = imported(pytest.MonkeyPatch(), "02_sentiment")
    model = sentiment.network(sentiment.SentimentOptions(words=8, features=3))
    params = jax.tree.map(lambda leaf: 3 * leaf, model.init(jax.random.key(0), np.zeros((1, 1), np.int32))["params"])
    jlstm.save(options.weights, params)
    script.main(options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"The exported files are in {options.out}"
    for k, text in enumerate(texts):
        tokens = np.asarray(encode(text, INDEX, num_words=8), np.int32)[None]
        score = float(jax.nn.sigmoid(model.apply({"params": params}, tokens))[0])
        assert lines[3 * k] == text
        for line, name in zip(lines[3 * k + 1 : 3 * k + 3], ("ONNX Runtime", "TensorFlow Lite"), strict=True):
            verdict, printed = re.fullmatch(rf"  {name} +(\w+) \((0\.\d+)\), \d+\.\d\d ms a call", line).groups()
            assert float(printed) == pytest.approx(score, abs=6e-4)
            assert verdict == ("positive" if score > 0.5 else "negative")


def test_a_mistake_is_one_sentence(script, tmp_path):
    """A text without words, or weights that are not there, end in one sentence."""
    with pytest.raises(ValueError, match="--texts needs at least one text, each with a word"):
        script.main(script.ServeOptions(("!",), out=tmp_path))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        script.main(script.ServeOptions(weights=tmp_path / "none.safetensors", out=tmp_path))
