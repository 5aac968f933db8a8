"""IMDB: 50,000 film reviews as numbers of words, half of them praise."""

import io
import json
import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from jlstm import checks
from jlstm.data import files
from jlstm.data.files import Array
from jlstm.data.ragged import Ragged
from jlstm.io import write

FLAT = {
    "tokens_train": Array("int32", (5_942_841,)),
    "offsets_train": Array("int32", (25_001,)),
    "labels_train": Array("uint8", (25_000,)),
    "tokens_test": Array("int32", (5_745_105,)),
    "offsets_test": Array("int32", (25_001,)),
    "labels_test": Array("uint8", (25_000,)),
}
NAME, WORDS = "imdb_flat.npz", 88_584
URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
INDEX_SHA256 = "027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6"


class Reviews(NamedTuple):
    """Reviews as numbers of words, and whether each is praise (1) or not (0)."""

    tokens: Ragged
    labels: Int32[np.ndarray, " size"]


class ReviewDataset(NamedTuple):
    """What to learn from, and what to be judged by."""

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
    """Return IMDB's reviews as Keras' `imdb.load_data` does, in the same order.

    Args:
        data_dir: a folder with `imdb_flat.npz` (the arrays `tokens`, `offsets` and `labels` of both splits) or Keras' `imdb.npz`;
            None takes the folder `JLSTM_DATA`, and without that downloads Keras' file once into the user's cache.
        num_words: numbers from here up are out of the vocabulary; words are numbered by frequency. `index_from` counts too.
            None takes the largest number there is, so that, as in Keras, the rarest word of all is out.
        skip_top: numbers below it are out of the vocabulary too.
        maxlen: only reviews of fewer words than that, the start mark included.
        seed: of the order.
        start_char: the mark in front of every review; None for none.
        oov_char: what stands for words out of the vocabulary; None leaves them out.
        index_from: added to every word's number.

    Raises:
        FileNotFoundError: the folder has no such file, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: the file is another one (Keras' file, which holds pickled lists, is opened only if its sha256 is right), or no
            review is shorter than `maxlen`.

    Reference: Maas, Daly, Pham, Huang, Ng & Potts 2011.
    """
    longest = None if maxlen is None else checks.positive("maxlen", maxlen)
    shuffler = np.random.RandomState(seed)
    splits = [_select(reviews, shuffler, start_char, index_from, longest) for reviews in _read(data_dir)]
    if not all(len(labels) for _, labels in splits):
        raise ValueError(f"no review has fewer than {maxlen} words: choose a greater maxlen")
    limit = num_words or max(tokens.values.max(initial=0) for tokens, _ in splits)
    return ReviewDataset(*(Reviews(_known(tokens, skip_top, limit, oov_char), labels) for tokens, labels in splits))


def imdb_word_index(data_dir: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """Return the number of each of the 88,584 words, 1 for the most frequent; in `imdb`'s reviews it is greater by `index_from`.

    Args:
        data_dir: a folder with Keras' `imdb_word_index.json`; None takes the folder `JLSTM_DATA`, and without that downloads it
            once into the user's cache and verifies it.

    Raises:
        FileNotFoundError: the folder has no such file, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: the file is another one.
    """
    name = "imdb_word_index.json"
    path = files.locate(name, url=URL + name, sha256=INDEX_SHA256, data_dir=data_dir)
    try:
        index = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be Keras' {name}, but reading it failed: {error}") from error
    if not isinstance(index, dict) or set(index.values()) != set(range(1, WORDS + 1)):
        raise ValueError(f"{path} must be Keras' {name}, with a number from 1 to {WORDS:,} for each word: give another folder")
    return index


def _select(
    reviews: Reviews, shuffler: np.random.RandomState, start_char: int | None, index_from: int, maxlen: int | None
) -> Reviews:
    """Shuffle, number from `index_from`, mark the start, and leave out what is too long."""
    order = np.arange(len(reviews.labels))
    shuffler.shuffle(order)
    if maxlen is not None:
        order = order[reviews.tokens.lengths[order] + (start_char is not None) < maxlen]
    tokens = reviews.tokens.take(order)
    tokens = Ragged(tokens.values + np.int32(index_from), tokens.offsets)
    return Reviews(tokens if start_char is None else tokens.prefixed(start_char), reviews.labels[order])


def _known(tokens: Ragged, skip_top: int, limit: int, oov_char: int | None) -> Ragged:
    known = (tokens.values >= skip_top) & (tokens.values < limit)
    return tokens.keep(known) if oov_char is None else Ragged(np.where(known, tokens.values, np.int32(oov_char)), tokens.offsets)


def _read(data_dir: str | os.PathLike[str] | None) -> list[Reviews]:
    """Read the reviews as they lie in the file; a download is kept without pickles too, which is faster to read."""
    folder = data_dir or os.environ.get("JLSTM_DATA")
    path = files.locate("imdb.npz", url=URL + "imdb.npz", sha256=SHA256, data_dir=data_dir, instead=NAME)
    flat = path.with_name(NAME)
    if flat.is_file():
        arrays = files.read(flat, FLAT)
    else:
        arrays = _unpickle(files.verified(path, SHA256))
        if not folder:
            content = io.BytesIO()
            np.savez(content, **arrays)
            write(flat, content.getvalue())
    return [
        Reviews(Ragged(arrays[f"tokens_{name}"], arrays[f"offsets_{name}"]), arrays[f"labels_{name}"].astype(np.int32))
        for name in ReviewDataset._fields
    ]


def _unpickle(content: bytes) -> dict[str, np.ndarray]:
    arrays = {}
    with np.load(io.BytesIO(content), allow_pickle=True) as archive:
        for name in ReviewDataset._fields:
            tokens = Ragged.of(archive[f"x_{name}"])
            arrays[f"tokens_{name}"], arrays[f"offsets_{name}"] = tokens.values, tokens.offsets.astype(np.int32)
            arrays[f"labels_{name}"] = archive[f"y_{name}"].astype(np.uint8)
    return arrays
