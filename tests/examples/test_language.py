"""04_language_model.py has the paper's network and schedule, exact perplexity, and one sentence for a mistake."""

import importlib
import math
import os
import re

import numpy as np
import pytest

from jlstm.data import Windows
from jlstm.train import Record
from scripts import EXAMPLES, imported, is_picture, run

pytestmark = [pytest.mark.no_cover, pytest.mark.loose]
SCRIPT = EXAMPLES / "04_language_model.py"
NEEDS_DATA = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with the texts")


@pytest.fixture
def script(monkeypatch):
    """The module of 04_language_model.py."""
    return imported(monkeypatch, "04_language_model")


def test_help_explains_every_option(tmp_path):
    """`--help` lists all options and says what the script does."""
    result = run(SCRIPT, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for text in (
        "--size {small,medium,large,awd}",
        "--cache",
        "--dataset {ptb,shakespeare}",
        "--tied",
        "--variational",
        "--sample",
        "--resume",
    ):
        assert text in result.stdout


@pytest.mark.slow
@NEEDS_DATA
@pytest.mark.parametrize("dataset", ["ptb", "shakespeare"])
def test_a_few_steps_beat_guessing_and_end_with_text(script, tmp_path, capsys, dataset, monkeypatch):
    """Weights, history and picture are saved. The text continues the test text; perplexity is the last line."""
    steps, corpus = {"ptb": 30, "shakespeare": 10}[dataset], getattr(script, dataset)(None)
    shorter = corpus._replace(valid=corpus.valid[:9000], test=corpus.test[:9000])
    monkeypatch.setattr(script, dataset, lambda data_dir: shorter)
    script.main(script.LanguageOptions(dataset=dataset, steps=steps, sample=5, out=tmp_path))
    first, record, *text, _, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[\d,]+ parameters, [\d,]+ steps an epoch", first)
    assert re.fullmatch(r"Epoch 0\.\d+/1\d: train perplexity \d+\.\d, validation perplexity \d+\.\d \(\d+ s\)", record)
    beginning = {"ptb": "no it was n't black monday", "shakespeare": ""}[dataset]
    assert any(beginning in line for line in text)
    vocabulary = {"ptb": 10_000, "shakespeare": 65}[dataset]
    assert 1 < float(re.fullmatch(r"Test perplexity: (\d+\.\d)", last)[1]) < vocabulary
    assert is_picture(tmp_path / "picture.png")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints", "history.jsonl", "picture.png", "weights.safetensors"}


def test_the_small_network_is_the_papers(script):
    """Zaremba, Sutskever & Vinyals 2014: learning rate 1 for four epochs, then halved each epoch, 13 in all."""
    sizes = importlib.import_module("common.language_sizes").SIZES
    small, medium, large = (sizes["ptb", size] for size in ("small", "medium", "large"))
    rates = [small.learning_rate * small.decay ** max(epoch - small.hold, 0) for epoch in range(1, small.epochs + 1)]
    assert rates[:6] == [1, 1, 1, 1, 0.5, 0.25]
    assert (small.units, medium.units, large.units) == (200, 650, 1500)
    assert (small.steps, medium.steps, large.steps) == (20, 35, 35)
    assert (small.clip, medium.clip, large.clip) == (5, 5, 10)
    assert (small.dropout, medium.dropout, large.dropout) == (0, 0.5, 0.65)


def test_the_schedule_follows_the_epochs(script):
    """The learning rate is right at the first and last step of epochs."""
    size = script.SIZES["ptb", "small"]
    rate = script.schedule(size, 100)
    rates = [float(rate(np.int32(step))) for step in (0, 399, 400, 499, 500, 1299)]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.5**9]


def test_perplexity_counts_every_token_once(script):
    """A model that gives each of V tokens the same chance has perplexity V, however the last window is filled up."""
    tokens = np.random.default_rng(0).integers(0, 7, 101, dtype=np.int32)
    model = script.LanguageModel(7, 4)
    params = model.init(script.jax.random.key(0), tokens[None, :1])["params"]
    params = script.jax.tree.map(np.zeros_like, params)
    loss = script.partial(script.loss_fn, model, False)
    measured = script.train.evaluate(loss, params, Windows(tokens, 3, 5), begin=model.initial_carry)
    assert script.perplexity(measured) == pytest.approx(7, rel=1e-5)  # float32 sums
    record = Record(1, 1, {"loss": 9.0, "nats": 2 * math.log(5), "tokens": 2}, {}, 1, 1)
    assert script.perplexity(record.train) == pytest.approx(5)


def test_a_slip_is_one_sentence(script, tmp_path):
    """A missing text ends the script with one sentence."""
    with pytest.raises(SystemExit, match=r"error: there is no ptb\.train\.txt in the folder nowhere"), script.one_sentence():
        script.main(script.LanguageOptions(data_dir="nowhere", out=tmp_path))


def test_a_network_of_awd_trains_and_is_tested_with_a_cache(script, tmp_path, capsys, monkeypatch):
    """Two steps of a small network with all its parts: the average is kept, and the cache has its own perplexity."""
    size = script.SIZES["ptb", "awd"]._replace(units=(6, 5, 4), steps=5, batch=4, averaged_from=0)
    monkeypatch.setitem(script.SIZES, ("ptb", "awd"), size)
    text = np.random.default_rng(0).integers(0, 7, 90, dtype=np.int32)
    monkeypatch.setattr(script, "ptb", lambda data_dir: script.Corpus(text, text, text, tuple("abcdefg")))
    script.main(script.LanguageOptions(size="awd", steps=2, sample=2, cache=3, out=tmp_path))
    *_, cached, last = capsys.readouterr().out.splitlines()
    perplexities = [float(line.rpartition(" ")[2]) for line in (cached, last)]
    assert cached.startswith("Test perplexity with a cache of the last 3 tokens: ")
    assert all(5 < value < 9 for value in perplexities)
    with pytest.raises(ValueError, match="--size awd is for --dataset ptb"):
        script.LanguageOptions(dataset="shakespeare", size="awd", out=tmp_path).prepare()


def test_the_penalty_is_part_of_the_training_loss_alone(script):
    """Without a key, in validation, the loss is the cross-entropy."""
    model, window = script.LanguageModel(7, 4), next(iter(Windows(np.arange(60, dtype=np.int32) % 7, 2, 5).epoch(0))).examples
    params = model.init(script.jax.random.key(0), window.inputs)["params"]
    key = script.jax.random.key(1)
    trained, validated = (script.loss_fn(model, True, params, window, k, None) for k in (key, None))
    assert (np.asarray(trained.losses) > np.asarray(trained.metrics["nats"])).all()
    np.testing.assert_array_equal(validated.losses, validated.metrics["nats"])
