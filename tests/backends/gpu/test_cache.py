"""Compiled kernels are kept on disk: found again, compiled again if damaged, and shared by processes."""

import errno
import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from jlstm.backends.gpu import cache

# The module is loaded alone: all of jlstm would take a second.
WRITER = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("cache", {cache.__file__!r})
cache = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cache)
for _ in range(200):
    print(cache.load_or_compile("kernel.cubin", lambda: b"k" * 100_000))
    cache.load_or_compile("other-" + sys.argv[1], lambda: b"o")
    (cache.folder() / "kernel.cubin").unlink(missing_ok=True)
print(cache.load_or_compile("kernel.cubin", lambda: b"k" * 100_000))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A new folder for compiled kernels."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    cache._warn.cache_clear()
    return tmp_path / "kept"


class Compiler:
    """Counts how often it compiles."""

    def __init__(self, kernel=b"a kernel"):
        self.kernel, self.calls = kernel, 0

    def __call__(self):
        self.calls += 1
        return self.kernel


def test_a_kernel_is_compiled_once(folder):
    """The file has the kernel and then its SHA-256, and nothing else is left in the folder."""
    compiler = Compiler()
    path = cache.load_or_compile("name", compiler)
    assert path == cache.load_or_compile("name", compiler) == folder / "name"
    assert compiler.calls == 1
    assert path.read_bytes() == b"a kernel" + hashlib.sha256(b"a kernel").digest()
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-1], lambda content: b"b" + content[1:]])
def test_a_damaged_kernel_is_compiled_again(damage):
    """Such as one that was cut off when the disk was full."""
    compiler = Compiler()
    path = cache.load_or_compile("name", compiler)
    intact = path.read_bytes()
    path.write_bytes(damage(intact))
    assert cache.load_or_compile("name", compiler) == path
    assert path.read_bytes() == intact
    assert compiler.calls == 2


def test_a_failed_compilation_leaves_nothing_behind(folder):
    """The next call compiles again."""
    with pytest.raises(RuntimeError, match="no compiler"):
        cache.load_or_compile("name", lambda: (_ for _ in ()).throw(RuntimeError("no compiler")))
    assert not folder.exists()


@pytest.mark.parametrize("state", ["a file", "in a file"])
def test_a_folder_that_cannot_be_written_is_replaced(folder, state, monkeypatch):
    """The kernel is then in a temporary folder of this process, and one warning says so."""
    folder.write_text("not a folder")
    if state == "in a file":
        monkeypatch.setenv(cache.VARIABLE, str(folder / "kernels"))
    with pytest.warns(UserWarning, match=rf"^compiled kernels cannot be kept in {folder}.*: set JLSTM_CACHE to a folder that "):
        path = cache.load_or_compile("name", Compiler())
    assert path.read_bytes().startswith(b"a kernel")
    with warnings.catch_warnings(action="error"):  # once
        cache.load_or_compile("another", Compiler())


def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch):
    """What is already there is used, and what is new is in a temporary folder."""
    kept, write = cache.load_or_compile("name", Compiler()), Path.write_bytes

    def fill(path, content):
        write(path, content[:3] if path.parent == folder else content)
        if path.parent == folder:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill)
    assert cache.load_or_compile("name", Compiler()) == kept
    with pytest.warns(UserWarning, match="No space left on device"):
        assert cache.load_or_compile("another", Compiler()).read_bytes().startswith(b"a kernel")
    assert list(folder.iterdir()) == [kept]


def test_processes_may_write_at_once(folder):
    """Two processes that compile and delete the same kernel see only whole files."""
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("first", "second")]
    outputs = [writer.communicate()[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert {path for paths in outputs for path in paths} == {str(folder / "kernel.cubin")}
    kernel = b"k" * 100_000
    assert (folder / "kernel.cubin").read_bytes() == kernel + hashlib.sha256(kernel).digest()
    assert sorted(path.name for path in folder.iterdir()) == ["kernel.cubin", "other-first", "other-second"]


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    """`JLSTM_CACHE`, then `XDG_CACHE_HOME`, then `~/.cache`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(cache.VARIABLE, "~/kernels")
    assert cache.folder() == tmp_path / "kernels"
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder() == tmp_path / "xdg" / "jlstm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == tmp_path / ".cache" / "jlstm"
