"""A long text as streams side by side, cut into windows: truncated backpropagation through time."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from jlstm import checks
from jlstm.data.batches import Batch, Batches, remaining, share


class Window(NamedTuple):
    """Some steps of each stream.

    Attributes:
        inputs: tokens.
        targets: the token after each.
        mask: 1, or 0 where the last window of a pass goes beyond the end of its streams.
    """

    inputs: Int32[np.ndarray, "size steps"]
    targets: Int32[np.ndarray, "size steps"]
    mask: Float32[np.ndarray, "size steps"]


class Windows(Batches[Window]):
    """Windows of a text that is cut into `size` streams of one length, each of which goes on where the batch before left it.

    Args:
        tokens: the text; what is left over by streams of one length, fewer than `size` tokens, is left out.
        size: number of streams, the rows of a batch.
        steps: length of a window.

    Raises:
        ValueError: `size` or `steps` below 1, tokens of another shape, or streams of fewer than two tokens.

    Reference: Zaremba, Sutskever & Vinyals 2014, section 4.1. Differs from TensorFlow's reader of the Penn Treebank in that the
    last, shorter window counts too.

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
        return -(-(self.streams.shape[1] - 1) // self.steps)

    def epoch(self, number: int, start: int = 0, part: tuple[int, int] = (0, 1)) -> Iterator[Batch[Window]]:
        """Yield what is left of a pass, as `Batches.epoch` says; all passes are the same."""
        streams = self.streams[share(self.size, part)]
        for index in remaining(len(self), start):
            piece = streams[:, index * self.steps : (index + 1) * self.steps + 1]
            missing = self.steps + 1 - piece.shape[1]
            mask = np.ones((len(streams), self.steps), np.float32)
            mask[:, self.steps - missing :] = 0
            inputs, targets = (np.pad(tokens, ((0, 0), (0, missing))) for tokens in (piece[:, :-1], piece[:, 1:]))
            yield Batch(Window(inputs, targets, mask), np.ones(len(streams), np.float32))
