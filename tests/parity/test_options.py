"""`python -m parity FILE`: `--lengths`, `--option`, and the remarks on a file in all reports."""

import json
import re
from datetime import UTC, datetime, timedelta
from importlib import metadata

import jax
import numpy as np
import pytest
import torch

import parity.__main__ as cli
import wrong_torch
from damages import Unmasked, of_class
from jlstm.convert import torch as convert
from parity.diagnosis import Diagnosis
from parity.model import check

ASSUMED = "the file names no classes: modules with weights of the names and shapes of torch.nn's are taken to be those"


@pytest.fixture
def lstm(tmp_path):
    """The file of a bidirectional LSTM with an embedding beside it."""
    weights = wrong_torch.layer(bidirectional=True) | {"embedding.weight": torch.ones(9, 3)}
    return wrong_torch.write(tmp_path / "lstm.pt", lambda: weights)


@pytest.fixture
def relu(tmp_path):
    """The file of a plain RNN with relu, which its weights do not tell."""
    torch.save(torch.nn.RNN(3, 4, nonlinearity="relu").state_dict(), tmp_path / "relu.pt")
    return tmp_path / "relu.pt"


def refusal(capsys, *arguments):
    """Return the sentence of a run that ends with exit status 2."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1, sentence
    return sentence


def test_lengths_reach_both_sides(lstm, monkeypatch):
    """Both sides agree with lengths. A layer that ignores lengths fails with them, and passes without."""
    run = [str(lstm), "--dtype", "float64"]
    assert cli.main([*run, "--lengths", "7,4,1"]) == 0
    read = convert.read
    damage = of_class(Unmasked)
    monkeypatch.setattr(convert, "read", lambda path: {name: damage(*pair) for name, pair in read(path).items()})
    monkeypatch.setattr(check, "explain", lambda *_: Diagnosis())  # skips the search for a cause, which takes most of the time
    assert cli.main(run) == 0
    assert cli.main([*run, "--lengths", "7,4,1"]) == 1


def test_lengths_are_those_of_the_inputs_too(lstm, capsys, tmp_path):
    """A user's inputs need one length for each sequence, and none longer than the inputs."""
    np.savez(tmp_path / "x.npz", xs=np.random.default_rng(0).normal(size=(2, 7, 3)))
    run = [lstm, "--inputs", tmp_path / "x.npz", "--dtype", "float64"]
    assert cli.main([str(argument) for argument in [*run, "--lengths", "7,4"]]) == 0
    assert "rnn (your inputs)" in capsys.readouterr().out
    for lengths in ("7", "8,4"):
        sentence = refusal(capsys, *run, "--lengths", lengths)
        assert "--lengths must be 2 numbers of at most 7 for inputs of shape (2, 7, 3)" in sentence


@pytest.mark.parametrize("lengths", ["7,x", "0,3", "-1", "2.5", "7,,3"])
def test_lengths_that_are_no_numbers_are_refused(lstm, lengths, capsys):
    """Lengths must be integers of at least 1."""
    sentence = refusal(capsys, lstm, f"--lengths={lengths}")
    assert f"--lengths must be whole numbers of at least 1 with commas between, such as 24,17, got {lengths!r}" in sentence


def test_an_option_says_what_the_file_does_not(relu, capsys):
    """The converter and PyTorch's module both get the option."""
    assert "nonlinearity" in refusal(capsys, relu)
    assert cli.main([str(relu), "--dtype", "float64", "--option", "nonlinearity=relu"]) == 0
    assert "\npass: " in capsys.readouterr().out


