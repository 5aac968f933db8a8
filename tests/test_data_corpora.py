"""Texts and series are the published ones, and a file that is not is refused."""

import csv
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jlstm.data import airline, imdb_word_index, ptb, shakespeare, sunspots, temperatures

NEEDS_DATA = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with the data sets")
FILES = {
    ptb: "ptb.train.txt",
    shakespeare: "tinyshakespeare.txt",
    airline: "airline-passengers.csv",
    sunspots: "monthly-sunspots.csv",
    temperatures: "daily-min-temperatures.csv",
    imdb_word_index: "imdb_word_index.json",
}


@NEEDS_DATA
def test_the_penn_treebank_is_mikolovs():
    """Published sizes; the most frequent words are TensorFlow's first five; the numbers spell the text."""
    corpus = ptb()
    assert [len(part) for part in corpus[:3]] == [929_589, 73_760, 82_430]
    assert {part.dtype for part in corpus[:3]} == {np.dtype("int32")}
    assert len(corpus.vocabulary) == len(set(corpus.vocabulary)) == 10_000
    assert corpus.vocabulary[:6] == ("the", "<unk>", "<eos>", "N", "of", "to")
    spelled = " ".join(corpus.vocabulary[number] for number in corpus.test).split(" <eos>")
    lines = (Path(os.environ["JLSTM_DATA"]) / "ptb" / "ptb.test.txt").read_text().split("\n")
    assert [line.strip() for line in spelled] == [line.strip() for line in lines]


@NEEDS_DATA
def test_words_are_numbered_by_frequency_then_alphabet():
    """TensorFlow's reader sorts by (-count, word)."""
    corpus = ptb()
    counts = np.bincount(corpus.train, minlength=10_000)
    pairs = [(-count, word) for count, word in zip(counts.tolist(), corpus.vocabulary, strict=True)]
    assert pairs == sorted(pairs)
    assert Counter(corpus.train.tolist())[0] == 50_770


@NEEDS_DATA
def test_shakespeare_is_karpathys():
    """1,115,394 characters, 65 of them different, in three parts that make up the whole."""
    corpus = shakespeare()
    assert [len(part) for part in corpus[:3]] == [1_003_854, 55_770, 55_770]
    assert len(corpus.vocabulary) == 65
    spelled = "".join(corpus.vocabulary[number] for number in np.concatenate(corpus[:3]))
    assert spelled == (Path(os.environ["JLSTM_DATA"]) / "tinyshakespeare.txt").read_text()


@NEEDS_DATA
@pytest.mark.parametrize(
    ("load", "size", "first", "last", "mean"),
    [
        (airline, 144, ("1949-01", 112), ("1960-12", 432), 280.2986),
        (sunspots, 2820, ("1749-01", 58.0), ("1983-12", 33.4), 51.2660),
        (temperatures, 3650, ("1981-01-01", 20.7), ("1990-12-31", 13.0), 11.1778),
    ],
)
def test_series_are_the_published_ones(load, size, first, last, mean):
    """Sizes, ends and means; times rise; and every row of the file is there."""
    times, values = load()
    assert len(times) == len(values) == size
    assert values.dtype == np.float32
    assert (str(times[0]), values[0]) == (first[0], np.float32(first[1]))
    assert (str(times[-1]), values[-1]) == (last[0], np.float32(last[1]))
    assert (np.diff(times).astype(int) > 0).all()
    assert values.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-4)  # to the digits that are published
    rows = list(csv.reader((Path(os.environ["JLSTM_DATA"]) / "series" / FILES[load]).read_text().splitlines()))[1:]
    assert rows == [[str(time), row[1]] for time, row in zip(times, rows, strict=True)]


@pytest.mark.parametrize("load", FILES, ids=lambda load: load.__name__)
def test_another_file_is_refused(load, tmp_path):
    """One byte is enough; none at all is named."""
    with pytest.raises(FileNotFoundError, match=f"there is no {FILES[load]} in the folder"):
        load(tmp_path)
    (tmp_path / FILES[load]).write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"{FILES[load]} must be the published file, but its sha256 is not"):
        load(tmp_path)
