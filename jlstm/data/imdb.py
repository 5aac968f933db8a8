"""IMDB: 50,000 film reviews as word indices, half of them positive."""

import io
import json
import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from jlstm._src import checks
from jlstm.data import files
from jlstm.data.files import Array
from jlstm.data.ragged import Ragged

FLAT = {
    "tokens_train": Array("int32", (5_942_841,)),
    "offsets_train": Array("int32", (25_001,)),
    "labels_train": Array("uint8", (25_000,)),
    "tokens_test": Array("int32", (5_745_105,)),
    "offsets_test": Array("int32", (25_001,)),
    "labels_test": Array("uint8", (25_000,)),
}
URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
INDEX_SHA256 = "027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6"
PARTS = ("train", "test")


class Reviews(NamedTuple):
    """Reviews with labels.

    Attributes:
        tokens: Word indices of each review.
        labels: 1 for a positive review, 0 for a negative one.
    """

    tokens: Ragged
    labels: Int32[np.ndarray, " size"]


class ReviewDataset(NamedTuple):
    """A training split and a test split of reviews."""

    train: Reviews
    test: Reviews


def imdb(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> ReviewDataset:
    """Return the IMDB reviews in the same form and order as `imdb.load_data` of Keras.

    Args:
        data_dir: A folder with `imdb_flat.npz` (arrays `tokens`, `offsets` and `labels` of both splits) or Keras's `imdb.npz`.
            None means the folder in the environment variable `JLSTM_DATA`. If that is not set, Keras's file is downloaded once
            into the user's cache.
        num_words: Indices from `num_words` on are out of the vocabulary. Words are numbered by frequency, and `index_from` is
            included. None means the largest index of all, so that the rarest word is out of the vocabulary, as in Keras.
        skip_top: Indices below `skip_top` are out of the vocabulary.
        maxlen: Keep only reviews shorter than `maxlen` words, including the start token and words out of the vocabulary.
        seed: Seed of the order.
        start_char: Token in front of every review, or None for no such token.
        oov_char: Token for words out of the vocabulary, or None to drop those words.
        index_from: Offset that is added to every word index.

    Returns:
        The reviews for training and testing.

    Raises:
        FileNotFoundError: The folder does not have the file, or the download failed.
        ImportError: pooch, which downloads, is not installed.
        ValueError: `num_words` or `maxlen` is below 1, no review is shorter than `maxlen`, or the content of the file is not the
            expected one. Keras's file contains pickled lists, so it is opened only if its SHA-256 matches.

    Reference: Maas et al., 2011, "Learning word vectors for sentiment analysis", https://aclanthology.org/P11-1015.
    """
    end = None if num_words is None else checks.positive("num_words", num_words, "None")
    limit = np.inf if maxlen is None else checks.positive("maxlen", maxlen, "None")
    for name, value in {"skip_top": skip_top, "index_from": index_from}.items():
        checks.whole(name, value)
    for name, mark in {"start_char": start_char, "oov_char": oov_char}.items():
        if mark is not None:
            checks.whole(name, mark, "None")
    generator = np.random.RandomState(checks.whole("seed", seed, largest=2**32 - 1))
    splits = []
    for tokens, labels in _read(data_dir):
        # One generator for both splits, training first, and the length filter after the permutation: this is the order of Keras.
        order = generator.permutation(len(labels))
        order = order[tokens.lengths[order] + (start_char is not None) < limit]
        if not len(order):
            raise ValueError(f"no review has fewer than {maxlen} words: choose a greater maxlen")
        rows = tokens.take(order)
        # Words in the file are numbered from 1. The shift makes room for the marks of padding, start and unknown words.
        rows = Ragged(rows.values + np.int32(index_from), rows.offsets)
        rows = rows if start_char is None else rows.prefixed(start_char)
        splits.append(Reviews(rows, labels[order].astype(np.int32)))
    # Without `num_words` the limit is the largest index itself, as in Keras, which thus drops the rarest word.
    end = end or max(reviews.tokens.values.max(initial=0) for reviews in splits)
    return ReviewDataset(
        *(reviews._replace(tokens=_restrict_vocabulary(reviews.tokens, skip_top, end, oov_char)) for reviews in splits)
    )


def imdb_word_index(data_dir: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """Return the index of each of the 88,584 words in the IMDB reviews.

    The most frequent word has index 1. In the reviews that `imdb` returns, `index_from` is added to the index.

    Args:
        data_dir: A folder with Keras's `imdb_word_index.json`. None means the folder in the environment variable `JLSTM_DATA`. If
            that is not set, the file is downloaded once into the user's cache and verified.

    Returns:
        The index of each word.

    Raises:
        FileNotFoundError: The folder does not have the file, or the download failed.
        ImportError: pooch, which downloads, is not installed.
        ValueError: The content of the file is not the expected one.
    """
    name = "imdb_word_index.json"
    path = files.locate(name, url=URL + name, sha256=INDEX_SHA256, data_dir=data_dir)
    return json.loads(files.verified(path, INDEX_SHA256))


def _restrict_vocabulary(tokens: Ragged, first: int, end: int, oov_char: int | None) -> Ragged:
    """Replace tokens outside of `first` to `end - 1` by `oov_char`, or remove them if that is None."""
    valid = (tokens.values >= first) & (tokens.values < end)
    return tokens.keep(valid) if oov_char is None else Ragged(np.where(valid, tokens.values, np.int32(oov_char)), tokens.offsets)


def _read(data_dir: str | os.PathLike[str] | None) -> list[tuple[Ragged, np.ndarray]]:
    # The flat copy is preferred, since it holds no pickles.
    path = files.locate("imdb.npz", url=URL + "imdb.npz", sha256=SHA256, data_dir=data_dir, instead="imdb_flat.npz")
    if path.name == "imdb_flat.npz":
        arrays = files.read(path, FLAT)
        return [(Ragged(arrays[f"tokens_{part}"], arrays[f"offsets_{part}"]), arrays[f"labels_{part}"]) for part in PARTS]
    # Unpickling can run any code. It is safe here only since the very bytes that are unpickled have been verified.
    with np.load(io.BytesIO(files.verified(path, SHA256)), allow_pickle=True) as archive:
        return [(Ragged.of(archive[f"x_{part}"]), archive[f"y_{part}"]) for part in PARTS]
