"""Minibatches as a function of seed, pass and index.

The same three numbers give the same batch, as long as the version of NumPy is the same.
"""

import abc
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Float32, Int

from jlstm._src import checks

T = TypeVar("T")


class Batch(NamedTuple, Generic[T]):
    """A batch of examples.

    Attributes:
        examples: A pytree of arrays whose first axis is the batch.
        weights: 1 for each example, or 0 for an example that only fills up the last batch of a pass.
    """

    examples: T
    weights: Float32[np.ndarray, " size"]


class Batches(abc.ABC, Generic[T]):
    """Base class of data to iterate over in passes (epochs). A pass can start at any batch.

    Attributes:
        size: Number of examples per batch.
        seed: Seed of the order, or None for a fixed order.
    """

    size: int
    seed: int | None = None

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of batches in a pass."""

    @abc.abstractmethod
    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[T]]:
        """Yield the remaining batches of a pass.

        Args:
            number: Number of the pass, from 0.
            start: Index of the first batch to yield.
            part: `(i, n)` selects the i-th of n equal shares of each batch, counted from 0. Each of n processes loads one share.

        Yields:
            Batches with `size / n` examples.

        Raises:
            ValueError: `size` is not divisible by n, i is not below n, or `start` is beyond the end of the pass.
        """


class Minibatches(Batches[T]):
    """Minibatches of arrays that share their first axis.

    The last batch of a pass is filled up with examples of weight 0. All batches thus have the same size, and a step is compiled
    only once.

    Args:
        examples: A pytree of arrays, for example a tuple, with one row per example.
        size: Number of examples per batch.
        seed: Seed for the order, which differs in each pass. None keeps the given order.

    Raises:
        TypeError: The leaves of `examples` are not arrays with rows.
        ValueError: `size` is below 1, `seed` is negative, there are no examples, or arrays have different lengths.

    Examples:
        >>> import numpy as np
        >>> from jlstm.data import Minibatches
        >>> batches = Minibatches(np.arange(5), size=2)
        >>> len(batches)
        3
        >>> [(batch.examples.tolist(), batch.weights.tolist()) for batch in batches.epoch(0)]
        [([0, 1], [1.0, 1.0]), ([2, 3], [1.0, 1.0]), ([4, 0], [1.0, 0.0])]
    """

    def __init__(self, examples: T, size: int, seed: int | None = None) -> None:
        leaves = jax.tree.leaves(examples)
        if not all(getattr(leaf, "shape", ()) for leaf in leaves):
            raise TypeError("examples must be arrays with a row for each: pad sequences, make lists arrays with np.asarray")
        lengths = sorted({len(leaf) for leaf in leaves})
        if len(lengths) != 1 or lengths == [0]:
            raise ValueError(f"examples must be arrays with one and the same number of rows, at least 1, got {lengths}")
        self.examples, self.size, self.seed = examples, checks.positive("size", size), nonnegative(seed)
        (self.count,) = lengths

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[T]]:
        rows, order = share(self.size, part), shuffled(self.count, self.seed, number)
        for index in remaining(len(self), start):
            positions = np.arange(index * self.size, (index + 1) * self.size)[rows]
            indices = order[positions % self.count]  # beyond the end, begin again; the weights below are 0 there
            yield Batch(take(self.examples, indices), (positions < self.count).astype(np.float32))


def nonnegative(seed: int | None) -> int | None:
    """Return `seed` after checking that it is None or a nonnegative integer.

    Raises:
        ValueError: The seed is negative or too large.
    """
    return None if seed is None else checks.whole("seed", seed, "None", largest=2**128)


def shuffled(count: int, seed: int | None, number: int) -> Int[np.ndarray, " count"]:
    """Return the order of `count` examples in a pass: a permutation that depends on seed and pass, or 0, 1, … without a seed."""
    number = checks.whole("number", number)
    # The pass is a part of the seed: a resumed run gets its order without drawing those of earlier passes.
    return np.arange(count) if seed is None else np.random.default_rng((seed, number)).permutation(count)


def remaining(count: int, start: int) -> range:
    """Return the indices of the batches of a pass from `start` on.

    Raises:
        ValueError: The pass has fewer than `start` batches.
    """
    if not isinstance(start, int | np.integer) or not 0 <= start <= count:
        raise ValueError(f"start must be from 0 to {count}, the number of batches in a pass, got {checks.brief(start)}")
    return range(start, count)


def share(size: int, part: tuple[int, int]) -> slice:
    """Return the rows of a batch that belong to one of several processes.

    Args:
        size: Number of examples per batch.
        part: `(i, n)`, the i-th of n processes, counted from 0.

    Returns:
        A slice of `size / n` rows.

    Raises:
        ValueError: `size` is not divisible by n, or i is not below n.

    Examples:
        >>> share(8, (1, 4))
        slice(2, 4, None)
    """
    pair = checks.several("part", part, "(0, 1)")
    if len(pair) != 2 or not all(isinstance(number, int | np.integer) for number in pair) or not 0 <= pair[0] < pair[1]:
        raise ValueError(f"part must be (i, n) with i from 0 to n - 1, got {checks.brief(part)}")
    (index, count), size = pair, checks.positive("size", size)
    if size % count:
        raise ValueError(
            f"a batch of {size} cannot be divided among {count} processes: choose a size that is a multiple of {count}"
        )
    return slice(index * size // count, (index + 1) * size // count)


def take(tree: Any, rows: slice | np.ndarray) -> Any:
    """Return the given rows of every array in a pytree.

    Args:
        tree: A pytree of arrays with the same number of rows.
        rows: A slice, row numbers, or one boolean per row.

    Returns:
        A pytree like `tree`.

    Raises:
        TypeError: `tree` has a leaf that is not an array, or `rows` is neither a slice nor integers nor booleans.
        ValueError: A row number is out of range.

    Examples:
        >>> import numpy as np
        >>> images, labels = take((np.eye(3), np.arange(3)), np.array([2, 0]))
        >>> labels.tolist()
        [2, 0]
    """
    if not jax.tree.leaves(tree) or not all(getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(tree)):
        raise TypeError(f"tree must be arrays with a row for each example, got {checks.brief(tree)}")
    if not isinstance(rows, slice):
        rows = np.asarray(rows)
        if rows.dtype.kind not in "iub" or rows.ndim != 1:
            raise TypeError(f"rows must be a slice or whole numbers, one for each row, got {checks.brief(rows)}")
        count = min(len(leaf) for leaf in jax.tree.leaves(tree))
        if rows.size and rows.dtype.kind != "b" and not 0 <= rows.min() <= rows.max() < count:
            raise ValueError(f"rows must be from 0 to {count - 1}, got some from {rows.min()} to {rows.max()}")
    return jax.tree.map(lambda leaf: leaf[rows], tree)
