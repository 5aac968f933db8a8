"""A run that is killed at any moment, and started again, ends with the bits of one that was not.

Every round starts one run and ends it by SIGKILL in each phase of training, and once by Ctrl-C or SIGTERM, each time at a
random moment. Every other round is without a carry. `JLSTM_KILL_ROUNDS=40 pytest tests/train/test_resume.py` kills 160 runs.
The seed of each round is printed.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.numpy import load_file

import killed
from jlstm.train.history import read
from problems import assert_equal

pytestmark = pytest.mark.no_cover

ROUNDS = int(os.environ.get("JLSTM_KILL_ROUNDS", "1"))
PHASES = {"step": (2, 12), "validation": (1, 4), "epoch end": (1, 2), "write": (1, 2)}  # and how many times to wait for each
SECONDS = {"step": 0.02, "validation": 0.01, "epoch end": 0.01, "write": 0.3}  # about as long as they take


def start(variant, folder):
    """Start the run. Its errors go to a file."""
    cache = {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | cache | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", killed.__file__, variant, os.fspath(folder)]
    with (folder / "stderr").open("wb") as errors:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)


def wait_for(phase, child, times=1):
    """Read the run's output until it has printed that line so often."""
    for line in child.stdout:
        times -= line.strip() == phase
        if not times:
            return
    pytest.fail(f"the run ended before {phase}: {child.wait()}")


def end(child):
    """Wait for the end, and return the exit status."""
    with child:
        child.stdout.read()
    return child.returncode


def stderr_of(folder):
    """Return the run's stderr."""
    return (folder / "stderr").read_text().strip()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_killed_run_ends_with_the_same_bits(number, tmp_path):
    """Parameters, optimizer, keys, best parameters and records are those of an undisturbed run, bit by bit."""
    seed, variant = random.randrange(2**32), ("carry", "dropout")[number % 2]
    print(f"round {number} of {variant}: seed {seed}")
    dice = random.Random(seed)
    request_to_stop = dice.choice(list(PHASES)), dice.choice((signal.SIGINT, signal.SIGTERM))
    disturbances = [(phase, signal.SIGKILL) for phase in PHASES] + [request_to_stop]
    for phase, disturbance in dice.sample(disturbances, len(disturbances)):
        child = start(variant, tmp_path)
        wait_for(phase, child, dice.randint(*PHASES[phase]))
        time.sleep(dice.uniform(0, SECONDS[phase]))
        child.send_signal(disturbance)
        status, errors = end(child), stderr_of(tmp_path)
        checkpoint_names = sorted(path.name for path in (tmp_path / "checkpoints").glob("*"))
        print(f"{disturbance.name} in {phase}, which left {checkpoint_names}")
        if disturbance == signal.SIGKILL:
            assert (status, errors) == (-signal.SIGKILL, "")
        else:
            assert status == -signal.SIGINT  # how Python ends on KeyboardInterrupt
            assert "KeyboardInterrupt: stopped after step" in errors.splitlines()[-1]
            assert f"kept in {tmp_path / 'checkpoints'}, where it can be resumed" in errors.splitlines()[-1]
    child = start(variant, tmp_path)
    assert (end(child), stderr_of(tmp_path)) == (0, "")
    assert_equal(content(tmp_path), content(tmp_path / "whole"))
    assert history(tmp_path) == history(tmp_path / "whole")


def content(folder):
    """Return all arrays of the last checkpoint, read by safetensors alone."""
    last = max((folder / "checkpoints").iterdir(), key=lambda step: int(step.name))
    assert int(last.name) == killed.STEPS
    return load_file(last / "process_0.safetensors")


def history(folder):
    """Return the records without the fields that depend on the clock."""
    return [record._replace(seconds=0, examples_per_second=0) for record in read(folder / "history.jsonl")]
