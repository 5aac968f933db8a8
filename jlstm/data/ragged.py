"""Sequences of different lengths, in one array; and padded to one length."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Int, Int32, Shaped

from jlstm import checks

Side = Literal["pre", "post"]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequence i is `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: of all sequences, one behind the other.
        offsets: where each sequence begins, and the end of the last one.

    Raises:
        ValueError: offsets that do not begin at 0, fall somewhere, or end elsewhere than `values`.

    Examples:
        >>> from jlstm.data import Ragged
        >>> words = Ragged.of([[1, 2, 3], [], [4]])
        >>> len(words), words.lengths.tolist(), words[0].tolist(), words.take([2, 0]).values.tolist()
        (3, [3, 0, 1], [1, 2, 3], [4, 1, 2, 3])
    """

    values: Shaped[np.ndarray, " total"]
    offsets: Int[np.ndarray, " size+1"]

    def __post_init__(self) -> None:
        ends = self.offsets[[0, -1]].tolist() if len(self.offsets) else []
        if ends != [0, len(self.values)] or np.any(self.lengths < 0):
            raise ValueError(
                f"offsets must rise from 0 to {len(self.values)}, the number of values, got {self.offsets}: "
                "use Ragged.of(sequences)"
            )

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int] | np.ndarray]) -> "Ragged":
        """Join sequences of whole numbers, which become int32.

        Raises:
            TypeError: something else than sequences of whole numbers.
            ValueError: numbers beyond int32.
        """
        arrays = [np.asarray(sequence) for sequence in sequences]
        for array in arrays:
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise TypeError(f"a sequence must be a list or an array of whole numbers, got {array.tolist()!r:.60}")
        values = np.concatenate([np.zeros(0, np.int32), *(array for array in arrays if array.size)])
        if values.size and not -(2**31) <= values.min() <= values.max() < 2**31:
            raise ValueError(f"the numbers of sequences must fit into int32, got some from {values.min()} to {values.max()}")
        return cls(values.astype(np.int32), _offsets([len(array) for array in arrays]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        index = range(len(self))[index]
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> Int[np.ndarray, " size"]:
        """The length of each sequence."""
        return np.diff(self.offsets)

    def take(self, indices: Sequence[int] | slice | np.ndarray) -> "Ragged":
        """Those sequences, in that order: positions, a slice, or a boolean for each sequence."""
        chosen = np.arange(len(self))[indices]
        lengths = self.lengths[chosen]
        return Ragged(self.values[_spans(self.offsets[chosen], lengths)], _offsets(lengths))

    def keep(self, kept: Bool[np.ndarray, " total"]) -> "Ragged":
        """The sequences without the values where `kept` is false."""
        return Ragged(self.values[kept], _offsets(kept)[self.offsets])

    def prefixed(self, value: int) -> "Ragged":
        """The sequences with one value in front of each."""
        return Ragged(np.insert(self.values, self.offsets[:-1], value), self.offsets + np.arange(len(self.offsets)))


def pad(
    sequences: Ragged | Iterable[Sequence[int] | np.ndarray],
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

    Returns:
        A row for each sequence.

    Raises:
        TypeError: something else than sequences of whole numbers.
        ValueError: a length below 1, numbers beyond int32, or another side than "pre" and "post".

    Examples:
        >>> from jlstm.data import pad
        >>> pad([[1, 2, 3], [4]], 2).tolist(), pad([[1, 2, 3], [4]], 2, padding="post", truncating="post").tolist()
        ([[2, 3], [0, 4]], [[1, 2], [4, 0]])
    """
    length = checks.positive("length", length)
    checks.one_of("padding", padding, get_args(Side))
    checks.one_of("truncating", truncating, get_args(Side))
    rows = sequences if isinstance(sequences, Ragged) else Ragged.of(sequences)
    kept = np.minimum(rows.lengths, length)
    sources = rows.offsets[1:] - kept if truncating == "pre" else rows.offsets[:-1]
    targets = np.arange(len(rows)) * length + (length - kept if padding == "pre" else 0)
    padded = np.full(len(rows) * length, value, np.int32)
    padded[_spans(targets, kept)] = rows.values[_spans(sources, kept)]
    return padded.reshape(len(rows), length)


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The positions of values that lie in spans, one span behind the other."""
    offsets = _offsets(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
