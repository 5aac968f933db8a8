"""The measurement: point by point, job by job, round after round."""

import datetime as dt
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.speed import pool
from benchmarks.speed.figures import Report, Row, summary
from benchmarks.speed.frameworks import FRAMEWORKS
from benchmarks.speed.points import PEAK, Point
from benchmarks.speed.pool import Worker, WorkerError
from benchmarks.systems.report import machine, versions

REST = 0.02  # seconds after each burst, in which threads that still look for work go to sleep

NOTES = {
    "processes": "each framework has its own; while one is measured, all others wait",
    "rounds": "each framework in turn, every other round in reverse; in each some calls, the first of which does not count",
    "median": "of the rounds' medians, in seconds; low and high are the lowest and the highest of these",
    "first_seconds": "the first call, compiling with it; build_seconds is what went before: parameters, the model of Keras",
    "memory": "bytes by job, framework and point: the most that was resident during two calls in a process of their own, results "
    "and all between, without inputs and parameters; less the same of a tiny size, so without libraries and compiled program",
    "flops": "of matrix products only, padding left out; training is without the gradient of the inputs",
    "training": "gradients of the sum of all squared outputs with respect to the parameters, not to the inputs; no optimizer",
    "peak": "the fastest float32 product of two matrices of 2048 by 2048 in this run, with the same number of threads",
    "values": "numbers in the result: all outputs, or one gradient a parameter",
    "gpu": "float32 as each framework multiplies by default, which on NVIDIA's GPUs may be TF32",
    "load_before": "processes that wanted to run when this one began, averaged over a minute",
}


class Plan(NamedTuple):
    """How much to measure.

    Attributes:
        rounds: number of turns of each framework.
        seconds: length of a turn.
        calls: the least number of calls in a turn.
    """

    rounds: int
    seconds: float
    calls: int = 3


FULL, QUICK = Plan(7, 0.2), Plan(3, 0.05)


def begin(command: str, threads: int, gpu: bool, plan: Plan, workers: Mapping[str, Worker]) -> Report:
    """Return a report without measurements."""
    known = {name: {"version": worker.version, "ours": FRAMEWORKS[name].ours} for name, worker in workers.items()}
    for name, facts in known.items():
        facts["peer"] = FRAMEWORKS[name].peer
    return {
        "command": command,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions() | {FRAMEWORKS[name].package: worker.version for name, worker in workers.items()},
        "threads": threads,
        "gpu": gpu,
        "environment": pool.environment(threads, gpu=gpu),
        "plan": plan._asdict(),
        "load_before": os.getloadavg()[0],
        "notes": NOTES,
        "frameworks": known,
        "points": {},
        "rows": [],
        "memory": {},
        "errors": [],
    }


def run(report: Report, points: Mapping[str, Point], workers: Mapping[str, Worker], say: Callable[[str], None]) -> Iterator[None]:
    """Measure the machine's peak and all points; add to the report, and yield after each job."""
    plan = Plan(**report["plan"])
    for name, point in {"peak": PEAK, **points}.items():
        report["points"][name] = point._asdict() | {"flops": {job: point.flops(job) for job in point.jobs}}
        for job in point.jobs:
            load = os.getloadavg()[0]
            rows = [row for row in _job(report, name, point, job, workers, plan) if row["rounds"]]
            for row in rows:
                row |= summary(row) | {"load_before": load}
            report["rows"] += rows
            times = sorted((row["median"], row["framework"]) for row in rows)
            say(f"{name} {job}: " + ", ".join(f"{framework} {seconds * 1e3:.3g} ms" for seconds, framework in times))
            yield


def takes(name: str, point: Point) -> bool:
    """Whether a framework runs a point at all; single jobs may still be missing."""
    framework = FRAMEWORKS[name]
    if point.group == "long":
        return framework.long
    return framework.peer or framework.ours or point.group == "peak"


def _job(report: Report, name: str, point: Point, job: str, workers: Mapping[str, Worker], plan: Plan) -> list[Row]:
    """Measure one row for each framework that has this job. A failure is noted in the report, and the others go on."""
    rows: dict[str, Row] = {}

    def attempt(framework: str, do: str, **more: Any) -> Row | None:
        try:
            return workers[framework].ask(do, **more)
        except WorkerError as error:
            report["errors"].append(f"{name} {job}: {error}")
            rows.pop(framework, None)
            return None

    for framework in (framework for framework in workers if takes(framework, point)):
        answer = attempt(framework, "prepare", point=point._asdict(), job=job)
        if answer is not None and "missing" not in answer:
            rows[framework] = {"point": name, "job": job, "framework": framework} | answer | {"rounds": []}
            wrong = _wrong(point, job, answer["values"])
            if wrong:
                report["errors"].append(f"{name} {job}: {framework}: {wrong}")
                del rows[framework]
    for number in range(plan.rounds):
        for framework in list(rows)[:: -1 if number % 2 else 1]:
            time.sleep(REST)
            answer = attempt(framework, "burst", seconds=plan.seconds, calls=plan.calls)
            if answer is not None:
                rows[framework]["rounds"].append(answer)
    for framework in rows:
        attempt(framework, "release")
    return list(rows.values())


def _wrong(point: Point, job: str, values: int) -> str | None:
    """Return what is wrong with a result of `values` numbers."""
    expected = point.results(job)
    if expected is None or expected[0] <= values <= expected[1]:
        return None
    return f"its result has {values} numbers, expected {' to '.join(map(str, sorted(set(expected))))}: it does something else"
