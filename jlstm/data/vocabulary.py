"""Words as numbers, and back: Keras' conventions, for IMDB's reviews and for texts of one's own."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Int

from jlstm import checks

SEPARATORS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r'


def words(text: str) -> list[str]:
    """Split a text into words of small letters, punctuation but the apostrophe taken for a space.

    Differs from Keras' `Tokenizer` in the carriage return only, which is a space here and a letter there. Of IMDB's words,
    21 rare ones cannot be reached, because their accented capitals were left as they are ("Ángela").

    Examples:
        >>> from jlstm.data import words
        >>> words("It's GREAT, isn't it?")
        ["it's", 'great', "isn't", 'it']
    """
    separated = checks.text("text", text).lower().translate(dict.fromkeys(map(ord, SEPARATORS), " "))
    return [word for word in separated.split(" ") if word]


def vocabulary(texts: Iterable[str], num_words: int | None = None) -> dict[str, int]:
    """Number the words of texts by frequency, as Keras' `Tokenizer` does: 1 for the most frequent, ties as they come.

    Args:
        texts: to count the words of.
        num_words: as many words get a number; None is all.

    Raises:
        TypeError: one text instead of several.
        ValueError: `num_words` below 1.

    Examples:
        >>> from jlstm.data import encode, vocabulary
        >>> index = vocabulary(["A great film!", "A film."])
        >>> index
        {'a': 1, 'film': 2, 'great': 3}
        >>> encode("Great film", index)
        [1, 6, 5]
    """
    if isinstance(texts, str):
        raise TypeError(f"texts must be several texts, got one: pass [{texts[:20]!r}]")
    texts = [checks.text("each of texts", text) for text in checks.several("texts", texts, "['a film', 'a book']")]
    count = None if num_words is None else checks.positive("num_words", num_words, "None")
    counted = Counter(word for text in texts for word in words(text))
    return {word: number for number, (word, _) in enumerate(counted.most_common(count), 1)}


def encode(
    text: str,
    index: Mapping[str, int],
    *,
    num_words: int | None = None,
    skip_top: int = 0,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int = 3,
) -> list[int]:
    """Return a text as numbers of words, such as `imdb` gives for the reviews with the same options.

    Args:
        text: to split by `words`.
        index: the number of each word, such as `imdb_word_index` and `vocabulary` give.
        num_words: numbers from here up are out of the vocabulary. `index_from` counts too. None keeps all words.
        skip_top: numbers below it are out of the vocabulary too.
        start_char: the mark in front; None for none.
        oov_char: what stands for words out of the vocabulary, unknown ones included; None leaves them out.
        index_from: added to every word's number.

    Examples:
        >>> from jlstm.data import encode
        >>> encode("Great, great film!", {"great": 7, "film": 9}, num_words=12)
        [1, 10, 10, 2]
    """
    _check_index(index)
    for name, value in {"start_char": start_char, "oov_char": oov_char}.items():
        if value is not None:
            checks.whole(name, value, "None")
    skip_top, index_from = checks.whole("skip_top", skip_top), checks.whole("index_from", index_from)
    end = np.inf if num_words is None else checks.positive("num_words", num_words, "None")
    numbers = [index[word] + index_from if word in index else None for word in words(text)]
    marked = numbers if start_char is None else [start_char, *numbers]
    known = [number if number is not None and skip_top <= number < end else oov_char for number in marked]
    return [number for number in known if number is not None]


def decode(
    tokens: Iterable[int] | Int[np.ndarray, " time"],
    index: Mapping[str, int],
    *,
    start_char: int | None = 1,
    index_from: int = 3,
    padding: int | None = 0,
    unknown: str = "<unk>",
) -> str:
    """Return the words of numbers, the inverse of `encode` up to capitals, punctuation and words out of the vocabulary.

    Args:
        tokens: numbers, such as a review of `imdb`.
        index: the number of each word.
        start_char: a number to leave out; None for none.
        index_from: what was added to every word's number.
        padding: another number to leave out; None for none.
        unknown: what stands for numbers without a word.

    Examples:
        >>> from jlstm.data import decode
        >>> decode([0, 0, 1, 10, 10, 2], {"great": 7, "film": 9})
        'great great <unk>'
    """
    _check_index(index)
    for name, value in {"start_char": start_char, "padding": padding}.items():
        if value is not None:
            checks.whole(name, value, "None")
    checks.whole("index_from", index_from)
    checks.text("unknown", unknown)
    tokens = checks.counts("tokens", list(tokens) if isinstance(tokens, Iterator) else tokens)
    if tokens.ndim != 1:
        raise ValueError(
            f"tokens must be the numbers of one text, got an array of shape {tokens.shape}: decode one row at a time"
        )
    names = {number + index_from: word for word, number in index.items()}
    return " ".join(names.get(int(token), unknown) for token in tokens.tolist() if token not in (start_char, padding))


def _check_index(index: Mapping[str, int]) -> None:
    checks.mapping("index", index, "{'film': 1}", lambda number: isinstance(number, int | np.integer))
