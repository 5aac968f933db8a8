"""The process of one framework: `python -m benchmarks.speed.worker NAME THREADS CPU|GPU`. It reads and writes lines of JSON.

Its first line says whether it could import its framework. Then it answers each line with one line. Between lines it only waits.
"""

import gc
import json
import math
import os
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.speed.job import Job

PIPELINED = 20  # the most calls in a burst that a GPU has to compute

Answer = dict[str, Any]


class Server:
    """Holds the job that is being measured.

    Args:
        build: the framework's `build`.
        setting: the argument of `build`.
    """

    def __init__(self, build: Callable[..., dict[str, Callable[[], Any]]], setting: Any) -> None:
        self.build, self.setting = build, setting
        self.job: Callable[[], Any] | None = None

    def prepare(self, point: dict[str, Any], job: str) -> Answer:
        """Build a job and call it once; return how long both took, and the size of the result."""
        from benchmarks.speed.points import Point

        self.job = None
        started = time.perf_counter()
        self.job = self.build(Point.of(point), self.setting).get(job)
        build_seconds = time.perf_counter() - started
        if self.job is None:
            return {"missing": True}
        started = time.perf_counter()
        result = self.job()
        return {"build_seconds": build_seconds, "first_seconds": time.perf_counter() - started, "values": count(result)}

    def weigh(self, point: dict[str, Any], job: str) -> Answer:
        """Return the peak of resident memory during two calls after the first, less the memory just before the first.

        Memory that building left behind and that the first call frees is not counted either.
        """
        from benchmarks.speed import memory
        from benchmarks.speed.points import Point

        self.job = self.build(Point.of(point), self.setting).get(job)
        built = memory.resident()
        if self.job is None or built is None:
            return {"peak_bytes": None}
        self.job()
        compiled = memory.resident()  # after the memory that compilation needed has been returned
        if compiled is None or not memory.forget_peak():
            return {"peak_bytes": None}
        self.job()
        self.job()
        highest = memory.peak()
        return {"peak_bytes": None if highest is None else max(0, highest - min(built, compiled))}

    def inspect(self) -> Answer:
        """Return the bytes that the prepared job needs on a GPU, and its error against float64; None for what is not known."""
        memory, error = (getattr(self.job, name, None) for name in ("memory", "error"))
        return {"bytes": memory and memory(), "accuracy": error and error()}

    def burst(self, seconds: float, calls: int) -> Answer:
        """Call the job repeatedly, after one call that is not timed, or three on a GPU.

        On a GPU several calls are started before the last one is waited for, as programs for GPUs do. The time of a call is then
        that of all of them divided by their number.

        Args:
            seconds: the least total time.
            calls: the least number of calls, unless they take more than 20 times `seconds`.

        Returns:
            The number of calls, and the median and the lowest seconds of a call.

        Raises:
            RuntimeError: no job is prepared.
        """
        if self.job is None:
            raise RuntimeError("a burst was asked for and nothing is prepared: send prepare first")
        self.job()
        calls_at_once = 1
        if isinstance(self.job, Job) and self.setting.gpu:
            fastest = min(timeit.repeat(self.job, repeat=2, number=1))  # one call may be slow by chance
            calls_at_once = max(1, min(PIPELINED, int(seconds / fastest)))
        times: list[float] = []
        gc.disable()  # a collection would count as time of the call in which it falls
        begin = previous = time.perf_counter()
        # A job whose call takes much longer than a burst is not called `calls` times: the longest sequences would take too long.
        while previous - begin < seconds or (len(times) < calls and previous - begin < 20 * seconds):
            self._call(calls_at_once)
            times.append((time.perf_counter() - previous) / calls_at_once)
            previous = time.perf_counter()
        gc.enable()
        return {"calls": len(times) * calls_at_once, "median": statistics.median(times), "lowest": min(times)}

    def _call(self, calls: int) -> None:
        if calls > 1 and isinstance(self.job, Job):
            for _ in range(calls):
                result = self.job.start()
            self.job.wait(result)
        elif self.job is not None:
            self.job()

    def warm_up(self, point: dict[str, Any]) -> Answer:
        """Run all jobs of a small point once, so that one-time loading counts for no point."""
        from benchmarks.speed.points import Point

        small = Point.of(point)
        for job in self.build(small, self.setting).values() if small.form == "plain" else ():
            job()
        gc.collect()
        gc.freeze()  # objects of the imported modules stay, so later collections need not search them
        return {}

    def release(self) -> Answer:
        """Forget the job."""
        self.job = None
        gc.collect()
        return {}


def count(result: Any) -> int:
    """Return how many numbers the arrays of a result hold, of any framework, in nested lists, tuples and dicts."""
    if hasattr(result, "shape"):
        return math.prod(result.shape)
    parts: Iterable[Any] = result.values() if isinstance(result, Mapping) else result
    return sum(map(count, parts))


def pin(threads: int) -> None:
    """Restrict this process to `threads` of its cores, before any framework counts them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main(name: str, threads: str, platform: str) -> None:
    """Import the framework, then answer until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints must not get between the answers
    pin(int(threads))

    def answer(content: Answer) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    from benchmarks.speed import frameworks

    try:
        module, version = frameworks.load(name)
    except ImportError as error:
        return answer({"not_importable": str(error)})
    answer({"version": version})
    framework = frameworks.FRAMEWORKS[name]
    setting = frameworks.Setting(int(threads), framework.variant, platform == "gpu", framework.dtype)

    def build(point: Any, setting: Any) -> dict[str, Callable[[], Any]]:
        return module.build(point, setting) if point.cell in framework.cells else {}

    server = Server(build, setting)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer(getattr(server, question.pop("do"))(**question))
        except Exception as error:  # the parent reports whatever a framework raises, and goes on with the others
            server.release()
            answer({"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]})
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
