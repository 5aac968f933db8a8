"""The kernel's C++ tests, compiled with sanitizers for memory, undefined behavior and data races."""

import shutil
import subprocess

import pytest

from jlstm.backends.cpu import library

pytestmark = pytest.mark.no_cover

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
KINDS = {  # with these sanitizers optimizing takes longer than running
    "addresses and all undefined, this processor": ["-fsanitize=address,undefined", "-march=native", "-O0"],
    "addresses, baseline": ["-fsanitize=address", "-O0"],
    "races": ["-fsanitize=thread", "-march=native", "-O1"],
}


@pytest.mark.table(quick=1)
@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found(kind, tmp_path):
    """Functions are exact to 2 ULP, and odd sizes with masks and resets give the same for any number of threads."""
    program, source_dir = tmp_path / "sanitized", library.HERE
    flags = [
        "-std=c++17",
        "-g1",
        "-ffp-contract=fast",
        "-fno-sanitize-recover=all",
        "-pthread",
        f"-I{source_dir / 'src'}",
        f"-I{source_dir.parent / 'native' / 'src'}",
        *KINDS[kind],
    ]
    tests = source_dir / "tests"
    # GCC contracts a - b * c only with these flags, and the accuracy depends on it
    fast = ["-O1", "-fexpensive-optimizations", "-c", tests / "functions.cc", "-o", tmp_path / "functions.o"]
    subprocess.run([COMPILER, *flags, *fast], check=True)
    link_args = [tmp_path / "functions.o", tests / "main.cc", tests / "runs.cc", "-o", program]
    subprocess.run([COMPILER, *flags, *link_args], check=True)
    process = subprocess.run([program], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.endswith("all is well\n")
