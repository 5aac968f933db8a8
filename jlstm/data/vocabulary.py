"""Conversion between words and indices with the conventions of Keras."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Int

from jlstm._src import checks

# The default `filters` of the Tokenizer of Keras, which include tab and newline, and the carriage return.
SEPARATORS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n\r'


def words(text: str) -> list[str]:
    """Split a text into lowercase words, at spaces, tabs, newlines, carriage returns and ASCII punctuation.

    The apostrophe does not split words, nor does any other character, such as "–", which is not ASCII, or a non-breaking space.

    Differs from Keras's `Tokenizer` only in the carriage return, which is a letter there. In the word index of IMDB, 21 rare
    words contain an uppercase accented letter ("Ángela"), so this function never returns them.

    Raises:
        TypeError: `text` is not a string.

    Args:
        text: A text.

    Returns:
        The words.

    Examples:
        >>> from jlstm.data import words
        >>> words("It's GREAT, isn't it?")
        ["it's", 'great', "isn't", 'it']
    """
    separated = checks.text("text", text).lower().translate(dict.fromkeys(map(ord, SEPARATORS), " "))
    return [word for word in separated.split(" ") if word]


def vocabulary(texts: Iterable[str], num_words: int | None = None) -> dict[str, int]:
    """Return the index of each word by frequency, like the `Tokenizer` of Keras.

    The most frequent word has index 1. Words of equal frequency are in the order in which they appear.

    Args:
        texts: Texts whose words to count.
        num_words: Number of words to keep. None keeps all.

    Returns:
        The index of each word.

    Raises:
        TypeError: `texts` is a single text, or an entry is not a string.
        ValueError: `num_words` is not a whole number of at least 1.

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
    counter = Counter(word for text in texts for word in words(text))
    # From 1, since 0 is left for padding.
    return {word: number for number, (word, _) in enumerate(counter.most_common(count), 1)}


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
    """Return the tokens of a text, in the same form as the reviews of `imdb` with the same options.

    Args:
        text: A text, which is split by `words`.
        index: The index of each word, from `imdb_word_index` or `vocabulary`.
        num_words: Tokens from `num_words` on are out of the vocabulary. `index_from` is included. None keeps all words.
        skip_top: Tokens below `skip_top` are out of the vocabulary.
        start_char: Token in front of the text, or None for no such token.
        oov_char: Token for words that are unknown or out of the vocabulary, or None to drop those words.
        index_from: Offset that is added to every word index.

    Returns:
        A list of tokens.

    Raises:
        TypeError: `text` is not a string, or `index` is not a dict from words to whole numbers.
        ValueError: another argument is not a whole number in its range.

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
    # The start mark passes through the limits too, as in `imdb.load_data` of Keras.
    tokens = [number if number is not None and skip_top <= number < end else oov_char for number in marked]
    return [number for number in tokens if number is not None]


def decode(
    tokens: Iterable[int] | Int[np.ndarray, " time"],
    index: Mapping[str, int],
    *,
    start_char: int | None = 1,
    index_from: int = 3,
    padding: int | None = 0,
    unknown: str = "<unk>",
) -> str:
    """Return the words of tokens, separated by spaces.

    This is the inverse of `encode`, except for capitals, punctuation and words out of the vocabulary.

    Args:
        tokens: Tokens, for example a review of `imdb`.
        index: The index of each word.
        start_char: A token to leave out, or None.
        index_from: The offset that was added to every word index.
        padding: Another token to leave out, or None.
        unknown: Text for tokens without a word.

    Returns:
        The text.

    Raises:
        TypeError: `tokens` are not whole numbers, `index` is not a dict from words to whole numbers, or `unknown` is not text.
        ValueError: `tokens` has more than one axis, or a number is out of range.

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
