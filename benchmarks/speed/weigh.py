"""Peak memory of the grid's jobs: each in a process of its own, less what the same job needs at a tiny size."""

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
    """Put into the report, for each framework that has the job, in bytes: `report["memory"][job][framework][point]`."""
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
    """What a new process holds at the most while it does a job twice more, beyond what it held before it first did the job.

    Results, compiled program and all that is needed between, but not what compiling needed, and not inputs and parameters, which
    are as large for everybody. None where a framework has no such job, or the system does not tell.

    Raises:
        WorkerError: it failed.
    """
    with Worker(framework, threads, gpu=False, more=GIVEN_BACK) as worker:
        if "version" not in worker.answer():
            return None
        return worker.ask("weigh", point=point._asdict(), job=job)["peak_bytes"]
