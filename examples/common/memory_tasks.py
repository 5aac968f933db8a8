"""The tasks of 06_long_memory.py, which need a long memory.

Both go back to Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735. The adding task has the form of Le,
Jaitly & Hinton 2015, https://arxiv.org/abs/1504.00941, and the copy task that of Arjovsky, Shah & Bengio 2016,
https://arxiv.org/abs/1511.06464.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from jlstm.data import Batch, Batches, share, take

KINDS, SYMBOLS = 8, 10  # copy task: kinds of symbols, and number of symbols to remember
Task = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]


def adding(draw: np.random.Generator, size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw sequences of the adding task.

    Args:
        draw: Random generator.
        size: Number of sequences.
        length: Number of steps.

    Returns:
        Random numbers in [0, 1) and marks, one mark in each half, of shape (size, length, 2); and the sums of the two marked
        numbers, of shape (size,).
    """
    values, marks = draw.random((size, length), np.float32), np.zeros((size, length), np.float32)
    for first, last in ((0, length // 2), (length // 2, length)):
        marks[np.arange(size), draw.integers(first, last, size)] = 1
    return np.stack([values, marks], -1), (values * marks).sum(1)


def copy(draw: np.random.Generator, size: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw sequences of the copy task.

    Args:
        draw: Random generator.
        size: Number of sequences.
        length: Number of blanks between symbols and answer, the last of which is the signal to answer.

    Returns:
        Ten symbols, `length` blanks and ten more blanks, one-hot, of shape (size, length + 20, 10); and the symbols, of shape
        (size, 10).
    """
    symbols = draw.integers(0, KINDS, (size, SYMBOLS))
    indices = np.pad(symbols, ((0, 0), (0, length + SYMBOLS)), constant_values=KINDS)
    indices[:, SYMBOLS + length - 1] = KINDS + 1
    return np.eye(KINDS + 2, dtype=np.float32)[indices], symbols


@dataclass
class Sequences(Batches):
    """Batches of new sequences. Every batch of every pass has its own random seed."""

    task: Task
    length: int
    size: int
    seed: int

    def __len__(self) -> int:
        return 100

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """Yield the remaining batches of a pass. A pass has 100 batches."""
        for index in range(start, len(self)):
            examples = self.task(np.random.default_rng((self.seed, number, index)), self.size, self.length)
            yield take(Batch(examples, np.ones(self.size, np.float32)), share(self.size, part))
