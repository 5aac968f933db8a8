"""A call that is timed. A GPU computes its result after the call has returned."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """A call that can be started without waiting for its result.

    Attributes:
        start: calls, and returns a result that may not be computed yet.
        wait: takes what `start` returned, and returns the result when it has been computed.
    """

    start: Callable[[], Any]
    wait: Callable[[Any], Any]

    def __call__(self) -> Any:
        """Call, and return the result when it has been computed."""
        return self.wait(self.start())
