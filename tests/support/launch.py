"""Start several processes on one machine that connect to each other."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from compilation import FAST

ROOT = Path(__file__).parents[2]


def start(processes, cache, script, *arguments, **environment):
    """Start processes, with `{address}` and `{process}` filled in. XLA compiles fast rather than well in them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    filled = [[text.replace("{address}", address).replace("{process}", str(k)) for text in arguments] for k in range(processes)]
    quick = {"XLA_FLAGS": " ".join(FAST), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    options = {
        "env": os.environ | quick | compiled | environment,
        "cwd": ROOT,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }
    return [subprocess.Popen([sys.executable, str(script), *argv], **options) for argv in filled]


def wait(processes):
    """Wait for processes, and return what they printed and their exit codes. None is left running."""
    try:
        return [(process.communicate(timeout=300)[0], process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
