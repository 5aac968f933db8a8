"""Measure the times: for each point and job, the frameworks take turns in several rounds."""

import datetime as dt
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.machine import machine, versions
from benchmarks.speed import pool
from benchmarks.speed.frameworks import FRAMEWORKS, NUMPY
from benchmarks.speed.points import PEAK, SEQUENCE, Point
from benchmarks.speed.pool import Worker, WorkerError
from benchmarks.speed.report import FrameworkInfo, Plan, Report, Round, Row

# Before each burst: after the last one, threads of other frameworks still look for work for a while before they go to sleep.
PAUSE_SECONDS = 0.02

NOTES = {
    "processes": "each framework has its own process; while one is measured, all others wait",
    "rounds": "the frameworks take turns, every other round in reverse order; a turn has several calls, the first is not timed",
    "median": "median of the rounds' medians, in seconds; low and high are the lowest and the highest of these medians",
    "first_seconds": "time of the first call, including compilation; build_seconds is before it: parameters, Keras's model",
    "memory": "bytes by job, framework and point: peak of the resident memory during two calls in a process of their own, with "
    "the results and all intermediate values, without inputs and parameters; less the same figure of a tiny size, so without "
    "libraries and the compiled program",
    "flops": "operations of matrix products only, without padding; training is without the gradient of the inputs",
    "training": "gradients of the sum of all squared outputs with respect to the parameters, not to the inputs; no optimizer",
    "peak": "the fastest float32 product of two matrices of 2048 by 2048 in this run, with the same number of threads",
    "values": "numbers in the result: all outputs, or one gradient per parameter",
    "gpu": "on a GPU: float32 as each framework multiplies by default, which may be TF32; up to 20 calls are started before the "
    "last one is waited for, and the time of a call is that of all divided by their number",
    "load_before": "number of processes ready to run before this measurement, averaged over a minute",
}


GPU_NOTES = {
    "memory": "bytes by job, framework and point, without inputs and parameters: for JAX what a compiled program has for its "
    "results and all intermediate values, for PyTorch the peak of its allocator during a call",
    "accuracy": "largest difference from the same computation in float64 on the CPU, of each array relative to its largest "
    "value; the computation is `scan` for this library, and PyTorch's own LSTM for PyTorch",
}
FULL, QUICK, SHORT = Plan(7, 0.2), Plan(3, 0.05), Plan(3, 0.03, together=True)


def begin(command: str, threads: int, gpu: bool, plan: Plan, workers: Mapping[str, Worker]) -> Report:
    """Return a report without measurements."""
    return Report(
        command=command,
        date=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        machine=machine(),
        versions=versions() | {FRAMEWORKS[name].package: worker.version for name, worker in workers.items()},
        threads=threads,
        gpu=gpu,
        environment=pool.environment(threads, gpu=gpu),
        plan=plan,
        load_before=os.getloadavg()[0],
        notes=NOTES | GPU_NOTES if gpu else dict(NOTES),
        frameworks={
            name: FrameworkInfo(worker.version, FRAMEWORKS[name].ours, FRAMEWORKS[name].peer) for name, worker in workers.items()
        },
    )


def run(report: Report, points: Mapping[str, Point], workers: Mapping[str, Worker], say: Callable[[str], None]) -> Iterator[None]:
    """Measure the machine's peak rate and all points; add to the report, and yield after each job.

    Args:
        report: a report of `begin`.
        points: the points by name.
        workers: the processes by framework.
        say: prints a line about each job.
    """
    for name, point in {"peak": PEAK, **points}.items():
        report.points[name] = point
        for job in point.jobs:
            rows = _job(report, name, point, job, workers)
            report.rows.extend(rows)
            times = sorted((row.median, row.framework) for row in rows)
            say(f"{name} {job}: " + ", ".join(f"{framework} {seconds * 1e3:.3g} ms" for seconds, framework in times))
            yield


def takes(name: str, point: Point) -> bool:
    """Whether a framework runs a point at all; single jobs may still be missing."""
    framework = FRAMEWORKS[name]
    if point.group == "long":
        return framework.long
    return name not in NUMPY or point.group == "peak"


class _Requests:
    """Requests to the frameworks for one job. A failure is noted in the report, and the other frameworks go on.

    Args:
        report: the report.
        title: of the job, for the report's errors.
        workers: the processes by framework.
    """

    def __init__(self, report: Report, title: str, workers: Mapping[str, Worker]) -> None:
        self.report, self.title, self.workers = report, title, workers

    def ask(self, framework: str, request: str, **arguments: Any) -> dict[str, Any] | None:
        """Return the answer of a framework; None if it fails."""
        try:
            return self.workers[framework].ask(request, **arguments)
        except WorkerError as error:
            self.report.errors.append(f"{self.title}: {error}")
            return None

    def ask_all(self, frameworks: Sequence[str], request: str, **arguments: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the frameworks that do not fail with their answers. They work at the same time if that is the report's plan."""

        def ask(framework: str) -> dict[str, Any] | None:
            return self.ask(framework, request, **arguments)

        with ThreadPoolExecutor(max(1, len(frameworks)) if self.report.plan.together else 1) as threads:
            for framework, answer in zip(frameworks, threads.map(ask, frameworks), strict=True):
                if answer is not None:
                    yield framework, answer


def _job(report: Report, name: str, point: Point, job: str, workers: Mapping[str, Worker]) -> list[Row]:
    """Measure one row for each framework that has this job and does not fail."""
    rows: dict[str, Row] = {}
    load, requests = os.getloadavg()[0], _Requests(report, f"{name} {job}", workers)
    frameworks = [framework for framework in workers if takes(framework, point)]
    for framework, answer in requests.ask_all(frameworks, "prepare", point=point._asdict(), job=job):
        if "missing" in answer:
            continue
        if problem := _unexpected_size(point, job, answer["values"]):
            report.errors.append(f"{name} {job}: {framework}: {problem}")
            continue
        rows[framework] = Row(name, job, framework, **answer, rounds=[], load_before=load)
    for number in range(report.plan.rounds):
        # Every other round goes backwards, so that a framework does not always run after the same one.
        for framework in list(rows)[:: -1 if number % 2 else 1]:
            time.sleep(PAUSE_SECONDS)
            turn = requests.ask(framework, "burst", seconds=report.plan.seconds, calls=report.plan.calls)
            if turn is None:
                del rows[framework]
            else:
                rows[framework].rounds.append(Round(**turn))
    if report.gpu and job in SEQUENCE:
        _inspect(report, name, job, requests, list(rows))
    for framework in rows:
        requests.ask(framework, "release")
    return list(rows.values())


def _inspect(report: Report, name: str, job: str, requests: _Requests, frameworks: Sequence[str]) -> None:
    """Add the memory and the error of a job on a GPU to the report."""
    for framework, figures in requests.ask_all(frameworks, "inspect"):
        for table, value in ((report.memory, figures["bytes"]), (report.accuracy, figures["accuracy"])):
            if value is not None:
                table.setdefault(job, {}).setdefault(framework, {})[name] = value


def _unexpected_size(point: Point, job: str, values: int) -> str | None:
    """Return what is wrong with a result of `values` numbers, or None."""
    expected = point.results(job)
    if expected is None or expected[0] <= values <= expected[1]:
        return None
    return f"its result has {values} numbers, expected {' to '.join(map(str, sorted(set(expected))))}: it does something else"
