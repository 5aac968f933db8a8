"""Measure the peak memory of the jobs of the grid. Each job has its own process, and its memory at a tiny size is subtracted."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.speed.points import SEQUENCE, Point
from benchmarks.speed.pool import Worker, WorkerError
from benchmarks.speed.report import Report

TINY = Point(1, 2, 3, (4,))
# glibc returns memory to the system as soon as it is freed. Otherwise what the allocator keeps counts too.
MALLOC_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}


def run(report: Report, points: Mapping[str, Point], names: Iterable[str], say: Callable[[str], None]) -> None:
    """Replace `report.memory` by new measurements for each framework that has the job.

    Args:
        report: the report; failures are added to its errors.
        points: the points by name, of which only those of the grid are measured.
        names: the frameworks.
        say: prints a line about each job and framework.
    """
    grid = {name: point for name, point in points.items() if point.group == "grid"}
    measured: dict[str, dict[str, dict[str, int]]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # unlike times, memory does not depend on other processes
        for job in SEQUENCE:
            for framework in names:
                weigh = partial(peak, framework, report.threads, job)
                try:
                    tiny, *peaks = threads.map(weigh, [TINY, *grid.values()])
                except WorkerError as error:
                    report.errors.append(f"memory, {job}: {error}")
                    continue
                if tiny is not None:
                    net = {name: max(0, value - tiny) for name, value in zip(grid, peaks, strict=True) if value is not None}
                    measured.setdefault(job, {})[framework] = net
                    say(f"memory, {job}, {framework}: {', '.join(f'{value / 1e6:.1f}' for value in net.values())} MB")
    report.memory.clear()
    report.memory.update(measured)


def peak(framework: str, threads: int, job: str, point: Point) -> int | None:
    """Return the peak memory of a new process in two more calls of a job, less what it held before the first one.

    This counts the results, the compiled program and all memory in between. It leaves out what compilation needed, and the inputs
    and parameters, which are equally large for all frameworks. None if the framework lacks the job or the system does not tell.

    Raises:
        WorkerError: the process failed.
    """
    with Worker(framework, threads, gpu=False, extra_environment=MALLOC_ENVIRONMENT) as worker:
        if "version" not in worker.answer():
            return None
        return worker.ask("weigh", point=point._asdict(), job=job)["peak_bytes"]
