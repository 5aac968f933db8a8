"""Runs one side in its own process, so that its peak memory can be measured: `python -m benchmarks.systems.side jlstm FOLDER`."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.systems.problem import Problem

ROOT = Path(__file__).parents[2]
MODULES = {"draw": "draw", "jlstm": "ours", "keras": "theirs", "keras-stock": "theirs"}

ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",  # glibc keeps freed memory, as `jlstm.train.keep_memory`, which the examples call, tells it to
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class SideError(RuntimeError):
    """A side ended without a result."""


def run(side: str, problem: Problem) -> dict[str, Any]:
    """Run a side of a problem in a new process and return its result.

    Raises:
        SideError: the process failed; the message ends with its last line of output.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "examples"), *filter(None, [os.environ.get("PYTHONPATH")])])
    replace(problem, stock=side == "keras-stock").save()
    command = [sys.executable, "-m", "benchmarks.systems.side", side, str(problem.folder)]
    load = os.getloadavg()[0]
    done = subprocess.run(
        command, env=os.environ | ENVIRONMENT | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise SideError(f"{side} could not run {problem.system.command}: {words}")
    return problem.read(side) | {"load_before": load}


def main(side: str, folder: str) -> None:
    """Run a side in this process, and write its result into the problem's folder."""
    problem = Problem.load(Path(folder))
    problem.write(side, import_module(f"benchmarks.systems.{MODULES[side]}").run(problem))


if __name__ == "__main__":
    main(*sys.argv[1:])
