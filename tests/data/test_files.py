"""A data file is found and read, or refused with a sentence that says what to do."""

import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest

from jlstm.data import files

ARRAYS = {"x": files.Array("uint8", (3, 2)), "y": files.Array("uint8", (3,))}


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_file_is_looked_for_in_the_folder_and_the_one_below(tmp_path):
    """A file may lie in the folder or, preferably, in the set's subfolder. An `instead` file comes first."""
    place = functools.partial(files.locate, url="http://127.0.0.1:9", sha256="", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=f"there is no b or a in the folder {tmp_path}: put it there"):
        place("a", under="below", instead="b")
    (tmp_path / "a").touch()
    assert place("a", under="below", instead="b") == tmp_path / "a"
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a").touch()
    assert place("a", under="below", instead="b") == tmp_path / "below" / "a"
    (tmp_path / "b").touch()
    assert place("a", under="below", instead="b") == tmp_path / "b"


def test_a_file_is_verified_before_it_is_handed_out(tmp_path):
    """The content is returned only if its hash is right."""
    (tmp_path / "text").write_bytes(b"the data")
    assert files.verified(tmp_path / "text", hashlib.sha256(b"the data").hexdigest()) == b"the data"
    with pytest.raises(ValueError, match=r"text must be the published file, but its sha256 is not 00"):
        files.verified(tmp_path / "text", "0" * 64)


def test_read_returns_the_arrays_asked_for(tmp_path):
    """Other arrays in the file are ignored."""
    x = np.arange(6, dtype=np.uint8).reshape(3, 2)
    arrays = files.read(write(tmp_path / "a.npz", x=x, y=x[:, 0], z=x), ARRAYS)
    assert list(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], x)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 2), np.uint8)}, "y is not a file in the archive"),
        ({"x": np.zeros((3, 2), np.uint8), "y": np.zeros(4, np.uint8)}, r"y is uint8 \(4,\)"),
        ({"x": np.zeros((3, 2), np.float64), "y": np.zeros(3, np.uint8)}, r"x is float64 \(3, 2\)"),
        ({"x": np.array([{"pickled": True}] * 3, object), "y": np.zeros(3, np.uint8)}, "allow_pickle=False"),
    ],
)
def test_a_file_with_other_arrays_is_refused(tmp_path, arrays, message):
    """Wrong names, shapes and dtypes are refused, and pickles, which are never loaded."""
    path = write(tmp_path / "other.npz", **arrays)
    with pytest.raises(
        ValueError, match=rf"other.npz must be an .npz file with the arrays x uint8 \(3, 2\), y uint8 \(3,\), but .*{message}"
    ):
        files.read(path, ARRAYS)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 and no more", b"\x93NUMPY"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    """An empty file, a web page, a truncated download and another format are refused."""
    (tmp_path / "broken.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken.npz must be an .npz file .* but reading it failed"):
        files.read(tmp_path / "broken.npz", ARRAYS)


def test_a_file_with_a_changed_byte_is_refused(tmp_path):
    """The checksum inside the archive shows the changed byte."""
    path = write(tmp_path / "changed.npz", x=np.full((3, 2), 77, np.uint8), y=np.zeros(3, np.uint8))
    path.write_bytes(path.read_bytes().replace(bytes([77] * 6), bytes([77] * 5 + [78])))
    with pytest.raises(ValueError, match=r"changed.npz must be an .npz file .* but reading it failed: Bad CRC-32"):
        files.read(path, ARRAYS)


def test_a_single_array_is_no_npz(tmp_path):
    """A .npy file is refused: np.load returns an array without a name."""
    np.save(tmp_path / "single.npy", np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"must be an .npz file"):
        files.read(tmp_path / "single.npy", ARRAYS)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_damage_goes_unnoticed(tmp_path, save):
    """With any byte changed, or cut off anywhere, a file gives the original arrays or one sentence."""
    x, path = np.arange(6, dtype=np.uint8).reshape(3, 2), tmp_path / "damaged.npz"
    save(path, x=x, y=x[:, 0])
    whole, fine = path.read_bytes(), 0
    damaged = [whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :] for position in range(len(whole))]
    message = f"{path} must be an .npz file with the arrays x uint8 (3, 2), y uint8 (3,), but"
    contents = [*damaged, *(whole[:end] for end in range(0, len(whole), 7))]
    for content in contents:
        path.write_bytes(content)
        try:
            arrays = files.read(path, ARRAYS)
        except ValueError as error:
            fine += str(error).startswith(message)
        else:
            fine += 1
            np.testing.assert_array_equal(arrays["x"], x)
            np.testing.assert_array_equal(arrays["y"], x[:, 0])
    assert fine == len(contents)
