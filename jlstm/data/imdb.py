"""IMDB: 50,000 film reviews as numbers of words, half of them praise."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

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
PUNCTUATION = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
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
        skip_top: numbers below it are out of the vocabulary too.
        maxlen: only reviews of fewer words than that, the start mark included.
        seed: of the order.
        start_char: the mark in front of every review; None for none.
        oov_char: what stands for words out of the vocabulary; None leaves them out.
        index_from: added to every word's number.

    Raises:
        FileNotFoundError: the folder has no such file, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: the file is another one. Keras' file, which holds pickled lists, is opened only if its sha256 is right.

    Reference: Maas, Daly, Pham, Huang, Ng & Potts 2011.
    Differs from: Keras' `maxlen` shifts reviews from the test to the training split; here each split keeps its own.
    """
    generator = np.random.RandomState(seed)
    splits = []
    for tokens, labels in _read(data_dir):
        order = generator.permutation(len(labels))
        rows = tokens.take(order)
        rows = Ragged(rows.values + np.int32(index_from), rows.offsets)
        rows = rows if start_char is None else rows.prefixed(start_char)
        chosen = np.ones(len(rows), bool) if maxlen is None else rows.lengths < maxlen
        known = (rows.values >= skip_top) & (rows.values < (np.inf if num_words is None else num_words))
        rows = rows.keep(known) if oov_char is None else Ragged(np.where(known, rows.values, np.int32(oov_char)), rows.offsets)
        splits.append(Reviews(rows if chosen.all() else rows.take(chosen), labels[order][chosen].astype(np.int32)))
    return ReviewDataset(*splits)


def imdb_word_index(data_dir: str | os.PathLike[str] | None = None) -> dict[str, int]:
    """Return the number of each word, 1 for the most frequent; in `imdb`'s reviews it is greater by `index_from`.

    Raises:
        FileNotFoundError: the folder has no `imdb_word_index.json`, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
    """
    name = "imdb_word_index.json"
    return json.loads(files.locate(name, url=URL + name, sha256=INDEX_SHA256, data_dir=data_dir).read_text())


def words(text: str) -> list[str]:
    """Split a text into words as the reviews were split: small letters, punctuation but the apostrophe taken for a space.

    Examples:
        >>> from jlstm.data.imdb import words
        >>> words("It's GREAT, isn't it?")
        ["it's", 'great', "isn't", 'it']
    """
    return text.lower().translate(str.maketrans(PUNCTUATION, " " * len(PUNCTUATION))).split()


def encode(
    text: str,
    index: Mapping[str, int],
    *,
    num_words: int | None = None,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> list[int]:
    """Return a text as numbers of words, such as `imdb` gives for the reviews with the same options.

    Examples:
        >>> from jlstm.data.imdb import encode
        >>> encode("Great, great film!", {"great": 7, "film": 9}, num_words=12)
        [1, 10, 10, 2]
    """
    numbers = [index[word] + index_from if word in index else None for word in words(text)]
    known = [number if number is not None and (num_words is None or number < num_words) else oov_char for number in numbers]
    return [number for number in ([start_char, *known]) if number is not None]


def _read(data_dir: str | os.PathLike[str] | None) -> list[tuple[Ragged, np.ndarray]]:
    folder = data_dir or os.environ.get("JLSTM_DATA")
    if folder and (path := Path(folder) / "imdb_flat.npz").is_file():
        arrays = files.read(path, FLAT)
        parts = ("train", "test")
        return [(Ragged(arrays[f"tokens_{part}"], arrays[f"offsets_{part}"]), arrays[f"labels_{part}"]) for part in parts]
    path = files.locate("imdb.npz", url=URL + "imdb.npz", sha256=SHA256, data_dir=data_dir)
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise ValueError(f"{path} is not Keras' imdb.npz (its sha256 is another) and could run any code: give another folder")
    with np.load(path, allow_pickle=True) as archive:
        return [(Ragged.of(archive[f"x_{part}"]), archive[f"y_{part}"]) for part in ("train", "test")]
