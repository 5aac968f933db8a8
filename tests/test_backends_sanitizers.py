"""The kernel's own tests, compiled with what sees each wrong read, each undefined operation and each data race."""

import shutil
import subprocess

import pytest

from jlstm.backends.cpu import library

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
KINDS = {
    "addresses and all undefined, this processor": ["-fsanitize=address,undefined", "-march=native"],
    "addresses, baseline": ["-fsanitize=address"],
    "races": ["-fsanitize=thread", "-march=native"],
}


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found(kind, tmp_path):
    """Functions within 2 ULP; runs of odd sizes, with masks and resets, the same whatever the number of threads."""
    program, files = tmp_path / "sanitized", sorted((library.HERE / "tests").glob("*.cc"))
    fast = ["-O1", "-fexpensive-optimizations"]  # GCC contracts a - b * c only with these, and accuracy rests on it
    flags = ["-std=c++17", *fast, "-g1", "-ffp-contract=fast", "-fno-sanitize-recover=all", "-pthread", *KINDS[kind]]
    subprocess.run([COMPILER, *flags, f"-I{library.HERE / 'src'}", *files, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is well\n")
