"""What 06_long_memory.py learns: two tasks that need a long memory, and an endless supply of sequences.

Both were set by Hochreiter & Schmidhuber 1997 or after them; adding in the form of Le, Jaitly & Hinton 2015, copying in that of
Arjovsky, Shah & Bengio 2016.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from jlstm.data import Batch, Batches, share, take

KINDS, SYMBOLS = 8, 10  # of the copy task: kinds of symbols, and how many are to be remembered
Task = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]


def adding(draw: np.random.Generator, size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random numbers in [0, 1) and marks, one in each half (size, length, 2); and the sums of the two marked numbers (size,)."""
    values, marks = draw.random((size, length), np.float32), np.zeros((size, length), np.float32)
    for first, last in ((0, length // 2), (length // 2, length)):
        marks[np.arange(size), draw.integers(first, last, size)] = 1
    return np.stack([values, marks], -1), (values * marks).sum(1)


def copy(draw: np.random.Generator, size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols, `length` blanks with a sign at their end, more blanks, all one-hot (size, length + 20, 10); and the symbols."""
    symbols = draw.integers(0, KINDS, (size, SYMBOLS))
    indices = np.pad(symbols, ((0, 0), (0, length + SYMBOLS)), constant_values=KINDS)
    indices[:, SYMBOLS + length - 1] = KINDS + 1
    return np.eye(KINDS + 2, dtype=np.float32)[indices], symbols


@dataclass
class Sequences(Batches):
    """An endless supply: every batch of every pass is drawn anew, from a seed of its own."""

    task: Task
    length: int
    size: int
    seed: int

    def __len__(self) -> int:
        return 100

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Draw what is left of a pass."""
        for index in range(start, len(self)):
            examples = self.task(np.random.default_rng((self.seed, number, index)), self.size, self.length)
            yield take(Batch(examples, np.ones(self.size, np.float32)), share(self.size, part))
