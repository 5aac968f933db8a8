"""02_sentiment.py trains, is restored by another run, judges a text word by word, and splits batches over devices."""

import os
import re
import subprocess
import sys
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

import synthetic_reviews
from jlstm import train
from problems import apply
from scripts import EXAMPLES
from synthetic_reviews import with_random_reviews

pytestmark = pytest.mark.no_cover

SMALL = ("--words", str(synthetic_reviews.WORDS), "--length", "20", "--features", "8", "--batch", "50")
LINE = r"Epoch: (\d)/(?:1|2|4) Batch: (\d+)/(\d+) Train Loss: 0\.\d{3} Train Accuracy: [01]\.\d{3} Val Accuracy: [01]\.\d{3}"


@pytest.fixture
def example(monkeypatch) -> ModuleType:
    """The module of 02_sentiment.py, on random reviews."""
    return with_random_reviews(monkeypatch, "02_sentiment")


def run(example: ModuleType, *arguments: str, out) -> None:
    """Run `python 02_sentiment.py` with these arguments."""
    example.main(tyro.cli(example.SentimentOptions, args=[*SMALL, "--out", str(out), *arguments]))


@pytest.mark.slow
@pytest.mark.loose
def test_what_was_trained_is_restored_tested_and_asked(example, tmp_path, capsys):
    """A second run finds the same accuracy, and a third prints and draws the curve of a text."""
    run(example, "--epochs", "4", out=tmp_path)
    *log, speed, last = capsys.readouterr().out.splitlines()
    assert [re.fullmatch(LINE, line).groups() for line in log] == [
        (str(epoch), "8", "8") for epoch in (1, 2, 3, 4)
    ]  # 360 reviews, 50 a batch
    assert re.fullmatch(rf"\d+\.\d s an epoch; the checkpoint is in {tmp_path}/checkpoints", speed)
    accuracy = float(re.fullmatch(r"Test accuracy: ([01]\.\d{4})", last)[1])
    assert accuracy > 0.9
    run(example, "--test", out=tmp_path)
    assert capsys.readouterr().out.splitlines() == [f"Test Accuracy: {accuracy:.3f}", last]
    run(example, "--predict", "The plot was great, a superb [joy]! Zither.", out=tmp_path)
    *curve, _, verdict = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in curve] == ["the", "plot", "was", "great", "a", "superb", "joy", "(zither)"]
    assert re.fullmatch(r"Verdict: positive \(0\.\d{3}\)", verdict)
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.loose
def test_a_few_steps_are_logged_as_part_of_an_epoch(example, tmp_path, capsys):
    """The log has the number of the last batch."""
    run(example, "--steps", "3", "--reviews", "100", "--batch", "10", out=tmp_path)
    assert re.fullmatch(LINE.replace("2", "1", 1), capsys.readouterr().out.splitlines()[0]).groups() == ("1", "3", "9")


def test_the_curve_is_that_of_the_layers_run_step_by_step(example, tmp_path):
    """Every prefix of a text has the score that the unpadded sequence has at that word."""
    options = example.SentimentOptions(words=synthetic_reviews.WORDS, length=30, features=8, out=tmp_path)
    model = example.network(options)
    params = jax.jit(model.init)(jax.random.key(3), jnp.zeros((1, 1), "int32"))["params"]
    text = " ".join(synthetic_reviews.NEUTRAL + synthetic_reviews.BAD)
    words, scores = sys.modules["common.reviews"].curve(text, model, params, options)
    assert words == text.split()
    tokens = [1, *(synthetic_reviews.INDEX[word] + 3 for word in words)]
    ys = params["embed"]["embedding"][jnp.array(tokens)][None]
    for layer, name in zip(model.layer, ("layer_0", "layer_1"), strict=True):
        _, ys = apply(layer, params[name], ys)
    logits = np.asarray(ys)[0, 1:] @ np.asarray(params["head"]["kernel"]) + np.asarray(params["head"]["bias"])
    expected = 1 / (1 + np.exp(-logits[:, 0]))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)  # float32, other sizes of matmul


def test_the_squared_error_is_that_of_the_probability(example):
    """At the logit 0 the error is a quarter, whatever the label. Far on the wrong side it is 1."""
    errors = example.squared_error(jnp.array([0.0, 0.0, 50.0, 50.0]), jnp.array([0.0, 1.0, 0.0, 1.0]))
    np.testing.assert_allclose(errors, [0.25, 0.25, 1, 0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.loose
def test_devices_train_and_test_as_one_does(example, tmp_path, monkeypatch, capsys):
    """Several devices give the results of one, with dropout. Another run restores and tests the parameters."""
    losses, tests = [], []
    for count in (1, 2):
        monkeypatch.setattr(example.SentimentOptions, "mesh", lambda _, n=count: train.mesh(devices=jax.devices()[:n]))
        options = ("--reviews", "100", "--steps", "4")
        run(example, *options, out=tmp_path / str(count))
        run(example, *options, "--test", out=tmp_path / str(count))
        *_, last = train.history.read(tmp_path / str(count) / "history.jsonl")
        losses.append([last.train["loss"], last.validation["loss"]])
        tests.append(capsys.readouterr().out.splitlines()[-1])
    np.testing.assert_allclose(*losses, rtol=1e-5)  # float32, four steps
    assert tests[0] == tests[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test"], r"error: there is no (folder|checkpoint)"),
        (["--predict", "great"], r"error: there is no (folder|checkpoint)"),
        (["--predict", " ?!"], "error: --predict needs a text with at least one word"),
        (["--words", "3"], "error: --words must be at least 4, got 3"),
        (["--keep", "0"], r"error: dropout must"),
    ],
)
def test_a_mistake_is_one_sentence(example, tmp_path, arguments, message):
    """A mistake ends the script with one sentence."""
    with pytest.raises(SystemExit, match=message), example.one_sentence():
        run(example, *arguments, out=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with the reviews")
def test_a_process_of_its_own_trains_on_imdb(tmp_path):
    """The script trains on the real reviews in a new process."""
    small_run = ("--steps", "2", "--reviews", "200", "--length", "10", "--words", "100", "--features", "4")
    command = [sys.executable, str(EXAMPLES / "02_sentiment.py"), *small_run, "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Epoch: 1/1 Batch: 2/3 ")
    assert re.search(r"\nTest accuracy: [01]\.\d{4}\n$", result.stdout)
