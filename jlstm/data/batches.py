"""Minibatches, as a function of their position: the same seed, pass and index give the same batch, on any day and machine."""

import abc
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Float32

from jlstm import checks

T = TypeVar("T")


class Batch(NamedTuple, Generic[T]):
    """Examples, all of one size, and how much each counts: 1, or 0 for those that only fill up the last batch of a pass."""

    examples: T
    weights: Float32[np.ndarray, " size"]


class Batches(abc.ABC, Generic[T]):
    """Something that can be passed over again and again, a pass being an epoch, and begun anywhere in it."""

    size: int

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of batches in a pass."""

    @abc.abstractmethod
    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[T]]:
        """Yield what is left of a pass.

        Args:
            number: of the pass, from 0.
            start: index of the first batch to yield.
            part: `(i, n)` yields the i-th of n equal shares of each batch, for a process that feeds its own shard.

        Raises:
            ValueError: `size` cannot be divided by n.
        """


class Minibatches(Batches[T]):
    """Minibatches of arrays that share their first axis.

    The last batch of a pass is filled up with examples of weight 0: all batches have one size, and nothing is compiled twice.

    Args:
        examples: a tree (a tuple, say) of arrays with as many rows as there are examples.
        size: examples a batch.
        seed: of the orders, another one for each pass; None keeps the given order.

    Raises:
        ValueError: a size below 1, no examples, or arrays of different lengths.

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
        lengths = {len(leaf) for leaf in jax.tree.leaves(examples)}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(f"examples must be arrays with one and the same number of rows, at least 1, got {sorted(lengths)}")
        self.examples, self.size, self.seed = examples, checks.positive("size", size), seed
        (self.count,) = lengths

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[T]]:
        """Yield what is left of a pass, as `Batches.epoch` says."""
        rows = share(self.size, part)
        order = self._order(number)
        for index in range(start, len(self)):
            positions = np.arange(index * self.size, (index + 1) * self.size)[rows]
            chosen = order[positions % self.count]
            yield Batch(take(self.examples, chosen), (positions < self.count).astype(np.float32))

    def _order(self, number: int) -> np.ndarray:
        if self.seed is None:
            return np.arange(self.count)
        return np.random.default_rng((self.seed, number)).permutation(self.count)


def share(size: int, part: tuple[int, int]) -> slice:
    """The rows of a batch that belong to the i-th of n processes.

    Raises:
        ValueError: the batch cannot be divided by n.
    """
    index, count = part
    if size % count:
        raise ValueError(
            f"a batch of {size} cannot be divided among {count} processes: choose a size that is a multiple of {count}"
        )
    return slice(index * size // count, (index + 1) * size // count)


def take(tree: Any, rows: slice | np.ndarray) -> Any:
    """Those rows of all arrays of a tree."""
    return jax.tree.map(lambda leaf: leaf[rows], tree)