def test_an_option_that_only_one_side_takes_fails(relu, capsys, monkeypatch):
    """A converter that always takes tanh fails."""
    read = convert.read
    monkeypatch.setattr(convert, "read", lambda path, nonlinearity: read(path, nonlinearity="tanh"))
    assert cli.main([str(relu), "--dtype", "float64", "--option", "nonlinearity=relu"]) == 1
    assert "\nfail: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("forget_bias=0", "forget_bias", 0),
        ("cell_clip=2.5", "cell_clip", 2.5),
        ("activation=relu", "activation", "relu"),
        ("reset_after=True", "reset_after", True),
        ("spatial=(4, 5)", "spatial", (4, 5)),
        ("merge=None", "merge", None),
        ("merge=", "merge", ""),
    ],
)
def test_values_of_options_are_numbers_or_words(text, name, value):
    """Values are written as in Python. Anything else is a word."""
    assert cli.assignment(text) == (name, value)


@pytest.mark.parametrize("text", ["forget_bias", "=0", "a b=1", ""])
def test_an_option_without_a_name_is_refused(lstm, text, capsys):
    """An option without a name is refused in one sentence."""
    assert f"--option must be NAME=VALUE, such as forget_bias=0, got {text!r}" in refusal(capsys, lstm, f"--option={text}")


def test_an_option_that_the_reader_does_not_have_is_refused(lstm, capsys):
    """An unknown option is refused by name."""
    assert "is not read with an option 'forget_bias': leave --option forget_bias out" in refusal(
        capsys, lstm, "--option", "forget_bias=0"
    )


def test_what_was_assumed_is_said_everywhere(lstm, capsys, tmp_path):
    """A `state_dict` names no classes, so a custom module of the same shapes looks like PyTorch's."""
    assert cli.main([str(lstm), "--dtype", "float64", f"--json={tmp_path / 'a.json'}", f"--html={tmp_path / 'a.html'}"]) == 0
    assert f"\nassumed: {ASSUMED}\n" in capsys.readouterr().out
    assert ASSUMED in json.loads((tmp_path / "a.json").read_text())["file"]["assumed"]
    assert f"<li>{ASSUMED.replace(chr(39), '&#39;')}</li>" in (tmp_path / "a.html").read_text()


def test_the_page_of_a_file_says_what_was_compared(lstm, tmp_path):
    """It has name, verdict, versions of both sides, date, truth and what was not compared."""
    begun = datetime.now(UTC).replace(second=0, microsecond=0)
    assert cli.main([str(lstm), "--dtype", "float64", f"--html={tmp_path / 'a.html'}"]) == 0
    page = (tmp_path / "a.html").read_text()
    assert "<title>lstm.pt: pass, compared with torch</title>" in page
    assert '<p class="pass">✓ pass</p>' in page
    assert "PyTorch&#39;s own results in float64" in page or "PyTorch's own results in float64" in page
    assert "<li>embedding.weight</li>" in page
    assert f"jlstm {metadata.version('jlstm')}" in page
    for version in (torch.__version__, jax.__version__, np.__version__):
        assert version in page
    date = datetime.fromisoformat(re.search(r"on (\d{4}-\d\d-\d\dT[\d:+]+)\.", page)[1])
    assert begun <= date <= begun + timedelta(hours=1)


def test_an_incomplete_file_is_an_error_everywhere(capsys, tmp_path):
    """With a skipped layer the exit status is 1, nothing is saved, and JUnit has a failure."""
    path = wrong_torch.write(tmp_path / "two.pt", wrong_torch.WRONG["GRU by hand beside an LSTM"])
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "html", "junit")}
    arguments = [str(path), "--dtype", "float64", "--save", str(tmp_path / "out.safetensors")]
    assert cli.main([*arguments, *(f"--{kind}={file}" for kind, file in files.items())]) == 1
    printed = capsys.readouterr()
    assert "\nincomplete: the file: decoder.W_z, decoder.W_r, " in printed.out
    assert "\nincomplete: 1 layer of two.pt was compared, but not all that is recurrent in the file" in printed.out
    assert "nothing is written to --save: the verdict is incomplete" in printed.err
    assert not (tmp_path / "out.safetensors").exists()
    assert json.loads(files["json"].read_text())["file"]["verdict"] == "incomplete"
    assert "<title>two.pt: incomplete, compared with torch</title>" in files["html"].read_text()
    assert '<failure message="decoder.W_' in files["junit"].read_text()
