"""Run one side in its own process, so that its peak memory can be measured: `python -m benchmarks.systems.side jlstm FOLDER`."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.machine import ENVIRONMENT, ROOT
from benchmarks.systems.problem import Problem, Result

MODULES = {"draw": "draw", "jlstm": "ours", "keras": "theirs", "keras-stock": "theirs"}


class SideError(RuntimeError):
    """A side ended without a result."""


def run(side: str, problem: Problem) -> dict[str, Any]:
    """Run a side of a problem in a new process.

    Args:
        side: a key of `MODULES`.
        problem: the problem; what the side "draw" writes must already be in its folder for the others.

    Returns:
        The result as a dict, with the load average of the machine before the start as `load_before`.

    Raises:
        SideError: the process failed; the message ends with its last line of output.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "examples"), *filter(None, [os.environ.get("PYTHONPATH")])])
    replace(problem, stock=side == "keras-stock").save()
    command = [sys.executable, "-m", "benchmarks.systems.side", side, str(problem.folder)]
    load = os.getloadavg()[0]
    process = subprocess.run(
        command, env=os.environ | ENVIRONMENT | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if process.returncode:
        message = (process.stderr.strip() or process.stdout.strip() or f"exit status {process.returncode}").splitlines()[-1]
        raise SideError(f"{side} could not run {problem.system.command}: {message}")
    return problem.read(side) | {"load_before": load}


def main(side: str, folder: str) -> None:
    """Run a side in this process, and write its result into the problem's folder."""
    problem = Problem.load(Path(folder))
    result = import_module(f"benchmarks.systems.{MODULES[side]}").run(problem)
    problem.write(side, result.to_json() if isinstance(result, Result) else result)


if __name__ == "__main__":
    main(*sys.argv[1:])
