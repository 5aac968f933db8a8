"""Sequences of different lengths in one array, and padding to a common length."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, Shaped

from jlstm._src import checks

Side = Literal["pre", "post"]


@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences of different lengths, concatenated: sequence i is `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: The concatenated sequences, of an integer or floating dtype and of shape (total,) or (total, *features).
        offsets: The start of each sequence, and the end of the last one.

    Raises:
        TypeError: `values` or `offsets` is not an array, or `values` has another dtype.
        ValueError: `offsets` does not start at 0, decreases, or does not end at `len(values)`.

    Examples:
        >>> from jlstm.data import Ragged
        >>> words = Ragged.of([[1, 2, 3], [], [4]])
        >>> len(words), words.lengths.tolist(), words[0].tolist(), words.take([2, 0]).values.tolist()
        (3, [3, 0, 1], [1, 2, 3], [4, 1, 2, 3])
    """

    values: Shaped[np.ndarray, " total *features"]
    offsets: Int[np.ndarray, " size+1"]

    def __post_init__(self) -> None:
        for name in ("values", "offsets"):
            if not getattr(getattr(self, name), "shape", ()):
                raise TypeError(f"{name} must be an array, got {checks.brief(getattr(self, name))}: use Ragged.of(sequences)")
        if self.offsets.ndim != 1 or self.offsets.dtype.kind not in "iu":
            raise ValueError(
                f"offsets must be whole numbers in one row, got {checks.brief(self.offsets)}: use Ragged.of(sequences)"
            )
        if self.values.dtype.kind not in "iu" and not jnp.issubdtype(self.values.dtype, jnp.floating):
            raise TypeError(f"values must be whole or real numbers, got {checks.brief(self.values)}: use Ragged.of(sequences)")
        ends = self.offsets[[0, -1]].tolist() if len(self.offsets) else []
        if ends != [0, len(self.values)] or np.any(self.lengths < 0):
            raise ValueError(
                f"offsets must rise from 0 to {len(self.values)}, the number of values, got {checks.brief(self.offsets)}: "
                "use Ragged.of(sequences)"
            )

    @classmethod
    def of(cls, sequences: Iterable[Sequence[Any] | np.ndarray]) -> "Ragged":
        """Concatenate sequences.

        Integers become int32. Arrays of real numbers keep their dtype. Lists of real numbers become float32.

        Args:
            sequences: Lists or arrays of shape (time,) or (time, *features).

        Returns:
            The sequences in one array.

        Raises:
            TypeError: `sequences` is not an iterable of sequences of numbers.
            ValueError: An integer does not fit into int32, or sequences have different features.
        """
        if isinstance(sequences, str) or not isinstance(sequences, Iterable):
            raise TypeError(f"sequences must be several lists or arrays of numbers, got {checks.brief(sequences)}")
        arrays = [_sequence(sequence) for sequence in sequences]
        nonempty = [array for array in arrays if array.shape != (0,)]  # an empty list has neither features nor a dtype
        if len({array.shape[1:] for array in nonempty}) > 1:
            shapes = sorted({array.shape[1:] for array in nonempty})
            raise ValueError(f"all sequences must have the same features, got the shapes {shapes[0]} and {shapes[1]} of a step")
        values = np.concatenate(nonempty or [np.zeros(0, np.int32)], dtype=_dtype(nonempty))
        if values.size and values.dtype.kind in "iu" and not -(2**31) <= values.min() <= values.max() < 2**31:
            raise ValueError(f"the numbers of sequences must fit into int32, got some from {values.min()} to {values.max()}")
        return cls(values.astype(np.int32) if values.dtype.kind in "iu" else values, _offsets([len(array) for array in arrays]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        # `range` takes negative positions and raises IndexError, as a list does.
        index = range(len(self))[index]
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> Int[np.ndarray, " size"]:
        """The length of each sequence."""
        return np.diff(self.offsets)

    def take(self, indices: Sequence[int] | slice | np.ndarray) -> "Ragged":
        """Return selected sequences. `indices` are positions, a slice, or one boolean per sequence."""
        positions = np.arange(len(self))[indices]
        lengths = self.lengths[positions]
        return Ragged(self.values[_spans(self.offsets[positions], lengths)], _offsets(lengths))

    def keep(self, kept: Bool[np.ndarray, " total"]) -> "Ragged":
        """Return the sequences without the values at which `kept` is false."""
        # An offset becomes the number of kept values before it.
        return Ragged(self.values[kept], _offsets(kept)[self.offsets])

    def prefixed(self, value: Any) -> "Ragged":
        """Return the sequences with the step `value` inserted in front of each."""
        # Sequence i moves by i, one place for each step inserted before its first value.
        return Ragged(np.insert(self.values, self.offsets[:-1], value, axis=0), self.offsets + np.arange(len(self.offsets)))


def pad(
    sequences: Ragged | Iterable[Sequence[Any] | np.ndarray],
    length: int,
    *,
    padding: Side = "pre",
    truncating: Side = "pre",
    value: float = 0,
) -> Shaped[np.ndarray, "size length *features"]:
    """Pad or truncate all sequences to one length, like `pad_sequences` of Keras.

    The number of steps of each row that are not padding is `np.minimum(sequences.lengths, length)`. With `padding="post"` this is
    the argument `lengths` of `Layer.apply`, and `jlstm.lengths_to_mask` converts it to a mask.

    Args:
        sequences: Sequences of shape (time,) or (time, *features), as for `Ragged.of`.
        length: Number of steps of each row of the result.
        padding: Whether to pad short sequences at the start ("pre") or at the end ("post").
        truncating: Whether to remove steps of long sequences at the start ("pre") or at the end ("post").
        value: The value to pad with, in every feature.

    Returns:
        One row per sequence, in int32 for integers and in the dtype of the sequences for real numbers.

    Raises:
        TypeError: `sequences` does not hold sequences of numbers, or `value` is not an int32 and the sequences hold integers.
        ValueError: `length` is below 1 or too large, an integer does not fit into int32, sequences have different features, or
            `padding` or `truncating` is neither "pre" nor "post".

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
    fill = checks.number("value", value, nan=dtype != np.int32)
    if dtype == np.int32 and not (fill.is_integer() and -(2**31) <= fill < 2**31):
        raise TypeError(
            f"value must be a whole number of int32 among whole numbers, got {checks.brief(value)}: pass sequences of floats"
        )
    if len(rows) * length > checks.LARGEST:
        raise ValueError(f"length must be such that the rows fit into memory, got {length} for {len(rows)} sequences")
    kept_lengths = np.minimum(rows.lengths, length)
    # Where the steps of each row come from in `rows.values`, and where they go in the rows of the result, all in one array.
    sources = rows.offsets[1:] - kept_lengths if truncating == "pre" else rows.offsets[:-1]
    targets = np.arange(len(rows)) * length + (length - kept_lengths if padding == "pre" else 0)
    padded = np.full((len(rows) * length, *rows.values.shape[1:]), fill, dtype)
    padded[_spans(targets, kept_lengths)] = rows.values[_spans(sources, kept_lengths)]
    return padded.reshape(len(rows), length, *rows.values.shape[1:])


def _sequence(sequence: Any) -> np.ndarray:
    """Return one sequence as an array. A list of real numbers becomes float32, an empty list int32."""
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
    """Return the common dtype of the real arrays, or of all arrays if none is real. Integers are converted to it."""
    real_dtypes = [array.dtype for array in arrays if array.dtype.kind not in "iu"]
    return np.result_type(*(real_dtypes or [array.dtype for array in arrays] or [np.dtype(np.int32)]))


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the concatenated ranges `start, …, start + length - 1` of all spans."""
    offsets = _offsets(lengths)
    # The value at position p is start + (p - offset), with the start and the offset of the span that p is in.
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
