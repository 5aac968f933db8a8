"""Measure the times: for each point and job, the frameworks take turns in several rounds."""

import datetime as dt
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.machine import machine, versions
from benchmarks.speed import pool
from benchmarks.speed.frameworks import FRAMEWORKS, NUMPY
from benchmarks.speed.points import PEAK, Point
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


FULL, QUICK = Plan(7, 0.2), Plan(3, 0.05)


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
        notes=dict(NOTES),
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


def _job(report: Report, name: str, point: Point, job: str, workers: Mapping[str, Worker]) -> list[Row]:
    """Measure one row for each framework that has this job. A failure is noted in the report, and the other frameworks go on."""
    rows: dict[str, Row] = {}
    load = os.getloadavg()[0]

    def attempt(framework: str, request: str, **arguments: Any) -> dict[str, Any] | None:
        try:
            return workers[framework].ask(request, **arguments)
        except WorkerError as error:
            report.errors.append(f"{name} {job}: {error}")
            rows.pop(framework, None)
            return None

    for framework in (framework for framework in workers if takes(framework, point)):
        answer = attempt(framework, "prepare", point=point._asdict(), job=job)
        if answer is None or "missing" in answer:
            continue
        if problem := _unexpected_size(point, job, answer["values"]):
            report.errors.append(f"{name} {job}: {framework}: {problem}")
            continue
        rows[framework] = Row(name, job, framework, **answer, rounds=[], load_before=load)
    for number in range(report.plan.rounds):
        # Every other round goes backwards, so that a framework does not always run after the same one.
        for framework in list(rows)[:: -1 if number % 2 else 1]:
            time.sleep(PAUSE_SECONDS)
            answer = attempt(framework, "burst", seconds=report.plan.seconds, calls=report.plan.calls)
            if answer is not None:
                rows[framework].rounds.append(Round(**answer))
    for framework in list(rows):
        attempt(framework, "release")
    return list(rows.values())


def _unexpected_size(point: Point, job: str, values: int) -> str | None:
    """Return what is wrong with a result of `values` numbers, or None."""
    expected = point.results(job)
    if expected is None or expected[0] <= values <= expected[1]:
        return None
    return f"its result has {values} numbers, expected {' to '.join(map(str, sorted(set(expected))))}: it does something else"
