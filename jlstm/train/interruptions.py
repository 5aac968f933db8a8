"""Ctrl-C and a scheduler's request to stop, noticed between two steps instead of in the middle of one."""

import itertools
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interruption:
    """Whether somebody asked to stop."""

    requested = False

    def poll(self) -> bool:
        """Whether to stop now; to be asked at the same moments in all processes of a run."""
        return self.requested


class SharedInterruption(Interruption):
    """Whether somebody asked any of several processes to stop: all hear it at the same moment.

    JAX takes SIGTERM in one process for a notice to all, and chooses the next count that none of them has passed yet.
    """

    counts = itertools.count()  # all processes count alike, over all runs

    def poll(self) -> bool:
        """Whether to stop now; to be asked at the same moments in all processes of a run."""
        self.requested = self.requested or multihost_utils.reached_preemption_sync_point(next(self.counts))
        return self.requested


@contextmanager
def interruptions() -> Iterator[Interruption]:
    """Hold back SIGINT (Ctrl-C) and SIGTERM (what Slurm and Kubernetes send) once; a second one acts as it always does.

    With several processes one signal to one of them stops all. Only the main thread can do that; in others nothing is held back.

    Raises:
        KeyboardInterrupt: at the end, if nobody raised it after a request.
    """
    shared = jax.process_count() > 1
    found = SharedInterruption() if shared else Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    numbers = (signal.SIGINT,) if shared else (signal.SIGINT, signal.SIGTERM)  # JAX listens to SIGTERM if there are several
    before: dict[int, Any] = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}

    def note(*_: object) -> None:
        for each, handler in before.items():
            signal.signal(each, handler)
        if shared:
            signal.raise_signal(signal.SIGTERM)
        else:
            found.requested = True

    for number in before:
        signal.signal(number, note)
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if found.requested:
        raise KeyboardInterrupt("stopped after the last step")
