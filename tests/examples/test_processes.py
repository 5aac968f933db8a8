"""An example runs as several processes that a user starts, and says what is missing."""

import re

import pytest

from jlstm.train.history import read
from launch import ROOT, start, wait

pytestmark = [pytest.mark.no_cover, pytest.mark.xdist_group("processes")]

SCRIPT = ROOT / "examples/01_mnist.py"
OPTIONS = "--dataset", "digits", "--steps", "5", "--batch", "32", "--out"
FILES = {"checkpoints", "history.jsonl", "picture.png", "weights.safetensors"}


@pytest.mark.slow
def test_an_example_runs_as_two_processes(tmp_path):
    """Only the first process prints, and every file is written once."""
    by_hand = ("--coordinator", "{address}", "--processes", "2", "--process", "{process}")
    (first, code), (second, second_code) = wait(start(2, tmp_path / "cache", SCRIPT, *OPTIONS, str(tmp_path / "out"), *by_hand))
    assert (code, second_code) == (0, 0), first + second
    assert re.fullmatch(r"Test accuracy: 0\.\d{4}", first.splitlines()[-1])
    assert second == ""
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert [record.step for record in read(tmp_path / "out/history.jsonl")] == [5]


@pytest.mark.table(quick=1)
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (("--distributed",), "no other processes were found"),
        (("--devices", "3"), "a batch of 32 cannot be divided among 3 devices"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(tmp_path, wrong, sentence):
    """The script ends without a traceback."""
    [(printed, code)] = wait(start(1, tmp_path / "cache", SCRIPT, *OPTIONS, str(tmp_path / "out"), *wrong))
    assert code == 1
    assert len(printed.splitlines()) == 1, printed
    assert printed.startswith(f"error: {sentence}")
