"""Peak memory of the grid's jobs. Each job has its own process; what it needs at a tiny size is subtracted."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.speed.figures import Report
from benchmarks.speed.points import SEQUENCE, Point
from benchmarks.speed.pool import Worker, WorkerError

TINY = Point(1, 2, 3, (4,))
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}  # glibc: what is freed leaves the process at once


def run(report: Report, points: Mapping[str, Point], names: Iterable[str], say: Callable[[str], None]) -> None:
    """Add `report["memory"][job][framework][point]`, in bytes, for each framework that has the job."""
    grid = {name: point for name, point in points.items() if point.group == "grid"}
    measured: dict[str, Any] = {}
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # memory does not depend on who else is running
        for job in SEQUENCE:
            for framework in names:
                weigh = partial(peak, framework, report["threads"], job)
                try:
                    tiny, *found = threads.map(weigh, [TINY, *grid.values()])
                except WorkerError as error:
                    report["errors"].append(f"memory, {job}: {error}")
                    continue
                if tiny is not None:
                    each = {name: max(0, most - tiny) for name, most in zip(grid, found, strict=True) if most is not None}
                    measured.setdefault(job, {})[framework] = each
                    say(f"memory, {job}, {framework}: {', '.join(f'{value / 1e6:.1f}' for value in each.values())} MB")
    report["memory"] = measured


def peak(framework: str, threads: int, job: str, point: Point) -> int | None:
    """Return the peak memory of a new process in two more calls of a job, less what it held before the first one.

    This counts the results, the compiled program and all memory in between. It leaves out what compilation needed, and the inputs
    and parameters, which are equally large for all frameworks. None if the framework lacks the job or the system does not tell.

    Raises:
        WorkerError: the process failed.
    """
    with Worker(framework, threads, gpu=False, more=GIVEN_BACK) as worker:
        if "version" not in worker.answer():
            return None
        return worker.ask("weigh", point=point._asdict(), job=job)["peak_bytes"]
