"""The texts are the published ones, and words are numbered as Keras numbers them."""

import importlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jlstm.data import decode, encode, ptb, shakespeare, vocabulary, words

NEEDS_DATA = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with the texts")


@NEEDS_DATA
def test_the_penn_treebank_is_mikolovs():
    """Sizes and the five most frequent words are the published ones, and the numbers decode to the text."""
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
    """The order is by (-count, word), as in TensorFlow's reader."""
    corpus = ptb()
    counts = np.bincount(corpus.train, minlength=10_000)
    pairs = [(-count, word) for count, word in zip(counts.tolist(), corpus.vocabulary, strict=True)]
    assert pairs == sorted(pairs)
    assert Counter(corpus.train.tolist())[0] == 50_770


@NEEDS_DATA
def test_shakespeare_is_karpathys():
    """There are 1,115,394 characters, 65 of them different, in three parts that make up the whole."""
    corpus = shakespeare()
    assert [len(part) for part in corpus[:3]] == [1_003_854, 55_770, 55_770]
    assert len(corpus.vocabulary) == 65
    spelled = "".join(corpus.vocabulary[number] for number in np.concatenate(corpus[:3]))
    assert spelled == (Path(os.environ["JLSTM_DATA"]) / "tinyshakespeare.txt").read_text()


def test_words_are_split_as_the_reviews_were():
    """Blanks and ASCII punctuation except the apostrophe separate words. Windows' dots and no-break spaces do not."""
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


@pytest.mark.xdist_group("tensorflow")
@given(st.lists(st.text("aAbB,. '!?_", max_size=30), min_size=1, max_size=5), st.none() | st.integers(1, 3))
def test_words_of_own_texts_are_numbered_as_by_keras_tokenizer(texts, num_words):
    """Order is by frequency, then by first use. A vocabulary of n has the first n words."""
    legacy = importlib.import_module("keras.src.legacy.preprocessing.text")
    tokenizer = legacy.Tokenizer()
    tokenizer.fit_on_texts(texts)
    assert [words(text) for text in texts] == [legacy.text_to_word_sequence(text) for text in texts]
    assert vocabulary(texts, num_words) == dict(list(tokenizer.word_index.items())[:num_words])
    index, options = vocabulary(texts), {"start_char": None, "oov_char": None, "index_from": 0}
    assert [encode(text, index, **options) for text in texts] == tokenizer.texts_to_sequences(texts)


def test_what_is_no_word():
    """Unknown words get the unknown number, numbers without a word are shown as such, and marks are left out."""
    index = {"the": 1, "film": 2}
    assert encode("The new film", index) == [1, 4, 2, 5]
    assert encode("The new film", index, oov_char=None) == [1, 4, 5]
    assert decode([0, 1, 4, 2, 5, 99], index) == "the <unk> film <unk>"
    assert decode(np.array([0, 1, 2]), index, start_char=None, index_from=0, padding=None, unknown="?") == "? the film"


def test_one_text_is_not_several():
    """A single string is refused: its letters would be taken for texts. So is `num_words=0`."""
    with pytest.raises(TypeError, match=r"texts must be several texts, got one: pass \['a film'\]"):
        vocabulary("a film")
    with pytest.raises(ValueError, match="num_words must be a whole number of at least 1 or None, got 0"):
        vocabulary(["a film"], 0)
