"""Safe reading of untrusted files. A declared size is checked against the file's size before memory is allocated."""

import os
import zipfile
from copy import copy
from importlib import import_module
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from jlstm._src import checks
from jlstm._src.packages import needed_by


class RefusalError(ValueError):
    """A failed check of jlstm itself on a file, as opposed to an error of the library that reads the file."""


def reason(error: Exception) -> str:
    """Return the first line of an error message, cut to 200 characters, or the name of the error's class."""
    return str(error).split("\n")[0][:200] or type(error).__name__


def existing_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path, after a check that it is an existing file.

    Raises:
        FileNotFoundError: there is no such file, or the path is a folder.
    """
    if checks.path("path", path).is_dir():
        raise FileNotFoundError(f"{os.fspath(path)} is a folder, expected a file: name a file in it")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}: check its name")
    return Path(path)


def memory_map(path: Path) -> bytes | mmap:
    """Return a file's content as a memory map, so that only the parts that are accessed are read."""
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ) if path.stat().st_size else b""


def import_package(module: str, path: Path) -> Any:
    """Import and return the module that reads this kind of file.

    Raises:
        ImportError: the module is not installed.
    """
    with needed_by(path.name, module.split(".")[0]):
        return import_module(module)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an uncompressed zip file. Reading its members takes no more memory than the size of the file.

    Raises:
        ValueError: the file is not a zip file, is compressed or damaged, or has two members with the same name.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} is not a whole zip file ({reason(error)}): write or download it again") from error
    if complaint := _complaint(archive.infolist(), path.stat().st_size):
        archive.close()
        raise ValueError(f"{path} {complaint}")
    return archive


def _complaint(entries: list[zipfile.ZipInfo], size: int) -> str:
    """Return what is wrong with the members of an archive, and a remedy; "" if nothing is."""
    names = [info.filename.lower() for info in entries]  # some readers ignore case, so two such names would be ambiguous
    if repeated := next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None:
        return f"has two members with the name {repeated[:80]!r}: write or download it again"
    if any(info.compress_type != zipfile.ZIP_STORED for info in entries):
        return "is a compressed zip file, expected a plain zip file as frameworks write: write it again, or pack it with zip -0"
    # zipfile allocates what a member declares, and members may overlap, so each size and the total are checked.
    if any(info.compress_size != info.file_size for info in entries) or sum(info.file_size for info in entries) > size:
        return "is damaged, its members are larger than the file: write or download it again"
    return ""


def read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one member of an archive that `open_zip` opened, and verify its checksum.

    A checksum of 0 means that the file has none: `torch.serialization.set_crc32_options(False)` leaves it out.

    Raises:
        ValueError: the member is missing or damaged.
    """
    try:
        info: Any = copy(archive.getinfo(name))  # a copy, so that the archive itself keeps the checksum
        if not info.CRC:
            info.CRC = None  # zipfile then skips the check
        return archive.read(info)
    except (KeyError, zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path} has no whole {name[:80]!r} in it ({reason(error)}): write or download it again") from error


PYTORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number, the start of files from before PyTorch 1.6
_FROM_PYTORCH = "read it with jlstm.convert.torch"
_KINDS = (  # offset of the signature, signature, kind of file, remedy
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", "read a Keras model with jlstm.convert.keras"),
    (0, b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    (0, b"BZh", "compressed by bzip2", "unpack it with bunzip2"),
    (0, b"\xfd7zXZ\x00", "compressed by xz", "unpack it with unxz"),
    (0, b"(\xb5/\xfd", "compressed by zstd", "unpack it with unzstd"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive", "unpack it"),
    (0, b"\x93NUMPY", "a NumPy array", "pass arrays to load by their names"),
    (0, b"GGUF", "a GGUF file", "read the file that it was made of"),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "get the file itself with git lfs pull"),
    (0, b"<", "a text such as a web page", "download the file itself"),
    (4, b"TFL3", "a TensorFlow Lite model", "read the model that it was made of"),
    (257, b"ustar", "a tar archive", "unpack it, or load and save it with PyTorch if that wrote it before version 0.1.10"),
)


def refuse_other_kind(path: Path, content: bytes | mmap, expected: str, *own_kinds: str) -> None:
    """Refuse a file of another known kind. Any other file is left to the reader.

    Args:
        path: the file.
        content: its content.
        expected: what the reader takes, for the message.
        own_kinds: the kinds, by the names in the messages, that the reader takes.

    Raises:
        ValueError: the file is of another known kind. The message names it, and a remedy.
    """
    kind_and_remedy = _zip_kind(path) if content[:4] == b"PK\x03\x04" else kind(content) or _pytorch_kind(content)
    if kind_and_remedy is not None and kind_and_remedy[0] not in own_kinds:
        raise ValueError(f"{path} is {kind_and_remedy[0]}, expected {expected}: {kind_and_remedy[1]}")


def _zip_kind(path: Path) -> tuple[str, str] | None:
    """Return the kind of a zip archive by the names of its members, and a remedy. Return None if it is of no known kind."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # the reader says what is wrong with the archive
        return None
    if "data.pkl" in names:
        return "a file of PyTorch", _FROM_PYTORCH
    return ("a Keras model", "read it with jlstm.convert.keras") if "model.weights.h5" in names else None


def _pytorch_kind(content: bytes | mmap) -> tuple[str, str] | None:
    """Return the kind of a file of PyTorch that is not a zip archive, and a remedy, or None for any other file."""
    if content[: len(PYTORCH_LEGACY)] == PYTORCH_LEGACY:
        return "a file of PyTorch", _FROM_PYTORCH
    # The length of the header in 8 bytes, and the header, which is a JSON object.
    return ("a safetensors file", _FROM_PYTORCH) if content[8:9] == b"{" else None


def kind(content: bytes | mmap) -> tuple[str, str] | None:
    """Return the kind of a file and a remedy for the error message, or None. The first bytes of the file tell its kind."""
    for offset, signature, description, remedy in _KINDS:
        if content[offset : offset + len(signature)] == signature:
            return description, remedy
    # The ninth byte of a safetensors file is a brace too, and its first byte may be one by chance.
    if content[:1] == b"{" and content[8:9] != b"{":
        return "a text in JSON", "name the file that has the weights"
    # ONNX has no signature. A ModelProto begins with its first field, `ir_version` (byte 8, then the version). The third byte is
    # the tag of one of its other fields.
    if len(content) > 2 and content[0] == 8 and 2 < content[1] < 32 and content[2] in (18, 26, 34, 58, 66):
        return "an ONNX model", "read it with jlstm.convert.onnx"
    return None
