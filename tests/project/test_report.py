"""`python -m jlstm` prints what a bug report needs."""

import json
import os
import subprocess
import sys

import jax

import gpu_kernel
from jlstm import __main__ as report
from jlstm.backends import gpu
from jlstm.backends.cpu import library


def run(*arguments, **environment):
    """Return what the command prints in a new process."""
    command = [sys.executable, "-m", "jlstm", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment).stdout


def test_json_and_text_say_the_same():
    """Every fact of the JSON is a line of the text."""
    facts = json.loads(run("--json", XLA_FLAGS="", JAX_ENABLE_X64="1"))
    assert facts["versions"]["jax"] == jax.__version__
    assert facts["jax"]["float64"] is True
    assert facts["environment"]["JAX_ENABLE_X64"] == "1"
    lines = report.text(facts).splitlines()
    assert len(lines) == sum(1 + len(entries) for entries in facts.values())
    assert f"  jax: {jax.__version__}" in lines


def test_the_kernel_or_the_reason_is_named(monkeypatch):
    """With a kernel, the instruction set is named, and else why there is none."""
    loaded = library.load()
    named = report.facts()["backends"]["native kernel"]
    assert named == (f"none: {loaded.reason}" if loaded.functions is None else f"for {loaded.instructions}")
    monkeypatch.setattr(report.kernel, "obstacle", lambda: "no compiler")
    assert report.facts()["backends"]["native kernel"] == "none: no compiler"


def test_on_a_gpu_its_kernel_is_named(monkeypatch):
    """With a GPU, what the kernel is compiled for is named, or why there is none."""
    assert "native kernel for GPUs" not in report.facts()["backends"]
    gpu_kernel.pretend(monkeypatch)
    assert report.facts()["backends"]["native kernel for GPUs"] == "for compute capability 9.0, 132 multiprocessors"
    monkeypatch.setattr(gpu.library, "obstacle", lambda: "no driver")
    assert report.facts()["backends"]["native kernel for GPUs"] == "none: no driver"


def test_a_package_that_is_missing_is_said(monkeypatch):
    """A package that is not installed is part of the report."""
    monkeypatch.setattr(report, "PACKAGES", ("no-such-package",))
    assert report.facts()["versions"]["no-such-package"] == "not installed"


def test_the_command_prints_lines():
    """Without options the facts are printed as text."""
    printed = run()
    assert printed.startswith("versions\n  python: ")
    assert "\n  native kernel: " in printed
