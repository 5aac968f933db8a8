"""Fuzz one reader: `python -m fuzz hdf5`.

Exit status 0: no finding; 1: a finding, whose input is stored in the folder; 2: wrong usage.
"""

import argparse
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fuzz.targets import TARGETS

_STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+)")
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


class Run(NamedTuple):
    """The result of fuzzing.

    Attributes:
        inputs: number of inputs that were read.
        seconds: duration.
        coverage: number of lines and branches of the traced Python that were reached.
        status: exit status of the fuzzer; 0 if it was stopped without a finding.
    """

    inputs: int
    seconds: float
    coverage: int
    status: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz the reader that the command line names, and return the exit status."""
    usage = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    usage.add_argument("name", choices=TARGETS, help="the reader")
    usage.add_argument("--seconds", type=float, default=86400, help="stop after this time (default: a day)")
    usage.add_argument(
        "--quiet-seconds", type=float, default=600, help="stop after this time without new coverage (default: 600)"
    )
    usage.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="folder for the inputs (default: build/fuzz)")
    usage.add_argument("--input", type=Path, help="read only this file, which an earlier run stored")
    options = usage.parse_args(arguments)
    if find_spec("atheris") is None:
        usage.error("atheris is not installed: pip install -r requirements/fuzz.txt, with Python 3.11 to 3.13")
    corpus = options.folder / options.name
    corpus.mkdir(parents=True, exist_ok=True)
    for content in seeds(options.name):
        (corpus / sha1(content).hexdigest()).write_bytes(content)
    command = [sys.executable, "-m", "fuzz.child", options.name, str(corpus)]
    command += [f"-artifact_prefix={options.folder / options.name}-", "-timeout=10", "-rss_limit_mb=8192", "-print_final_stats=1"]
    if options.input:
        return subprocess.run([*command, str(options.input)]).returncode != 0
    run = watch(command, options.seconds, options.quiet_seconds)
    print(f"{options.name}: {run.inputs} inputs in {run.seconds:.0f} s, coverage {run.coverage}, exit status {run.status}")
    return run.status != 0


def seeds(name: str) -> list[bytes]:
    """Return the inputs to begin with: files that the frameworks write, as they are and in parts."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        target.seeds(Path(folder))
        return [content for file in sorted(Path(folder).glob(f"*{target.ending}")) for content in target.inputs(file)]


def watch(command: Sequence[str], seconds: float, quiet_seconds: float) -> Run:
    """Run a fuzzer in a child process, and pass on what it prints to stderr.

    Args:
        command: command line of the fuzzer, which prints as libFuzzer does.
        seconds: stop it after this time.
        quiet_seconds: stop it when coverage has not grown for this time.

    Returns:
        The last figures that it printed, and its exit status if it ended by itself, which it does after a finding.
    """
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    started = last_progress = time.monotonic()
    inputs = coverage = 0
    stopped = False
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as child:
        # A thread reads, because `readline` would block while the fuzzer prints nothing, and that is when it must be stopped.
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=lambda: [lines.put(line) for line in child.stderr or ()])
        reader.start()
        while reader.is_alive() or not lines.empty():
            elapsed, quiet = time.monotonic() - started, time.monotonic() - last_progress
            if not stopped and (elapsed > seconds or quiet > quiet_seconds):
                stopped = True
                child.terminate()
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                continue
            sys.stderr.write(line)
            if status := _STATUS.search(line):
                inputs = int(status[1])
                if int(status[2]) > coverage:
                    coverage, last_progress = int(status[2]), time.monotonic()
            if executed := _EXECUTED.search(line):
                inputs = int(executed[1])
    return Run(inputs, time.monotonic() - started, coverage, 0 if stopped else child.returncode)


if __name__ == "__main__":
    sys.exit(main())
