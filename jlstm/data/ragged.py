"""Sequences of different lengths, in one array; and padded to one length."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Shaped

from jlstm import checks

Side = Literal["pre", "post"]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequence i is `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: of all sequences, one behind the other: whole numbers, or real ones, each step a number or an array of features.
        offsets: where each sequence begins, and the end of the last one.

    Raises:
        ValueError: offsets that do not begin at 0, fall somewhere, or end elsewhere than `values`.

    Examples:
        >>> from jlstm.data import Ragged
        >>> words = Ragged.of([[1, 2, 3], [], [4]])
        >>> len(words), words.lengths.tolist(), words[0].tolist(), words.take([2, 0]).values.tolist()
        (3, [3, 0, 1], [1, 2, 3], [4, 1, 2, 3])
    """

    values: Shaped[np.ndarray, "total *features"]
    offsets: Int[np.ndarray, " size+1"]

    def __post_init__(self) -> None:
        ends = self.offsets[[0, -1]].tolist() if len(self.offsets) else []
        if ends != [0, len(self.values)] or np.any(self.lengths < 0):
            raise ValueError(
                f"offsets must rise from 0 to {len(self.values)}, the number of values, got {self.offsets}: "
                "use Ragged.of(sequences)"
            )

    @classmethod
    def of(cls, sequences: Iterable[Sequence[Any] | np.ndarray]) -> "Ragged":
        """Join sequences of shape (time,) or (time, *features).

        Whole numbers become int32. Real ones keep the dtype of their arrays; where all are lists, they become float32.

        Raises:
            TypeError: something else than sequences of numbers.
            ValueError: whole numbers beyond int32, or sequences with other features than others.
        """
        if isinstance(sequences, str) or not isinstance(sequences, Iterable):
            raise TypeError(f"sequences must be several lists or arrays of numbers, got {checks.brief(sequences)}")
        arrays = [_sequence(sequence) for sequence in sequences]
        spoken = [array for array in arrays if array.shape != (0,)]  # an empty list has no features, and no dtype
        if len({array.shape[1:] for array in spoken}) > 1:
            shapes = sorted({array.shape[1:] for array in spoken})
            raise ValueError(f"all sequences must have the same features, got the shapes {shapes[0]} and {shapes[1]} of a step")
        values = np.concatenate(spoken or [np.zeros(0, np.int32)], dtype=_dtype(spoken))
        if values.size and values.dtype.kind in "iu" and not -(2**31) <= values.min() <= values.max() < 2**31:
            raise ValueError(f"the numbers of sequences must fit into int32, got some from {values.min()} to {values.max()}")
        return cls(values.astype(np.int32) if values.dtype.kind in "iu" else values, _offsets([len(array) for array in arrays]))

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

    def prefixed(self, value: Any) -> "Ragged":
        """The sequences with one step in front of each."""
        return Ragged(np.insert(self.values, self.offsets[:-1], value, axis=0), self.offsets + np.arange(len(self.offsets)))


def pad(
    sequences: Ragged | Iterable[Sequence[Any] | np.ndarray],
    length: int,
    *,
    padding: Side = "pre",
    truncating: Side = "pre",
    value: float = 0,
) -> Shaped[np.ndarray, "size length *features"]:
    """Bring all sequences to one length, as Keras's `pad_sequences` does.

    How many steps of a row are no padding is `np.minimum(sequences.lengths, length)`; with `padding="post"` these are the
    `lengths` that `Layer.apply` takes, and `jlstm.lengths_to_mask` makes a mask of them.

    Args:
        sequences: of shape (time,) or (time, *features), whole or real numbers, as `Ragged.of` takes them.
        length: of the rows of the result.
        padding: where `value` is put in what is too short: in front or behind.
        truncating: where what is too long loses steps.
        value: the padding, of each feature.

    Returns:
        A row for each sequence: of whole numbers in int32, of real ones in their dtype.

    Raises:
        TypeError: something else than sequences of numbers, or a `value` with a fraction among whole numbers.
        ValueError: a length below 1, whole numbers beyond int32, other features, or another side than "pre" and "post".

    Examples:
        >>> from jlstm.data import pad
        >>> pad([[1, 2, 3], [4]], 2).tolist(), pad([[1, 2, 3], [4]], 2, padding="post", truncating="post").tolist()
        ([[2, 3], [0, 4]], [[1, 2], [4, 0]])
    """
    length = checks.positive("length", length)
    checks.one_of("padding", padding, get_args(Side))
    checks.one_of("truncating", truncating, get_args(Side))
    rows = sequences if isinstance(sequences, Ragged) else Ragged.of(sequences)
    dtype = np.dtype(np.int32) if rows.values.dtype.kind in "iu" else rows.values.dtype
    fill = checks.number("value", value)
    if dtype == np.int32 and not (fill.is_integer() and -(2**31) <= fill < 2**31):
        raise TypeError(f"value must be a whole number of int32 among whole numbers, got {value!r}: pass sequences of floats")
    kept = np.minimum(rows.lengths, length)
    sources = rows.offsets[1:] - kept if truncating == "pre" else rows.offsets[:-1]
    targets = np.arange(len(rows)) * length + (length - kept if padding == "pre" else 0)
    padded = np.full((len(rows) * length, *rows.values.shape[1:]), fill, dtype)
    padded[_spans(targets, kept)] = rows.values[_spans(sources, kept)]
    return padded.reshape(len(rows), length, *rows.values.shape[1:])


def _sequence(sequence: Any) -> np.ndarray:
    """One sequence as an array; a list of real numbers is float32."""
    try:
        array = np.asarray(sequence)
    except ValueError as error:  # rows of several lengths
        raise TypeError(f"a sequence must be a list or an array of numbers, got {checks.brief(sequence)}") from error
    if array.ndim == 0 or (array.size and not (array.dtype.kind in "iu" or jnp.issubdtype(array.dtype, jnp.floating))):
        raise TypeError(f"a sequence must be a list or an array of numbers, got {checks.brief(sequence)}")
    if not array.size and not hasattr(sequence, "dtype"):
        return array.astype(np.int32)
    return array if hasattr(sequence, "dtype") or array.dtype.kind != "f" else array.astype(np.float32)


def _dtype(arrays: Sequence[np.ndarray]) -> np.dtype:
    """That of real numbers, if there are some; whole ones among them follow."""
    real = [array.dtype for array in arrays if array.dtype.kind not in "iu"]
    return np.result_type(*(real or [array.dtype for array in arrays] or [np.dtype(np.int32)]))


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The positions of values that lie in spans, one span behind the other."""
    offsets = _offsets(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
