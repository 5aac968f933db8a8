"""Run the checks in processes of their own, because a wrong kernel may hang, or end its process."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from types import MappingProxyType

from benchmarks.gpu.checks import Outcome
from benchmarks.machine import ROOT, cores
from benchmarks.speed.pool import environment, read_line

SECONDS = 90.0  # after which a check is ended; the first one of a process also starts JAX


def run(
    names: Sequence[str],
    deadline: float,
    add: Callable[[Outcome], None],
    *,
    at_once: int = 1,
    extra_environment: Mapping[str, str] = MappingProxyType({}),
    title: str = "",
) -> list[str]:
    """Run checks, and return the names of those for which there was no time.

    Args:
        names: of the checks.
        deadline: when to stop, in seconds of `time.monotonic`.
        add: takes the outcomes, one at a time.
        at_once: how many processes run at the same time.
        extra_environment: of the processes.
        title: added to the names of the outcomes.
    """
    lock = threading.Lock()
    variables = os.environ | environment(max(1, cores() // at_once), gpu=True) | dict(extra_environment)

    def add_one(outcome: Outcome) -> None:
        with lock:
            add(outcome._replace(name=outcome.name + title))

    def run_share(number: int) -> list[str]:
        remaining = list(names[number::at_once])
        while remaining and time.monotonic() < deadline:
            remaining = _run_process(remaining, deadline, add_one, variables)
        return remaining

    with ThreadPoolExecutor(at_once) as pool:
        return list(chain.from_iterable(pool.map(run_share, range(at_once))))


def _run_process(names: list[str], deadline: float, add: Callable[[Outcome], None], variables: Mapping[str, str]) -> list[str]:
    """Start a process, read its outcomes, and return the names of the checks that it has not reached when it ends."""
    command = [sys.executable, "-m", "benchmarks.gpu.checks", *names]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        for number, name in enumerate(names):
            seconds = max(0.1, min(SECONDS, deadline - time.monotonic()))
            started = time.monotonic()
            if line := read_line(process, seconds):
                add(Outcome(**json.loads(line)))
                continue
            if process.wait() == 0 or time.monotonic() >= deadline:  # 0: it stopped after a check that failed
                return names[number:]
            errors.seek(0)
            last = (errors.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            waited = time.monotonic() - started
            ended = f"its process ended with status {process.returncode}: {last}"[:500]
            add(Outcome(name, False, f"no result in {waited:.0f} s" if waited >= seconds else ended, waited))
            return names[number + 1 :]
    return []
