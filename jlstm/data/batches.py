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
    if seed is not None and seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, or None, got {seed}")
    return seed


def shuffled(count: int, seed: int | None, number: int) -> Int[np.ndarray, " count"]:
    """The order of so many examples in a pass, another one for each seed and number; without a seed the given one."""
    return np.arange(count) if seed is None else np.random.default_rng((seed, number)).permutation(count)


def remaining(count: int, start: int) -> range:
    """The indices of a pass's batches from `start` on.

    Raises:
        ValueError: there are fewer batches.
    """
    if not 0 <= start <= count:
        raise ValueError(f"start must be from 0 to {count}, the number of batches in a pass, got {start}")
    return range(start, count)


def share(size: int, part: tuple[int, int]) -> slice:
    """The rows of a batch that belong to the i-th of n processes.

    Raises:
        ValueError: the batch cannot be divided by n, or i is not below n.
    """
    index, count = part
    if not 0 <= index < count:
        raise ValueError(f"part must be (i, n) with i from 0 to n - 1, got {part}")
    if size % count:
        raise ValueError(
            f"a batch of {size} cannot be divided among {count} processes: choose a size that is a multiple of {count}"
        )
    return slice(index * size // count, (index + 1) * size // count)


def take(tree: Any, rows: slice | np.ndarray) -> Any:
    """Those rows of all arrays of a tree."""
    return jax.tree.map(lambda leaf: leaf[rows], tree)
