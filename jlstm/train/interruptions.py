"""Ctrl-C and a scheduler's request to stop, noticed between two steps instead of in the middle of one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """Whether somebody asked to stop."""

    requested = False


@contextmanager
def interruptions() -> Iterator[Interruption]:
    """Hold back SIGINT (Ctrl-C) and SIGTERM (what Slurm and Kubernetes send) once; a second one acts as it always does.

    Only the main thread can do that; in others nothing is held back.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(*_: object) -> None:
        found.requested = True
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
