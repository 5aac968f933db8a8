"""Runs many cases, in one process or in several."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from parity.compilation import compile_fast
from parity.measure import compare
from parity.report import Outcome
from parity.table import Case


def run(cases: Sequence[Case], jobs: int, *, fast: bool = False) -> Iterator[Outcome]:
    """Run the cases and yield their outcomes in order, each as soon as it is ready.

    Args:
        cases: what to run.
        jobs: number of processes; 1 runs in this process.
        fast: whether other processes use `compile_fast`. It has no effect on this process.
    """
    if jobs == 1:
        yield from map(outcome, cases)
        return
    initializer = compile_fast if fast else None
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer) as pool:  # a forked JAX or TensorFlow may hang
        yield from pool.map(outcome, cases)


def outcome(case: Case) -> Outcome:
    """Run one case."""
    return Outcome(case, compare(case.problem, case.peer))
