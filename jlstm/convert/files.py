"""Reading files that may come from anywhere: what a file declares is checked against its size before memory is taken."""

import os
import zipfile
from importlib import import_module
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

FLOATS = {"F64", "F32", "F16", "BF16"}


class RefusalError(ValueError):
    """What our own checks of a file say, apart from what its reader complains of."""


def reason(error: Exception) -> str:
    """The first line of what a reader complains of."""
    return str(error).split("\n")[0][:200] or type(error).__name__


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file that is there.

    Raises:
        FileNotFoundError: there is none.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}: check its name")
    return Path(path)


def mapped(path: Path) -> bytes | mmap:
    """Return a file's content, of which only what is looked at is read."""
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else b""


def needed(module: str, path: Path) -> Any:
    """Import what reads a kind of file.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ImportError(f"{path.name} is read with {package}, which is not installed: pip install {package}") from error


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read the floating tensors of a safetensors file, whose declared sizes its reader checks.

    Raises:
        ValueError: it is none.
    """
    try:
        with safe_open(path, "np") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names if file.get_slice(name).get_dtype() in FLOATS}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({reason(error)}): write it again") from error


def members(path: Path) -> zipfile.ZipFile:
    """Open a zip file that is not compressed, so that reading it takes no more memory than it has bytes.

    Raises:
        ValueError: it is none, or it is compressed.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is not a whole zip file ({reason(error)}): write or download it again") from error
    entries = archive.infolist()
    packed = any(info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size for info in entries)
    if packed or sum(info.file_size for info in entries) > path.stat().st_size:
        archive.close()
        raise ValueError(
            f"{path} is compressed or damaged, expected a plain zip file as the framework writes it: write it again, or pack it "
            "with zip -0"
        )
    return archive


def member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one member of an archive that `members` opened.

    Raises:
        ValueError: it is not there, or damaged.
    """
    try:
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} has no whole {name!r} in it ({reason(error)}): write or download it again") from error
