"""Windows of parallel text streams, for truncated backpropagation through time."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from jlstm._src import checks
from jlstm.data.batches import Batch, Batches, remaining, share


class Window(NamedTuple):
    """Consecutive steps of each stream.

    Attributes:
        inputs: Tokens.
        targets: The token that follows each input.
        mask: 1, or 0 for steps of the last window that are beyond the end of the streams.
    """

    inputs: Int32[np.ndarray, "size steps"]
    targets: Int32[np.ndarray, "size steps"]
    mask: Float32[np.ndarray, "size steps"]


class Windows(Batches[Window]):
    """Consecutive windows of a text that is split into `size` streams of equal length.

    Each row of a batch continues where the same row of the previous batch ended, so that the carry can be passed on.

    Args:
        tokens: The text. The last `len(tokens) % size` tokens are dropped.
        size: Number of streams, that is, of rows per batch.
        steps: Number of steps per window.

    Raises:
        ValueError: `size` or `steps` is below 1, `tokens` has more than one axis, or a stream has fewer than two tokens.

    Reference: Zaremba, Sutskever & Vinyals 2014, "Recurrent Neural Network Regularization", section 4.1,
    https://arxiv.org/abs/1409.2329.
    Differs from: TensorFlow's reader of the Penn Treebank drops the last, shorter window.

    Examples:
        >>> import numpy as np
        >>> from jlstm.data import Windows
        >>> first, second = Windows(np.arange(10, dtype=np.int32), size=2, steps=3).epoch(0)
        >>> first.examples.inputs.tolist(), first.examples.targets.tolist()
        ([[0, 1, 2], [5, 6, 7]], [[1, 2, 3], [6, 7, 8]])
        >>> second.examples.inputs.tolist(), second.examples.mask.tolist()
        ([[3, 0, 0], [8, 0, 0]], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    """

    def __init__(self, tokens: Int32[np.ndarray, " tokens"], size: int, steps: int) -> None:
        self.size, self.steps = checks.positive("size", size), checks.positive("steps", steps)
        tokens = checks.counts("tokens", tokens)
        if tokens.ndim != 1:
            raise ValueError(f"tokens must be one long sequence of numbers, got an array of shape {tokens.shape}")
        length = len(tokens) // size
        if length < 2:
            raise ValueError(f"{len(tokens)} tokens are too few for {size} streams of at least 2: choose a smaller size")
        self.streams = tokens[: size * length].reshape(size, length)

    def __len__(self) -> int:
        # The last token of a stream is only a target, so there is one input less than tokens.
        return -(-(self.streams.shape[1] - 1) // self.steps)

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[Window]]:
        """Yield the remaining windows of a pass; see `Batches.epoch`. All passes are the same."""
        streams = self.streams[share(self.size, part)]
        for index in remaining(len(self), start):
            piece = streams[:, index * self.steps : (index + 1) * self.steps + 1]  # one token more, the last target
            missing = self.steps + 1 - piece.shape[1]
            mask = np.ones((len(streams), self.steps), np.float32)
            mask[:, self.steps - missing :] = 0
            inputs, targets = (np.pad(tokens, ((0, 0), (0, missing))) for tokens in (piece[:, :-1], piece[:, 1:]))
            yield Batch(Window(inputs, targets, mask), np.ones(len(streams), np.float32))
