"""Freed memory stays with the process if `keep_memory` asks for it."""

import subprocess
import sys

import pytest

from jlstm.train import memory

FAULTS = """
import resource, sys
import numpy as np
from jlstm.train.memory import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
def fill():
    np.ones(10_000_000)  # 80 MB; up to 32 MB glibc learns to keep by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
before = fill()
for _ in range(10):
    after = fill()
print(after - before)
"""


def page_faults(mode):
    return int(subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(memory.platform.libc_ver()[0] != "glibc", reason="there is no glibc to be told")
def test_a_block_is_cleared_by_the_system_once_instead_of_every_time():
    """Ten blocks of 80 MB reuse the same pages instead of faulting in new ones."""
    assert page_faults("leave") > 1000
    assert page_faults("keep") < 100


def test_without_glibc_nothing_is_done(monkeypatch):
    """Without glibc `keep_memory` does nothing, and says so."""
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    assert not memory.keep_memory()
