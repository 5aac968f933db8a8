"""The drop-ins for Keras, whose tests run in a process with Keras on JAX, and what other processes are told."""

import os
import subprocess
import sys

import coverage
import pytest

from launch import ROOT

MEASURED = ("-m", "coverage", "run", "--parallel-mode") if coverage.Coverage.current() else ()


@pytest.mark.parametrize("marks", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_the_tests_on_jax_pass(marks):
    """All tests in the folder `keras` pass in a process with Keras on JAX."""
    command = [sys.executable, *MEASURED, "-m", "pytest", "tests/compat/keras", "-q", "-p", "no:cacheprovider", "-m", marks]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": "jax"}, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_backend_is_refused():
    """With Keras on another backend the import fails in one sentence, and Keras is not imported before."""
    program = (
        "import sys\ntry:\n    import jlstm.compat.keras\nexcept ImportError as error:\n    print('keras' in sys.modules, error)"
    )
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=ROOT, check=True)
    assert done.stdout == "False jlstm.compat.keras needs Keras on JAX, got KERAS_BACKEND=tensorflow: set it to jax\n"
