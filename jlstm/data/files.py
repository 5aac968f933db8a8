"""Where a data set's file is, and what is in it."""

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jlstm import checks


def locate(
    name: str,
    *,
    url: str,
    sha256: str,
    data_dir: str | os.PathLike[str] | None = None,
    under: str = "",
    instead: str | None = None,
) -> Path:
    """Return the path of a file: in `data_dir`, else in the folder `JLSTM_DATA`, else downloaded once and verified.

    Args:
        name: of the file.
        url: where to download it from when neither folder is given.
        sha256: of what the download must be.
        data_dir: a folder that has the file; only read.
        under: a folder in it where the file may lie instead.
        instead: name of a file of another format that serves as well; in a folder that has both it is taken.

    Raises:
        FileNotFoundError: the folder has no such file, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: what came is not what `sha256` says.
    """
    folder = os.environ.get("JLSTM_DATA") if data_dir is None else checks.path("data_dir", data_dir)
    if not folder:
        return _download(name, url, sha256)
    names = [instead, name] if instead else [name]
    paths = [place / name for name in names for place in (Path(folder) / under, Path(folder))]
    if (path := next((path for path in paths if path.is_file()), None)) is None:
        raise FileNotFoundError(
            f"there is no {' or '.join(names)} in the folder {folder}: "
            "put it there, or give neither data_dir nor JLSTM_DATA to download"
        )
    return path


def verified(path: Path, sha256: str) -> bytes:
    """Return what is in a file, if it is the one that `sha256` tells.

    Raises:
        ValueError: it is another one.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path} must be the published file, but its sha256 is not {sha256}: it is damaged or another one, so replace it, "
            "or give neither data_dir nor JLSTM_DATA to download"
        )
    return content


class Array(NamedTuple):
    """What an array in a file must be."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def read(path: Path, expected: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return arrays of an .npz file, without unpickling anything.

    Args:
        path: of the file.
        expected: what must be in it, by name.

    Raises:
        ValueError: the file is no .npz, or an array is missing or has another dtype or shape.
    """
    wanted = f"{path} must be an .npz file with the arrays " + ", ".join(f"{name} {array}" for name, array in expected.items())
    content = io.BytesIO(path.read_bytes())
    try:
        if not zipfile.is_zipfile(content):
            raise zipfile.BadZipFile("it is no whole zip archive")
        content.seek(0)
        with np.load(content, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in expected}
    except (KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{wanted}, but reading it failed: {error}") from error
    for name, array in arrays.items():
        if (found := Array(array.dtype.name, array.shape)) != expected[name]:
            raise ValueError(f"{wanted}, but {name} is {found}: give the folder of another file")
    return arrays


def _download(name: str, url: str, sha256: str) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise ImportError("downloading a data set needs pooch: pip install 'jlstm[examples]'") from error
    remedy = "give the folder that has it as data_dir or JLSTM_DATA, or begin with jlstm.data.digits, which needs no download"
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=pooch.os_cache("jlstm")))
    except OSError as error:  # no network, a refusing server, or a cache that cannot be written
        raise FileNotFoundError(f"{name} could not be downloaded from {url}: {remedy} ({type(error).__name__})") from error
    except ValueError as error:
        raise ValueError(f"{url} sent another file than {name} (its sha256 is not {sha256}), not kept: {remedy}") from error
