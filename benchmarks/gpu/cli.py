"""The command line of `python -m benchmarks.gpu`. What needs JAX is imported only after it is known to be installed."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.gpu import ready
from benchmarks.machine import ROOT, cores, versions

if TYPE_CHECKING:
    from benchmarks.gpu.checks import Outcome
    from benchmarks.gpu.report import GpuReport

RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
PARTS = ("checks", "speed", "sanitizer")
MOST_PROCESSES = 4  # for the checks
CHECKS_SHARE, SANITIZER_SHARE = 0.4, 0.2  # of the time, at most
COMMAND_BUFFERS = {"XLA_FLAGS": "--xla_gpu_graph_min_graph_size=1"}  # CUDA graphs also for programs of one kernel
CUDA_PACKAGES = (
    *("jax-cuda12-plugin", "nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cuda-nvrtc-cu12"),
    *("jax-cuda13-plugin", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc"),
)
FRAMEWORKS = (  # of benchmarks.speed; those that are not installed are left out
    *("jlstm", "jlstm fused", "jlstm scan", "torch", "jlstm, no TF32", "torch, no TF32", "flax-linen", "jax-cudnn"),
    *("jlstm bfloat16", "torch bfloat16", "jlstm float16", "torch float16"),
)
BESIDES = ("ragged", "bidirectional", "gru", "wide-gru", "small-gru", "two-layers")  # after the grid
ANSWER_SECONDS = 90.0  # of a framework, before it is ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    started = time.monotonic()
    usage = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Check and measure the GPU kernel on a GPU.")
    usage.add_argument("--minutes", type=float, default=7, help="when to stop, with what there is (default: %(default)s)")
    usage.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="some of the parts (default: all)")
    usage.add_argument(
        "--out", type=Path, metavar="FILE", help="JSON (default: benchmarks/results/gpu.json; of some parts results/gpu.json)"
    )
    usage.add_argument(
        "--draw", nargs="?", type=Path, const=RESULTS, metavar="FILE", help="make page and picture of FILE anew, and stop"
    )
    options = usage.parse_args(arguments)
    if options.minutes <= 0:
        usage.error(f"--minutes must be above 0, got {options.minutes}")
    if options.draw:
        return draw(options.draw)
    out = options.out or (RESULTS if set(options.parts) == set(PARTS) else Path("results", "gpu.json"))
    try:
        ready.check_gpu()
        ready.check_packages()
        built = ready.build()
    except ready.NotReadyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(built, flush=True)
    return run(options.parts, out, built, started, 60 * options.minutes)


def draw(path: Path) -> int:
    """Make the page and the picture of a JSON file anew, for example of a machine without matplotlib. Return the exit status."""
    from benchmarks.gpu.report import GpuReport

    if not path.exists():
        print(f"error: there is no file {path}: python -m benchmarks.gpu --out {path} makes it", file=sys.stderr)
        return 1
    print(f"wrote {' and '.join(map(str, GpuReport.read(path).publish(path)))}")
    return 0


def run(parts: Sequence[str], out: Path, built: str, started: float, seconds: float) -> int:
    """Run the parts and return the exit status.

    Args:
        parts: some of `PARTS`.
        out: the JSON file.
        built: how the library of the kernel was made, for the report.
        started: when the command was started, in seconds of `time.monotonic`.
        seconds: how long the command may take.
    """
    from benchmarks.gpu import processes, report, sanitizer
    from benchmarks.gpu.checks import READY

    results = report.GpuReport(build=built, packages=versions(CUDA_PACKAGES))
    end = started + seconds
    processes.run([READY], end, lambda outcome: add(results.checks, outcome))
    if not results.checks or results.failures:  # older results are kept
        reason = results.checks[0].line if results.checks else "there was no time to ask the GPU"
        print(f"error: the kernel cannot run here: {reason}", file=sys.stderr)
        return 1
    if "checks" in parts:
        check_all(results, out, started + CHECKS_SHARE * seconds)
    with_sanitizer = "sanitizer" in parts and sanitizer.is_installed()
    if "speed" in parts:
        measure(results, out, end - SANITIZER_SHARE * seconds * with_sanitizer)
    if with_sanitizer:
        for number, tool in enumerate(sanitizer.TOOLS):
            add(results.sanitizer, sanitizer.run(tool, max(1.0, (end - time.monotonic()) / (len(sanitizer.TOOLS) - number))))
            results.write(out)
    elif "sanitizer" in parts:
        results.omitted.append(f"{sanitizer.PROGRAM}, which is not on the PATH")
    print(f"wrote {' and '.join(map(str, results.publish(out)))} after {time.monotonic() - started:.0f} s")
    for failure in results.failures:
        print(f"error: {failure.name}: {failure.line}", file=sys.stderr)
    return 1 if results.failures or (results.speed and results.speed.errors) else 0


def check_all(results: "GpuReport", out: Path, deadline: float) -> None:
    """Run all checks: several at a time, and then those that measure times or need other settings."""
    from benchmarks.gpu import sanitizer
    from benchmarks.gpu.checks import CHECKS, COMPILATION, READY

    names = [name for name in CHECKS if name not in (READY, COMPILATION)]
    check(results, out, [COMPILATION], deadline)
    check(results, out, names, deadline, at_once=min(MOST_PROCESSES, cores()))
    check(results, out, sanitizer.CASES, deadline, extra_environment=COMMAND_BUFFERS, title=", in CUDA graphs")


def check(
    results: "GpuReport",
    out: Path,
    names: Sequence[str],
    deadline: float,
    *,
    at_once: int = 1,
    extra_environment: Mapping[str, str] = MappingProxyType({}),
    title: str = "",
) -> None:
    """Run checks, and add their outcomes to the report. The arguments are those of `processes.run`."""
    from benchmarks.gpu import processes

    def keep(outcome: "Outcome") -> None:
        add(results.checks, outcome)
        results.write(out)

    not_run = processes.run(names, deadline, keep, at_once=at_once, extra_environment=extra_environment, title=title)
    if not_run:
        results.omitted.append(f"for lack of time {len(not_run)} checks: {', '.join(name + title for name in not_run)}")


def add(outcomes: "list[Outcome]", outcome: "Outcome") -> None:
    """Add an outcome to a list and print it."""
    outcomes.append(outcome)
    failed = "" if outcome.passed else "FAILED: "
    print(f"{outcome.name}: {failed}{outcome.line} ({outcome.seconds:.1f} s)", flush=True)


def measure(results: "GpuReport", out: Path, deadline: float) -> None:
    """Measure times, memory and errors, until the deadline."""
    from benchmarks.speed import measure, pool
    from benchmarks.speed.points import GRID, POINTS

    points = GRID | {name: POINTS[name] for name in BESIDES}
    missing = 1 + sum(len(point.jobs) for point in points.values())  # the first job is the fastest product
    with pool.start(FRAMEWORKS, [], cores(), gpu=True, seconds=ANSWER_SECONDS) as workers:
        results.speed = measure.begin("python -m benchmarks.gpu", cores(), True, measure.SHORT, workers)
        for _ in measure.run(results.speed, points, workers, lambda words: print(words, flush=True)):
            results.write(out)
            missing -= 1
            if time.monotonic() >= deadline:
                break
    if missing:
        results.omitted.append(f"for lack of time the last {missing} jobs of the grid and of {', '.join(BESIDES)}")
