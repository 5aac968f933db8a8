"""Batches of sequences of similar length, so that little of a batch is padding."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Shaped

from jlstm.data.batches import Batch, Batches, Minibatches, nonnegative, remaining, shuffled
from jlstm.data.ragged import Ragged, Side, pad


class Bucketed(NamedTuple):
    """Sequences padded to the width of their bucket, their lengths, and what belongs to each."""

    tokens: Shaped[np.ndarray, "size width *features"]
    lengths: Int32[np.ndarray, " size"]
    labels: Shaped[np.ndarray, " size"]


class Buckets(Batches[Bucketed]):
    """Minibatches of sequences, each of one bucket: those up to the first width, those up to the second, and so on.

    There are as many shapes, and so compiled programs, as there are widths. Longer sequences than the last width are cut to it.

    Args:
        tokens: the sequences, of tokens or of real numbers.
        labels: one for each.
        size: sequences a batch.
        widths: of the buckets, growing.
        seed: of the orders, of sequences within their bucket and of batches, another one for each pass; None keeps the given
            order within a bucket and goes from the narrowest to the widest.
        padding, truncating: where sequences are filled up and cut, as in `pad`.

    Raises:
        ValueError: widths that do not grow, no sequences, not a label for each, a size below 1, or a negative seed.

    Examples:
        >>> from jlstm.data import Buckets, Ragged
        >>> batches = Buckets(Ragged.of([[1, 2, 3], [4], [5, 6], [7]]), [0, 1, 0, 1], size=2, widths=(2, 3))
        >>> [batch.examples.tokens.tolist() for batch in batches.epoch(0)]
        [[[4, 0], [5, 6]], [[7, 0], [4, 0]], [[1, 2, 3], [1, 2, 3]]]
    """

    def __init__(
        self,
        tokens: Ragged | Iterable[Sequence[Any] | np.ndarray],
        labels: Sequence[int] | np.ndarray,
        size: int,
        widths: Sequence[int],
        seed: int | None = None,
        *,
        padding: Side = "post",
        truncating: Side = "post",
    ) -> None:
        if not widths or any(narrow >= wide for narrow, wide in pairwise((0, *widths))):
            raise ValueError(f"widths must be at least one number above 0, and grow, got {list(widths)}")
        labels, tokens = np.asarray(labels), tokens if isinstance(tokens, Ragged) else Ragged.of(tokens)
        if not len(tokens) == len(labels) > 0:
            raise ValueError(
                f"there must be sequences, and a label for each, got {len(tokens)} sequences and {len(labels)} labels"
            )
        self.size, self.seed = size, nonnegative(seed)
        seeds = [None] * len(widths) if seed is None else np.random.SeedSequence(seed).generate_state(len(widths)).tolist()
        bucket = np.searchsorted(widths, np.minimum(tokens.lengths, widths[-1]))
        self._buckets: list[Minibatches[Bucketed]] = []
        for number, width in enumerate(widths):
            if (chosen := np.flatnonzero(bucket == number)).size:
                rows = tokens.take(chosen)
                padded = pad(rows, width, padding=padding, truncating=truncating)
                examples = Bucketed(padded, np.minimum(rows.lengths, width).astype(np.int32), labels[chosen])
                self._buckets.append(Minibatches(examples, size, seeds[number]))

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[Bucketed]]:
        """Yield what is left of a pass, as `Batches.epoch` says."""
        which = np.repeat(np.arange(len(self._buckets)), [len(bucket) for bucket in self._buckets])
        which = which[shuffled(len(self), self.seed, number)]
        left = which[remaining(len(self), start).start :]
        begun = np.bincount(which[:start], minlength=len(self._buckets)).tolist()
        sources = [bucket.epoch(number, first, part) for bucket, first in zip(self._buckets, begun, strict=True)]
        for bucket in left:
            yield next(sources[bucket])
