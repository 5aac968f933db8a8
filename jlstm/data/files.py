"""Find, download, verify and read the files of data sets."""

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jlstm._src import checks
from jlstm._src.packages import needed_by


def locate(
    name: str,
    *,
    url: str,
    sha256: str,
    data_dir: str | os.PathLike[str] | None = None,
    under: str = "",
    instead: str | None = None,
) -> Path:
    """Return the path of a file: in `data_dir`, else in the folder `JLSTM_DATA`, else in the cache after a verified download.

    Args:
        name: Name of the file.
        url: Address to download from if neither folder is given.
        sha256: Expected SHA-256 of the download, in hexadecimal.
        data_dir: A folder with the file. It is only read.
        under: A subfolder that may have the file instead.
        instead: Name of an alternative file in another format. It is preferred if the folder has both.

    Returns:
        The path of an existing file. Files in a folder are not verified here.

    Raises:
        FileNotFoundError: The folder does not have the file, or the download failed.
        ImportError: pooch, which downloads, is not installed.
        ValueError: The download does not match `sha256`.
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
    """Return the content of a file after checking its SHA-256.

    Raises:
        ValueError: The content does not match `sha256`.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path} must be the published file, but its sha256 is not {sha256}: it is damaged or another one, so replace it, "
            "or give neither data_dir nor JLSTM_DATA to download"
        )
    return content


class Array(NamedTuple):
    """Expected dtype and shape of an array in a file."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def read(path: Path, expected: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return arrays of an .npz file. Pickled data is refused.

    Args:
        path: Path of the file.
        expected: Expected dtype and shape of each array, by name.

    Returns:
        The arrays by name.

    Raises:
        ValueError: The file is not an .npz file, or an array is missing or has another dtype or shape.
    """
    required = f"{path} must be an .npz file with the arrays " + ", ".join(f"{name} {array}" for name, array in expected.items())
    content = io.BytesIO(path.read_bytes())
    try:
        # `np.load` would take a file that is not a zip archive for a pickle, and its message would suggest to allow pickles.
        if not zipfile.is_zipfile(content):
            raise zipfile.BadZipFile("it is no whole zip archive")
        content.seek(0)
        with np.load(content, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in expected}
    except (KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{required}, but reading it failed: {error}") from error
    for name, array in arrays.items():
        if (actual := Array(array.dtype.name, array.shape)) != expected[name]:
            raise ValueError(f"{required}, but {name} is {actual}: give the folder of another file")
    return arrays


def _download(name: str, url: str, sha256: str) -> Path:
    with needed_by("downloading a data set", "jlstm[data]"):
        import pooch
    remedy = "give the folder that has it as data_dir or JLSTM_DATA, or begin with jlstm.data.digits, which needs no download"
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=pooch.os_cache("jlstm")))
    except OSError as error:  # no network, a server error, or a cache that cannot be written
        raise FileNotFoundError(f"{name} could not be downloaded from {url}: {remedy} ({type(error).__name__})") from error
    except ValueError as error:
        raise ValueError(f"{url} sent another file than {name} (its sha256 is not {sha256}), not kept: {remedy}") from error
