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
            None takes the greatest number of all, so that the rarest word is out, as with Keras.
        skip_top: numbers below it are out of the vocabulary too.
        maxlen: only reviews of fewer words than that, the start mark and words out of the vocabulary included.
        seed: of the order.
        start_char: the mark in front of every review; None for none.
        oov_char: what stands for words out of the vocabulary; None leaves them out.
        index_from: added to every word's number.

    Raises:
        FileNotFoundError: the folder has no such file, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: `num_words` or `maxlen` below 1, no review of fewer words than `maxlen`, or the file is damaged or another
            one. Keras' file, which holds pickled lists, is opened only if its sha256 is right.

    Reference: Maas, Daly, Pham, Huang, Ng & Potts 2011.
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
        order = generator.permutation(len(labels))
        order = order[tokens.lengths[order] + (start_char is not None) < limit]
        if not len(order):
            raise ValueError(f"no review has fewer than {maxlen} words: choose a greater maxlen")
        rows = tokens.take(order)
        rows = Ragged(rows.values + np.int32(index_from), rows.offsets)
        rows = rows if start_char is None else rows.prefixed(start_char)
        splits.append(Reviews(rows, labels[order].astype(np.int32)))
    end = end or max(reviews.tokens.values.max(initial=0) for reviews in splits)
    return ReviewDataset(*(reviews._replace(tokens=_known(reviews.tokens, skip_top, end, oov_char)) for reviews in splits))


def imdb_word_index(data_dir: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """Return the number of each of the 88,584 words, 1 for the most frequent; in `imdb`'s reviews it is greater by `index_from`.

    Args:
        data_dir: a folder with Keras' `imdb_word_index.json`; None takes the folder `JLSTM_DATA`, and without that downloads it
            once into the user's cache and verifies it.

    Raises:
        FileNotFoundError: the folder has no such file, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: the file is damaged or another one.
    """
    name = "imdb_word_index.json"
    path = files.locate(name, url=URL + name, sha256=INDEX_SHA256, data_dir=data_dir)
    return json.loads(files.verified(path, INDEX_SHA256))


def _known(tokens: Ragged, first: int, end: int, oov_char: int | None) -> Ragged:
    known = (tokens.values >= first) & (tokens.values < end)
    return tokens.keep(known) if oov_char is None else Ragged(np.where(known, tokens.values, np.int32(oov_char)), tokens.offsets)


def _read(data_dir: str | os.PathLike[str] | None) -> list[tuple[Ragged, np.ndarray]]:
    path = files.locate("imdb.npz", url=URL + "imdb.npz", sha256=SHA256, data_dir=data_dir, instead="imdb_flat.npz")
    if path.name == "imdb_flat.npz":
        arrays = files.read(path, FLAT)
        return [(Ragged(arrays[f"tokens_{part}"], arrays[f"offsets_{part}"]), arrays[f"labels_{part}"]) for part in PARTS]
    with np.load(io.BytesIO(files.verified(path, SHA256)), allow_pickle=True) as archive:  # the very bytes that were verified
        return [(Ragged.of(archive[f"x_{part}"]), archive[f"y_{part}"]) for part in PARTS]
