"""Sequences of different lengths, in one array; and padded to one length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int, Int32, Shaped

Side = Literal["pre", "post"]


@dataclass(frozen=True)
class Ragged:
    """Sequence i is `values[offsets[i]:offsets[i + 1]]`.

    Examples:
        >>> import numpy as np
        >>> from jlstm.data import Ragged
        >>> words = Ragged.of([[1, 2, 3], [], [4]])
        >>> len(words), words.lengths.tolist(), words[0].tolist(), words.take([2, 0]).values.tolist()
        (3, [3, 0, 1], [1, 2, 3], [4, 1, 2, 3])
    """

    values: Shaped[np.ndarray, " total"]
    offsets: Int[np.ndarray, " size+1"]

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> "Ragged":
        """Join sequences of numbers."""
        arrays = [np.asarray(sequence, np.int32) for sequence in sequences]
        lengths = np.array([len(array) for array in arrays], np.int64)
        return cls(np.concatenate([np.zeros(0, np.int32), *arrays]), _offsets(lengths))

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

    def take(self, indices: Sequence[int] | np.ndarray) -> "Ragged":
        """Those sequences, in that order."""
        chosen = np.arange(len(self))[indices]
        lengths = self.lengths[chosen]
        offsets = _offsets(lengths)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(self.values[np.repeat(self.offsets[:-1][chosen], lengths) + within], offsets)

    def keep(self, kept: np.ndarray) -> "Ragged":
        """The sequences without the values where `kept`, which is as long as `values`, is false."""
        return Ragged(self.values[kept], np.concatenate([[0], np.cumsum(kept)])[self.offsets])

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

    Args:
        sequences: of numbers.
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
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in ("pre", "post"):
            raise ValueError(f"{name} must be 'pre' or 'post', got {side!r}")
    rows = sequences if isinstance(sequences, Ragged) else Ragged.of(sequences)
    lengths = np.minimum(rows.lengths, length)
    first = rows.offsets[1:] - lengths if truncating == "pre" else rows.offsets[:-1]
    steps = np.arange(length)[None] - (length - lengths if padding == "pre" else np.zeros_like(lengths))[:, None]
    valid = (steps >= 0) & (steps < lengths[:, None])
    padded = np.full(valid.shape, value, np.int32)
    padded[valid] = rows.values[(first[:, None] + steps)[valid]]
    return padded


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])
