"""Reviews and padding are Keras' own, number for number: its code is run on the same data and options."""

import importlib
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import Ragged, decode, encode, imdb, imdb_word_index, pad, vocabulary, words

pytestmark = pytest.mark.xdist_group("tensorflow")
NEEDS_IMDB = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with imdb_flat.npz")
SEQUENCES = st.lists(st.lists(st.integers(-9, 99), max_size=9), max_size=9)
SIDES = st.sampled_from(["pre", "post"])


@given(SEQUENCES)
def test_ragged_sequences_come_out_as_they_went_in(sequences):
    """One by one, by their lengths, and in any order."""
    rows = Ragged.of(sequences)
    assert [row.tolist() for row in rows] == sequences
    assert rows.lengths.tolist() == [len(sequence) for sequence in sequences]
    assert len(rows) == len(sequences)
    assert rows.values.dtype == np.int32
    assert [row.tolist() for row in rows.prefixed(7)] == [[7, *sequence] for sequence in sequences]
    kept = rows.keep(rows.values % 2 == 0)
    assert [row.tolist() for row in kept] == [[value for value in sequence if value % 2 == 0] for sequence in sequences]


@given(SEQUENCES.filter(len), st.data())
def test_take_is_indexing(sequences, data):
    """By positions, repeated and from the end too, by a slice, and by booleans: what NumPy takes from an array of objects."""
    rows, size = Ragged.of(sequences), len(sequences)
    several = data.draw(st.lists(st.integers(-size, size - 1)))
    flags = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    for chosen in (np.array(several, int), slice(None, None, -2), slice(1, 4), flags):
        expected = [sequences[index] for index in np.arange(size)[chosen]]
        assert [row.tolist() for row in rows.take(chosen)] == expected
    assert rows[-1].tolist() == sequences[-1]
    with pytest.raises(IndexError):
        rows[size]


@pytest.mark.parametrize("offsets", [[], [1, 3], [0, 2, 1, 3], [0, 2], [0, 4]])
def test_offsets_that_do_not_fit_are_refused(offsets):
    """No first one, another than 0, a fall, values left over or missing."""
    with pytest.raises(ValueError, match="offsets must rise from 0 to 3, the number of values, got"):
        Ragged(np.arange(3), np.array(offsets, int))


@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ([1, 2], TypeError, "a sequence must be a list or an array of whole numbers, got 1"),
        ([[1], [1.5]], TypeError, r"whole numbers, got \[1.5\]"),
        ([[[1, 2]]], TypeError, r"whole numbers, got \[\[1, 2\]\]"),
        (["text"], TypeError, "whole numbers, got 'text'"),
        ([[1], [2**31]], ValueError, "must fit into int32, got some from 1 to 2147483648"),
    ],
)
def test_sequences_of_something_else_are_refused(sequences, error, message):
    """One sequence instead of several, fractions, rows of rows, words, and numbers that int32 would wrap."""
    with pytest.raises(error, match=message):
        Ragged.of(sequences)


@given(SEQUENCES.filter(len), st.integers(1, 12), SIDES, SIDES, st.integers(-3, 3))
def test_padding_is_keras(sequences, length, padding, truncating, value):
    """Shorter, longer, empty; a list of lists or ragged; and the lengths that the docstring gives count what is no padding."""
    keras = pytest.importorskip("keras")
    options = {"padding": padding, "truncating": truncating, "value": value}
    got = pad(sequences, length, **options)
    np.testing.assert_array_equal(got, keras.utils.pad_sequences(sequences, length, **options))
    np.testing.assert_array_equal(got, pad(Ragged.of(sequences), length, **options))
    assert got.dtype == np.int32
    ones = pad([[1] * len(sequence) for sequence in sequences], length, padding=padding, truncating=truncating)
    np.testing.assert_array_equal(ones.sum(1), np.minimum(Ragged.of(sequences).lengths, length))


def test_nothing_pads_to_nothing():
    """No sequences are no rows."""
    assert pad([], 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
        ({"length": 2, "padding": "left"}, "padding must be one of 'pre', 'post', got 'left'"),
        ({"length": 2, "truncating": "right"}, "truncating must be one of 'pre', 'post', got 'right'"),
    ],
)
def test_padding_that_keras_would_do_wrongly_or_not_at_all_is_refused(options, message):
    """Keras' length 0 is no truncation for "pre"."""
    with pytest.raises(ValueError, match=message):
        pad([[1]], **options)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with the same 60 random reviews for Keras and for us; Keras' function that reads them."""
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
    """Same reviews, same numbers, same order, for every option; without `num_words` the rarest word is out."""
    folder, load_data = small
    for got, (sequences, labels) in zip(imdb(folder, **options), load_data(**options), strict=True):
        assert [row.tolist() for row in got.tokens] == list(map(list, sequences))
        np.testing.assert_array_equal(got.labels, labels)
        assert got.tokens.values.dtype == got.labels.dtype == np.int32


