"""A call that is timed. A GPU computes its result after the call has returned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Job:
    """A call that can be started without waiting for its result.

    Attributes:
        start: calls, and returns a result that may not be computed yet.
        wait: takes what `start` returned, and returns the result when it has been computed.
        memory: returns the bytes of the results and of all values in between on a GPU; None if nobody asks for it.
        error: returns the largest error of a result against float64, see `relative_error`; None if nobody asks for it.
    """

    start: Callable[[], Any]
    wait: Callable[[Any], Any]
    memory: Callable[[], int] | None = None
    error: Callable[[], float] | None = None

    def __call__(self) -> Any:
        """Call, and return the result when it has been computed."""
        return self.wait(self.start())


def relative_error(results: Sequence[np.ndarray], exact: Sequence[np.ndarray]) -> float:
    """Return the largest difference between two lists of arrays. That of an array is divided by its largest exact value.

    NaN in a result gives NaN, which no tolerance accepts.
    """
    errors = [
        np.max(np.abs(np.asarray(result, np.float64) - truth)) / max(np.max(np.abs(truth)), np.finfo(np.float64).tiny)
        for result, truth in zip(results, exact, strict=True)
        if truth.size
    ]
    return float(np.max(errors, initial=0.0))
