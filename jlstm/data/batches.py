"""Minibatches, as a function of their position: the same seed, pass and index give the same batch, by one version of NumPy."""

import abc
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Float32, Int

from jlstm import checks

T = TypeVar("T")


class Batch(NamedTuple, Generic[T]):
    """Examples, all of one size, and how much each counts: 1, or 0 for those that only fill up the last batch of a pass."""

    examples: T
    weights: Float32[np.ndarray, " size"]


class Batches(abc.ABC, Generic[T]):
    """Something that can be passed over again and again, a pass being an epoch, and begun anywhere in it."""

    size: int
    seed: int | None = None

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of batches in a pass."""

    @abc.abstractmethod
    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[T]]:
        """Yield what is left of a pass.

        Args:
            number: of the pass, from 0.
            start: index of the first batch to yield.
            part: `(i, n)` yields the i-th of n equal shares of each batch, i from 0, for a process that feeds its own shard.

        Raises:
            ValueError: `size` cannot be divided by n, i is not below n, or `start` is beyond the end of the pass.
        """


class Minibatches(Batches[T]):
    """Minibatches of arrays that share their first axis.

    The last batch of a pass is filled up with examples of weight 0: all batches have one size, and nothing is compiled twice.

    Args:
        examples: a tree (a tuple, say) of arrays with as many rows as there are examples.
        size: examples a batch.
        seed: of the orders, another one for each pass; None keeps the given order.

    Raises:
        TypeError: examples that are no arrays with a row each.
        ValueError: a size below 1, a negative seed, no examples, or arrays of different lengths.

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
        """Yield what is left of a pass, as `Batches.epoch` says."""
        rows, order = share(self.size, part), shuffled(self.count, self.seed, number)
        for index in remaining(len(self), start):
            positions = np.arange(index * self.size, (index + 1) * self.size)[rows]
            chosen = order[positions % self.count]
            yield Batch(take(self.examples, chosen), (positions < self.count).astype(np.float32))


def nonnegative(seed: int | None) -> int | None:
    """Return a seed.

    Raises:
        ValueError: it is below 0.
    """
    return None if seed is None else checks.whole("seed", seed, "None", largest=2**128)


def shuffled(count: int, seed: int | None, number: int) -> Int[np.ndarray, " count"]:
    """The order of so many examples in a pass, another one for each seed and number; without a seed the given one."""
    number = checks.whole("number", number)
    return np.arange(count) if seed is None else np.random.default_rng((seed, number)).permutation(count)


def remaining(count: int, start: int) -> range:
    """The indices of a pass's batches from `start` on.

    Raises:
        ValueError: there are fewer batches.
    """
    if not isinstance(start, int | np.integer) or not 0 <= start <= count:
        raise ValueError(f"start must be from 0 to {count}, the number of batches in a pass, got {checks.brief(start)}")
    return range(start, count)


def share(size: int, part: tuple[int, int]) -> slice:
    """The rows of a batch that belong to the i-th of n processes.

    Raises:
        ValueError: the batch cannot be divided by n, or i is not below n.
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
    """Those rows of all arrays of a tree.

    Raises:
        TypeError: it is no tree of arrays, or rows are neither a slice nor whole numbers.
        ValueError: it has no such rows.
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