def test_numbers_that_leave_nothing_are_refused(small):
    """No review is shorter than the start mark; and nothing is no number of words."""
    with pytest.raises(ValueError, match="no review has fewer than 1 words: choose a greater maxlen"):
        imdb(small[0], maxlen=1)
    for name in ("maxlen", "num_words"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1 or None, got 0"):
            imdb(small[0], **{name: 0})


@NEEDS_IMDB
def test_imdb_is_the_published_one():
    """Counts, first reviews, lengths and labels are those that Keras' users know."""
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
def test_reviews_can_be_read_and_numbered_again():
    """The first review begins as everybody knows it; numbering the words of many reviews gives them back."""
    index = imdb_word_index()
    assert (len(index), index["the"]) == (88_584, 1)
    tokens = imdb(num_words=100_000).train.tokens
    first = decode(tokens[0], index)
    assert first.startswith("this film was just brilliant casting location scenery story direction everyone's really suited")
    for review in tokens.take(slice(100)):
        assert encode(decode(review, index), index) == review.tolist()


def test_words_are_split_as_the_reviews_were():
    """Only blanks and ASCII punctuation but the apostrophe separate: Windows' dots and unbroken blanks are letters there."""
    assert words("I'd say: AGE-old <br />2\x85 so\xa0so\r\n\tEND") == [
        "i'd",
        "say",
        "age",
        "old",
        "br",
        "2\x85",
        "so\xa0so",
        "end",
    ]
    assert words("") == []


@given(st.lists(st.text("aAbB,. '!?_", max_size=30), min_size=1, max_size=5), st.none() | st.integers(1, 3))
def test_words_of_own_texts_are_numbered_as_by_keras_tokenizer(texts, num_words):
    """By frequency, ties as they come; `Tokenizer` numbers all words, and a vocabulary of n has the first n of them."""
    legacy = importlib.import_module("keras.src.legacy.preprocessing.text")
    tokenizer = legacy.Tokenizer()
    tokenizer.fit_on_texts(texts)
    assert [words(text) for text in texts] == [legacy.text_to_word_sequence(text) for text in texts]
    assert vocabulary(texts, num_words) == dict(list(tokenizer.word_index.items())[:num_words])
    index, options = vocabulary(texts), {"start_char": None, "oov_char": None, "index_from": 0}
    assert [encode(text, index, **options) for text in texts] == tokenizer.texts_to_sequences(texts)


@pytest.mark.parametrize("options", [{"num_words": 30}, {"num_words": 30, "skip_top": 9, "oov_char": None}, {"start_char": None}])
def test_encode_gives_what_imdb_gives(small, options):
    """The words of a review, encoded with the same options, are its numbers."""
    folder, _ = small
    index = {f"w{number}": number for number in range(1, 60)}
    everything = imdb(folder, num_words=1000, start_char=None, index_from=0).train.tokens
    reviews = imdb(folder, **({"num_words": 1000} | options)).train.tokens
    for raw, review in zip(everything, reviews, strict=True):
        assert encode(" ".join(f"W{number}," for number in raw), index, **options) == review.tolist()


def test_what_is_no_word():
    """An unknown word is out of the vocabulary; a number without a word is shown as such; marks and padding are left out."""
    index = {"the": 1, "film": 2}
    assert encode("The new film", index) == [1, 4, 2, 5]
    assert encode("The new film", index, oov_char=None) == [1, 4, 5]
    assert decode([0, 1, 4, 2, 5, 99], index) == "the <unk> film <unk>"
    assert decode(np.array([0, 1, 2]), index, start_char=None, index_from=0, padding=None, unknown="?") == "? the film"


def test_one_text_is_not_several():
    """A string's letters would be taken for texts; no words at all are asked for."""
    with pytest.raises(TypeError, match=r"texts must be several texts, got one: pass \['a film'\]"):
        vocabulary("a film")
    with pytest.raises(ValueError, match="num_words must be a whole number of at least 1 or None, got 0"):
        vocabulary(["a film"], 0)
