"""Keep compiled kernels on disk.

The folder is `$JLSTM_CACHE`, or `jlstm` in `$XDG_CACHE_HOME`, which is `~/.cache` by default. It may be deleted at any time. A
file is a compiled kernel followed by its SHA-256, by which a damaged file is recognized.
"""

import hashlib
import os
import tempfile
import uuid
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

VARIABLE = "JLSTM_CACHE"  # the environment variable that names the folder
DIGEST_BYTES = hashlib.sha256().digest_size


def folder() -> Path:
    """Return the folder of compiled kernels."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jlstm"


def load_or_compile(name: str, compile_kernel: Callable[[], bytes]) -> Path:
    """Return the file of a kernel. It is compiled if there is no such file, or if the file is damaged.

    Several processes may do this at once. Each one writes a file of its own, and renames it when it is complete.

    Args:
        name: the name of the file, which contains a hash of all that the kernel depends on.
        compile_kernel: returns the compiled kernel.

    Returns:
        The path. If the folder cannot be written, it is in a folder that is deleted when this process ends.
    """
    kept = folder()
    if _is_intact(kept / name):
        return kept / name
    kernel = compile_kernel()
    try:
        return _write(kept, name, kernel)
    except OSError as error:
        _warn(kept, error.strerror or str(error))
        return _write(Path(_temporary_folder().name), name, kernel)


def _is_intact(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    kernel, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    return bool(kernel) and hashlib.sha256(kernel).digest() == digest


def _write(to: Path, name: str, kernel: bytes) -> Path:
    to.mkdir(parents=True, exist_ok=True)
    unfinished = to / f"{name}.{uuid.uuid4().hex}"
    try:
        unfinished.write_bytes(kernel + hashlib.sha256(kernel).digest())
        return unfinished.replace(to / name)
    finally:
        unfinished.unlink(missing_ok=True)


@cache
def _warn(unwritable: Path, reason: str) -> None:
    message = f"compiled kernels cannot be kept in {unwritable} ({reason}): set {VARIABLE} to a folder that can be written"
    warnings.warn(message, stacklevel=2)


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="jlstm-")
