"""Deferred handling of Ctrl-C and SIGTERM, so that training stops between two steps."""

import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interruption:
    """A request to stop, set by a signal handler of this process."""

    requested = False

    def poll(self) -> bool:
        """Return whether to stop now. All processes of a run must call this at the same points."""
        return self.requested


class SharedInterruption(Interruption):
    """A request to stop that reaches all processes of a run at the same step.

    When one process gets SIGTERM, JAX notifies the others and chooses the next count that no process has passed yet.
    """

    counts = itertools.count()  # never reset: all processes must use the same counts, over all runs

    def poll(self) -> bool:
        self.requested = self.requested or multihost_utils.reached_preemption_sync_point(next(self.counts))
        return self.requested


@contextmanager
def interruptions() -> Iterator[Interruption]:
    """Return a context manager that defers the first SIGINT (Ctrl-C) or SIGTERM (sent by Slurm and Kubernetes).

    A second signal has its usual effect. With several processes, a signal to one of them stops all. Python allows signal handlers
    only in the main thread; in other threads no signal is deferred.

    Returns:
        A context manager that yields the `Interruption` to poll.

    Raises:
        KeyboardInterrupt: On exit, if a signal came and the body ended without an exception.
    """
    shared = jax.process_count() > 1
    interruption = SharedInterruption() if shared else Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = (signal.SIGINT,) if shared else (signal.SIGINT, signal.SIGTERM)  # with several processes, JAX handles SIGTERM
    handlers: dict[int, Any] = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}

    def request_stop(*_: object) -> None:
        # Restore the handlers first, so that a second signal has its usual effect.
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if shared:
            signal.raise_signal(signal.SIGTERM)  # Ctrl-C becomes a SIGTERM, of which JAX tells the other processes
        else:
            interruption.requested = True

    for number in handlers:
        signal.signal(number, request_stop)
    try:
        yield interruption
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if interruption.requested:
        raise KeyboardInterrupt("stopped after the last step")
