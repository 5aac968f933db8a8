"""Minibatches."""

from collections.abc import Iterator

import numpy as np

from jlstm.data.dataset import Split


def batches(split: Split, size: int, seed: int) -> Iterator[Split]:
    """Yield minibatches without end: pass after pass over the split, each in a new order.

    What is left at the end of a pass and does not fill a batch is left out of that pass.

    Args:
        split: where to take them from.
        size: images a batch.
        seed: of the orders.

    Raises:
        ValueError: a size below 1 or beyond that of the split.

    Examples:
        >>> import numpy as np
        >>> from jlstm.data import Split, batches
        >>> split = Split(np.zeros((5, 2, 2), np.float32), np.arange(5, dtype=np.int32))
        >>> next(batches(split, 2, seed=0)).images.shape
        (2, 2, 2)
    """
    if not 1 <= size <= len(split.labels):
        raise ValueError(f"size must lie between 1 and the {len(split.labels)} images of the split, got {size}")
    return _passes(split, size, np.random.default_rng(seed))


def _passes(split: Split, size: int, generator: np.random.Generator) -> Iterator[Split]:
    while True:
        order = generator.permutation(len(split.labels))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield Split(split.images[chosen], split.labels[chosen])
