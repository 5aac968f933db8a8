"""Batches of sequences of similar length, to reduce padding."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Shaped

from jlstm._src import checks
from jlstm.data.batches import Batch, Batches, Minibatches, nonnegative, remaining, shuffled
from jlstm.data.ragged import Ragged, Side, pad


class Bucketed(NamedTuple):
    """A batch of sequences.

    Attributes:
        tokens: Sequences, padded to the width of their bucket.
        lengths: Number of steps of each sequence before padding, at most the width.
        labels: One label per sequence.
    """

    tokens: Shaped[np.ndarray, "size width *features"]
    lengths: Int32[np.ndarray, " size"]
    labels: Shaped[np.ndarray, " size"]


class Buckets(Batches[Bucketed]):
    """Minibatches of sequences from the same bucket.

    A sequence belongs to the bucket with the smallest width that is at least its length. Sequences that are longer than the last
    width are truncated to it. Each width is one shape, so a step is compiled once per width.

    Args:
        tokens: Sequences of tokens or of real numbers.
        labels: One label per sequence.
        size: Number of sequences per batch.
        widths: Widths of the buckets, in increasing order.
        seed: Seed for the order of sequences within a bucket and for the order of batches. Both differ in each pass. None keeps
            the given order within a bucket and goes from the narrowest bucket to the widest.
        padding: Side on which to pad, as in `pad`.
        truncating: Side on which to truncate, as in `pad`.

    Raises:
        ValueError: Widths do not increase, there are no sequences, the number of labels differs, `size` is below 1, or `seed` is
            negative.

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
        checks.positive("size", size)
        widths = checks.several("widths", widths, "(20, 50)")
        integral = all(isinstance(width, int | np.integer) for width in widths)
        if not widths or not integral or any(narrow >= wide for narrow, wide in pairwise((0, *widths))):
            raise ValueError(f"widths must be at least one number above 0, and grow, got {checks.brief(widths)}")
        labels, tokens = checks.rows("labels", labels), tokens if isinstance(tokens, Ragged) else Ragged.of(tokens)
        if not len(tokens) == len(labels) > 0:
            raise ValueError(
                f"there must be sequences, and a label for each, got {len(tokens)} sequences and {len(labels)} labels"
            )
        self.size, self.seed = size, nonnegative(seed)
        # One seed for the order within each bucket.
        seeds = [None] * len(widths) if seed is None else np.random.SeedSequence(seed).generate_state(len(widths)).tolist()
        # For each sequence the first width that is at least its length. Longer ones are truncated, so they go to the last bucket.
        bucket = np.searchsorted(widths, np.minimum(tokens.lengths, widths[-1]))
        self._buckets: list[Minibatches[Bucketed]] = []
        for number, width in enumerate(widths):
            if (members := np.flatnonzero(bucket == number)).size:
                rows = tokens.take(members)
                padded = pad(rows, width, padding=padding, truncating=truncating)
                examples = Bucketed(padded, np.minimum(rows.lengths, width).astype(np.int32), labels[members])
                self._buckets.append(Minibatches(examples, size, seeds[number]))

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[Bucketed]]:
        schedule = np.repeat(np.arange(len(self._buckets)), [len(bucket) for bucket in self._buckets])
        schedule = schedule[shuffled(len(self), self.seed, number)]
        upcoming = schedule[remaining(len(self), start).start :]
        # Resume each bucket after the batches that the skipped part of the pass took from it.
        taken = np.bincount(schedule[:start], minlength=len(self._buckets)).tolist()
        sources = [bucket.epoch(number, first, part) for bucket, first in zip(self._buckets, taken, strict=True)]
        for bucket in upcoming:
            yield next(sources[bucket])
