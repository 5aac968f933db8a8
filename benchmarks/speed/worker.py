"""The process of one framework: `python -m benchmarks.speed.worker NAME THREADS CPU|GPU`, driven by lines of JSON.

It answers each line with one, and first of all says whether it could import its framework. Between lines it only waits.
"""

import gc
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Answer = dict[str, Any]


class Server:
    """Holds the job that is being measured.

    Args:
        build: of the framework.
        setting: for it.
    """

    def __init__(self, build: Callable[..., dict[str, Callable[[], Any]]], setting: Any) -> None:
        self.build, self.setting = build, setting
        self.job: Callable[[], Any] | None = None

    def prepare(self, point: dict[str, Any], job: str) -> Answer:
        """Build a job and call it; say how long both took, and what came back."""
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
        """Say what is resident at the most during two calls after the first, beyond what was just before it.

        What building left behind, and was dropped only during the first call, counts for nothing either.
        """
        from benchmarks.speed import memory
        from benchmarks.speed.points import Point

        self.job = self.build(Point.of(point), self.setting).get(job)
        before = memory.resident()
        if self.job is None or before is None:
            return {"peak_bytes": None}
        self.job()
        after = memory.resident()  # what compiling needed is given back
        if after is None or not memory.forget_peak():
            return {"peak_bytes": None}
        self.job()
        self.job()
        highest = memory.peak()
        return {"peak_bytes": None if highest is None else max(0, highest - min(before, after))}

    def burst(self, seconds: float, calls: int) -> Answer:
        """Call for so long and at least so often, after a call that does not count; of long calls fewer are enough."""
        if self.job is None:
            raise RuntimeError("a burst was asked for and nothing is prepared: send prepare first")
        self.job()
        times: list[float] = []
        gc.disable()
        begin = now = time.perf_counter()
        while now - begin < seconds or (len(times) < calls and now - begin < 20 * seconds):
            self.job()
            times.append(time.perf_counter() - now)
            now = time.perf_counter()
        gc.enable()
        return {"calls": len(times), "median": statistics.median(times), "lowest": min(times)}

    def warm_up(self, point: dict[str, Any]) -> Answer:
        """Do all jobs of a small point once, so that what is loaded then is neither time nor memory of the first point."""
        from benchmarks.speed.points import Point

        small = Point.of(point)
        for job in self.build(small, self.setting).values() if small.form == "plain" else ():
            job()
        gc.collect()
        gc.freeze()  # what is there now stays, and need not be searched again at each point
        return {}

    def release(self) -> Answer:
        """Forget the job."""
        self.job = None
        gc.collect()
        return {}


def count(result: Any) -> int:
    """How many numbers there are in arrays of any framework, nested in lists, tuples and dicts."""
    if hasattr(result, "shape"):
        return math.prod(result.shape)
    parts: Iterable[Any] = result.values() if isinstance(result, Mapping) else result
    return sum(map(count, parts))


def pin(threads: int) -> None:
    """Keep this process to as many of its cores, before any framework looks how many there are."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main(name: str, threads: str, platform: str) -> None:
    """Import the framework, then answer until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # frameworks print where they like
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
    setting = frameworks.Setting(int(threads), frameworks.FRAMEWORKS[name].variant, platform == "gpu")
    server = Server(module.build, setting)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer(getattr(server, question.pop("do"))(**question))
        except Exception as error:  # whatever a framework raises is for the parent to tell
            server.release()
            answer({"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]})
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
