"""NVIDIA's compute-sanitizer on small cases, for all ways of exchange.

Reference: Compute Sanitizer, https://docs.nvidia.com/compute-sanitizer/ComputeSanitizer/index.html
"""

import os
import re
import shutil
import subprocess
import sys
import time

from benchmarks.gpu.checks import Outcome
from benchmarks.machine import ROOT
from benchmarks.speed.pool import environment

PROGRAM = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck")
KERNEL = "jlstm_kernel"  # its name in recurrence.cu
CASES = tuple(f"lstm {size}, mask, resets, reverse" for size in ("7×17", "6×48", "9×128", "5×320"))
FOUND = 9  # exit status if the tool has found something
# No search for the fastest matrix product, which would run many kernels under the tool, and no CUDA graphs.
XLA_FLAGS = "--xla_gpu_autotune_level=0 --xla_gpu_enable_command_buffer="


def is_installed() -> bool:
    """Whether the program is on the PATH."""
    return shutil.which(PROGRAM) is not None


def run(tool: str, seconds: float) -> Outcome:
    """Run the cases under a tool, and return what it says.

    Args:
        tool: a tool of `TOOLS`.
        seconds: after which it is ended.
    """
    command = [PROGRAM, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, "-m", "benchmarks.gpu.checks", *CASES]
    variables = os.environ | environment(os.cpu_count() or 1, gpu=True) | {"XLA_FLAGS": XLA_FLAGS}
    started, name = time.monotonic(), f"{PROGRAM} {tool}"
    try:
        process = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as expired:
        outcomes = bytes(expired.stdout or b"").count(b'"passed": true')
        return Outcome(name, False, f"not done in {seconds:.0f} s, after {outcomes} of {len(CASES)} cases", seconds)
    return verdict(name, process.stdout, process.returncode)._replace(seconds=time.monotonic() - started)


def verdict(name: str, output: str, status: int) -> Outcome:
    """Return the outcome of a tool from what it printed and from its exit status.

    It checks the kernels of XLA and cuBLAS too. The line says how often ours is named.
    """
    summaries = re.findall(r"=+ (.*SUMMARY.*)", output)
    computed = output.count('"passed": true')
    named = len(re.findall(rf"=+ .*{KERNEL}", output))
    line = f"{'; '.join(summaries) or 'no summary'}; {computed} of {len(CASES)} cases are right; {KERNEL} is named {named} times"
    return Outcome(name, status == 0 and bool(summaries) and computed == len(CASES), line, 0.0)
