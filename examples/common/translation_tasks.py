"""The tasks of 07_translation.py: pairs of texts that are generated, character by character.

`reverse`: random letters, and the same letters in reverse order. `dates`: dates as people write them, and in ISO 8601. One pair
in ten is held out: which ones depends on the pair alone, so that no pair for testing is ever drawn for training.
"""

import calendar
import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jlstm.data import Batch, Batches, share, take

PAD, START, END = 0, 1, 2
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHARACTERS = ["<pad>", "<start>", "<end>", *LETTERS, *"0123456789", *" .,-/"]
INDEX = {character: number for number, character in enumerate(CHARACTERS)}
MONTHS, WEEKDAYS = ([name.lower() for name in names] for names in (calendar.month_name, calendar.day_name))
# A date with slashes begins with its month, one with dots with its day.
FORMATS = (
    "{day} {month} {year}",
    "{month} {day}, {year}",
    "{ordinal} of {month} {year}",
    "{month:.3} {day} {year}",
    "{weekday}, {day} {month} {year}",
    "{weekday:.3} {day:02} {month:.3} {year}",
    "{day}.{number}.{year}",
    "{number:02}/{day:02}/{year}",
)
FIRST, DAYS = dt.date(1900, 1, 1).toordinal(), 73_049  # the days until the end of 2099


class Pairs(NamedTuple):
    """Pairs of texts as tokens.

    Attributes:
        source: the texts to read (size, longest source), padded.
        lengths: the lengths of these texts (size,).
        target: the texts to write (size, longest target), each with the end token, padded.
    """

    source: np.ndarray
    lengths: np.ndarray
    target: np.ndarray


Task = Callable[[np.random.Generator, int], tuple[str, str, bool]]


def reverse(draw: np.random.Generator, length: int) -> tuple[str, str, bool]:
    """Return random letters, at most `length` of them and at least half as many, their reverse, and whether they are held out."""
    numbers = draw.integers(0, len(LETTERS), draw.integers((length + 1) // 2, length + 1))
    letters = "".join(LETTERS[number] for number in numbers)
    return letters, letters[::-1], int(numbers.sum()) % 10 == 0


def dates(draw: np.random.Generator, _length: int) -> tuple[str, str, bool]:
    """Return a date as people write it, the same date in ISO 8601, and whether that day is held out."""
    day = int(draw.integers(DAYS))
    date = dt.date.fromordinal(FIRST + day)
    return written(date, int(draw.integers(len(FORMATS)))), date.isoformat(), day % 10 == 0


def written(date: dt.date, number: int) -> str:
    """Return a date in the format with this number."""
    suffix = "th" if 10 < date.day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(date.day % 10, "th")
    parts = {"day": date.day, "ordinal": f"{date.day}{suffix}", "number": date.month, "year": date.year}
    return FORMATS[number].format(**parts, month=MONTHS[date.month], weekday=WEEKDAYS[date.weekday()])


def sizes(task: str, length: int) -> tuple[int, int]:
    """Return the largest number of tokens of a source, and of a target with its end token."""
    return (length, length + 1) if task == "reverse" else (len("wednesday, 30 september 2099"), len("2099-09-30") + 1)


def pairs(task: str, draw: np.random.Generator, size: int, length: int, *, held_out: bool) -> tuple[Pairs, list[tuple[str, str]]]:
    """Draw pairs, either only held-out ones or none of them. Return them as tokens and as texts."""
    generate: Task = {"reverse": reverse, "dates": dates}[task]
    texts: list[tuple[str, str]] = []
    while len(texts) < size:
        source, target, is_held_out = generate(draw, length)
        if is_held_out == held_out:
            texts.append((source, target))
    longest_source, longest_target = sizes(task, length)
    return (
        Pairs(
            np.stack([tokens(source, longest_source) for source, _ in texts]),
            np.array([len(source) for source, _ in texts], np.int32),
            np.stack([tokens(target, longest_target, end=True) for _, target in texts]),
        ),
        texts,
    )


def tokens(text: str, length: int, *, end: bool = False) -> np.ndarray:
    """Return the tokens of a text, with an end token if asked, padded to a length.

    Raises:
        ValueError: the text is too long, or has other characters than those in `CHARACTERS`.
    """
    if unknown := sorted(set(text) - set(INDEX)):
        raise ValueError(f"a text must consist of {''.join(CHARACTERS[3:])!r}, got {unknown[0]!r}")
    numbers = [INDEX[character] for character in text] + [END] * end
    if len(numbers) > length:
        raise ValueError(f"a text must have at most {length - end} characters, got {len(text)}: {text!r}")
    return np.pad(np.array(numbers, np.int32), (0, length - len(numbers)), constant_values=PAD)


def text(numbers: np.ndarray) -> str:
    """Return the text of tokens, up to the first end token."""
    stops = np.flatnonzero(numbers == END)
    return "".join(CHARACTERS[number] for number in numbers[: stops[0] if len(stops) else len(numbers)])


@dataclass
class Translations(Batches):
    """Batches of new pairs, none of them held out. Every batch of every pass has its own random seed."""

    task: str
    length: int
    size: int
    seed: int

    def __len__(self) -> int:
        return 100

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield the remaining batches of a pass. A pass has 100 batches."""
        for index in range(start, len(self)):
            drawn, _ = pairs(self.task, np.random.default_rng((self.seed, number, index)), self.size, self.length, held_out=False)
            yield take(Batch(drawn, np.ones(self.size, np.float32)), share(self.size, part))
