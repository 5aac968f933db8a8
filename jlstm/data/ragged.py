"""Sequences of different lengths, in one array; and padded to one length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int, Int32, Shaped

from jlstm import checks

Side = Literal["pre", "post"]
Rows = slice | Sequence[int] | np.ndarray


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequence i is `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: of all sequences, one after the other.
        offsets: where each begins, and at last their number.

    Raises:
        ValueError: offsets that do not rise from 0 to the number of values.

    Examples:
        >>> from jlstm.data import Ragged
        >>> words = Ragged.of([[1, 2, 3], [], [4]])
        >>> len(words), words.lengths.tolist(), words[0].tolist(), words.take([2, 0]).values.tolist()
        (3, [3, 0, 1], [1, 2, 3], [4, 1, 2, 3])
    """

    values: Shaped[np.ndarray, " total"]
    offsets: Int[np.ndarray, " size+1"]

    def __post_init__(self) -> None:
        if not (len(self.offsets) and self.offsets[0] == 0 and (self.lengths >= 0).all()):
            raise ValueError("offsets must begin with 0 and never fall: sequence i is values[offsets[i]:offsets[i + 1]]")
        if self.offsets[-1] != len(self.values):
            raise ValueError(f"the last offset must be the number of values, {len(self.values)}, got {self.offsets[-1]}")

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]] | np.ndarray) -> "Ragged":
        """Join sequences of whole numbers."""
        arrays = [np.asarray(sequence, np.int32) for sequence in sequences]
        return cls(np.concatenate([np.zeros(0, np.int32), *arrays]), _offsets([len(array) for array in arrays]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[slice(*self.offsets[range(len(self))[index] :][:2])]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> Int[np.ndarray, " size"]:
        """The length of each sequence."""
        return np.diff(self.offsets)

    def take(self, rows: Rows) -> "Ragged":
        """Those sequences, in that order: positions, a slice, or a boolean for each."""
        chosen = np.arange(len(self))[rows]
        lengths = self.lengths[chosen]
        return Ragged(self.values[_spans(self.offsets[chosen], lengths)], _offsets(lengths))

    def keep(self, kept: np.ndarray) -> "Ragged":
        """The sequences without the values where `kept`, which is as long as `values`, is false."""
        return Ragged(self.values[kept], _offsets(kept)[self.offsets])

    def prefixed(self, value: int) -> "Ragged":
        """The sequences with one value in front of each."""
        return Ragged(np.insert(self.values, self.offsets[:-1], value), self.offsets + np.arange(len(self.offsets)))


def pad(
    sequences: Ragged | Sequence[Sequence[int]],
    length: int,
    *,
    padding: Side = "pre",
    truncating: Side = "pre",
    value: int = 0,
) -> Int32[np.ndarray, "size length"]:
    """Bring all sequences to one length, as Keras' `pad_sequences` does.

    How many steps of a row are no padding is `np.minimum(sequences.lengths, length)`.

    Args:
        sequences: of whole numbers.
        length: of the rows of the result.
        padding: where `value` is put in what is too short: in front or behind.
        truncating: where what is too long loses values.
        value: the padding.

    Raises:
        ValueError: a length below 1, or another side than "pre" and "post".

    Examples:
        >>> from jlstm.data import pad
        >>> pad([[1, 2, 3], [4]], 2).tolist(), pad([[1, 2, 3], [4]], 2, padding="post", truncating="post").tolist()
        ([[2, 3], [0, 4]], [[1, 2], [4, 0]])
    """
    checks.positive("length", length)
    checks.one_of("padding", padding, ("pre", "post"))
    checks.one_of("truncating", truncating, ("pre", "post"))
    rows = sequences if isinstance(sequences, Ragged) else Ragged.of(sequences)
    kept = np.minimum(rows.lengths, length)
    sources = rows.offsets[1:] - kept if truncating == "pre" else rows.offsets[:-1]
    targets = np.arange(len(rows)) * length + (length - kept if padding == "pre" else 0)
    padded = np.full((len(rows), length), value, np.int32)
    padded.ravel()[_spans(targets, kept)] = rows.values[_spans(sources, kept)]
    return padded


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The positions start, start + 1 … of spans of the given lengths, one after the other."""
    offsets = _offsets(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
