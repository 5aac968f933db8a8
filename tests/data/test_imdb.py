"""Our IMDB reviews equal those of Keras's code, run on the same data and options."""

import hashlib
import importlib
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Ragged, decode, encode, imdb, imdb_word_index

pytestmark = pytest.mark.xdist_group("tensorflow")
NEEDS_IMDB = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with imdb_flat.npz")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with 60 random reviews for Keras and for us, and Keras's function that reads them."""
    module, keras = importlib.import_module("jlstm.data.imdb"), importlib.import_module("keras.src.datasets.imdb")
    generator, flat, theirs = np.random.default_rng(0), {}, {}
    for split, size in (("train", 40), ("test", 20)):
        reviews = [generator.integers(1, 60, length) for length in generator.integers(1, 15, size)]
        rows, labels = Ragged.of(reviews), generator.integers(0, 2, size).astype(np.uint8)
        flat |= {f"tokens_{split}": rows.values, f"offsets_{split}": rows.offsets.astype(np.int32), f"labels_{split}": labels}
        theirs[f"x_{split}"], theirs[f"y_{split}"] = np.array([row.tolist() for row in reviews], object), labels.astype(int)
    np.savez(tmp_path / "imdb_flat.npz", **flat)
    np.savez(tmp_path / "keras.npz", **theirs)
    monkeypatch.setattr(module, "FLAT", {name: module.Array(array.dtype.name, array.shape) for name, array in flat.items()})
    monkeypatch.setattr(keras, "get_file", lambda **_: str(tmp_path / "keras.npz"))
    return tmp_path, keras.load_data


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_words": 30},
        {"num_words": 30, "skip_top": 9},
        {"skip_top": 2, "oov_char": 0},
        {"num_words": 20, "oov_char": None},
        {"num_words": 20, "skip_top": 9, "oov_char": None, "index_from": 5},
        {"maxlen": 8},
        {"maxlen": 8, "start_char": None, "seed": 4},
        {"start_char": None},
        {"start_char": None, "index_from": 0},
        {"start_char": 7, "index_from": 0, "oov_char": 99, "num_words": 40},
        {"seed": 0, "maxlen": 5, "num_words": 33, "oov_char": None},
    ],
    ids=str,
)
def test_reviews_are_those_that_keras_gives(small, options):
    """Reviews, numbers and order agree for every option. Without `num_words` the rarest word is unknown."""
    assert_equal(*small, options)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "num_words": st.none() | st.integers(1, 70),
            "skip_top": st.integers(0, 30),
            "maxlen": st.none() | st.integers(4, 16),  # some reviews are shorter
            "seed": st.integers(0, 9),
            "start_char": st.none() | st.integers(0, 9),
            "oov_char": st.none() | st.integers(0, 9),
            "index_from": st.integers(0, 5),
        },
    )
)
def test_all_options_together_mean_what_they_mean_to_keras(small, options):
    """Any combination of options gives what Keras gives."""
    assert_equal(*small, options)


def assert_equal(folder, load_data, options) -> None:
    for got, (sequences, labels) in zip(imdb(folder, **options), load_data(**options), strict=True):
        assert [row.tolist() for row in got.tokens] == list(map(list, sequences))
        np.testing.assert_array_equal(got.labels, labels)
        assert got.tokens.values.dtype == got.labels.dtype == np.int32


def test_numbers_that_leave_nothing_are_refused(small):
    """A `maxlen` that leaves no review, and a `num_words` of 0, are refused."""
    with pytest.raises(ValueError, match="no review has fewer than 1 words: choose a greater maxlen"):
        imdb(small[0], maxlen=1)
    for name in ("maxlen", "num_words"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1 or None, got 0"):
            imdb(small[0], **{name: 0})


@NEEDS_IMDB
def test_imdb_is_the_published_one():
    """Counts, first reviews, lengths and labels are those of the published data."""
    train, test = imdb()
    assert len(train.tokens) == len(test.tokens) == 25_000
    assert train.labels.sum() == test.labels.sum() == 12_500
    assert train.tokens[0][:10].tolist() == [1, 14, 22, 16, 43, 530, 973, 1622, 1385, 65]
    assert train.tokens.lengths[:5].tolist() == [218, 189, 141, 550, 147]
    assert test.tokens.lengths[:5].tolist() == [68, 260, 603, 181, 108]
    assert train.labels[:10].tolist() == [1, 0, 0, 1, 0, 0, 1, 0, 1, 0]
    assert test.labels[:10].tolist() == [0, 1, 1, 0, 1, 1, 1, 0, 0, 1]
    assert (train.tokens.lengths.mean(), test.tokens.lengths.mean()) == (238.71364, 230.8042)
    assert (train.tokens.lengths.max(), test.tokens.lengths.max()) == (2494, 2315)


@NEEDS_IMDB
def test_imdb_loads_in_two_seconds():
    """The limit is on processor time, which other processes do not lengthen. Loading takes about half a second."""
    started = time.process_time()
    imdb(num_words=5000, maxlen=400)
    assert time.process_time() - started < 2


@pytest.mark.slow
@NEEDS_IMDB
def test_reviews_can_be_read_and_numbered_again():
    """The first review starts with the known words. Encoding decoded reviews gives them back."""
    index = imdb_word_index()
    assert (len(index), index["the"]) == (88_584, 1)
    tokens = imdb(num_words=100_000).train.tokens
    first = decode(tokens[0], index)
    assert first.startswith("this film was just brilliant casting location scenery story direction everyone's really suited")
    for review in tokens.take(slice(100)):
        assert encode(decode(review, index), index) == review.tolist()


@pytest.mark.parametrize("options", [{"num_words": 30}, {"num_words": 30, "skip_top": 9, "oov_char": None}, {"start_char": None}])
def test_encode_gives_what_imdb_gives(small, options):
    """Encoding the words of a review with the same options gives its numbers."""
    folder, _ = small
    index = {f"w{number}": number for number in range(1, 60)}
    everything = imdb(folder, num_words=1000, start_char=None, index_from=0).train.tokens
    reviews = imdb(folder, **({"num_words": 1000} | options)).train.tokens
    for raw, review in zip(everything, reviews, strict=True):
        assert encode(" ".join(f"W{number}," for number in raw), index, **options) == review.tolist()


class Bomb:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_pickle_is_opened_before_its_hash_is_verified(tmp_path, monkeypatch):
    """A false imdb.npz, which could run any code, is refused without being loaded."""
    rows = np.array([Bomb(tmp_path / "exploded"), [2]], object)
    np.savez(tmp_path / "imdb.npz", x_train=rows, y_train=[0, 1], x_test=rows, y_test=[0, 1])
    with pytest.raises(ValueError, match=r"imdb.npz must be the published file, but its sha256 is not 6966"):
        imdb(tmp_path)
    assert not (tmp_path / "exploded").exists()
    sha256 = hashlib.sha256((tmp_path / "imdb.npz").read_bytes()).hexdigest()
    monkeypatch.setattr(importlib.import_module("jlstm.data.imdb"), "SHA256", sha256)
    with pytest.raises(TypeError, match="a sequence must be a list or an array of numbers, got None"):
        imdb(tmp_path)
    assert (tmp_path / "exploded").exists()
