"""Data sets come whole and in range, from a folder or a verified download, and a failure says what to do."""

import functools
import hashlib
import http.server
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from jlstm.data import Dataset, digits, files, mnist

NEEDS_MNIST = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with mnist.npz")
SHAPES = {"x": (3, 2), "y": (3,)}


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def well_formed(dataset: Dataset) -> bool:
    return all(
        split.images.dtype == np.float32
        and split.labels.dtype == np.int32
        and (split.images.min(), split.images.max()) == (0, 1)
        and len(split.images) == len(split.labels)
        and set(split.labels) == set(range(10))
        for split in dataset
    )


def test_digits_are_one_fixed_split_of_all_the_images():
    """A figure on the digits means the same everywhere: the split is pinned by its label counts and first labels."""
    train, test = digits()
    assert well_formed(Dataset(train, test))
    assert train.images.shape == (1437, 8, 8)
    assert test.images.shape == (360, 8, 8)
    assert np.bincount(train.labels).tolist() == [139, 145, 130, 155, 139, 150, 144, 152, 144, 139]
    assert np.bincount(test.labels).tolist() == [39, 37, 47, 28, 42, 32, 37, 27, 30, 41]
    assert test.labels[:10].tolist() == [0, 8, 8, 9, 8, 3, 7, 5, 0, 6]
    assert len(np.unique(np.concatenate([train.images, test.images]), axis=0)) == 1797


@NEEDS_MNIST
def test_mnist_is_the_original():
    """Label counts, first labels and the mean pixel are the published ones."""
    train, test = mnist()
    assert well_formed(Dataset(train, test))
    assert train.images.shape == (60_000, 28, 28)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert train.images.mean(dtype=np.float64) * 255 == pytest.approx(33.3184, abs=1e-4)


def test_mnist_reads_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    """The argument wins over JLSTM_DATA, and nothing is written beside the file."""
    labels = {name: (np.arange(size) % 10).astype(np.uint8) for name, size in (("y_train", 60_000), ("y_test", 10_000))}
    images = {"x_train": np.full((60_000, 28, 28), 51, np.uint8), "x_test": np.zeros((10_000, 28, 28), np.uint8)}
    write(tmp_path / "mnist.npz", **labels, **images)
    tmp_path.chmod(0o555)
    monkeypatch.setenv("JLSTM_DATA", "/nowhere")
    train, test = mnist(tmp_path)
    assert train.images.dtype == test.images.dtype == np.float32
    assert train.images[-1, 3, 4] == np.float32(0.2)
    assert test.labels[:4].tolist() == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["mnist.npz"]
    tmp_path.chmod(0o755)


def test_a_folder_without_the_file_is_named(tmp_path, monkeypatch):
    """A folder that was asked for is never replaced by a silent download."""
    monkeypatch.setenv("JLSTM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"no mnist.npz in the folder {tmp_path}: put it there"):
        mnist()


def test_read_returns_the_arrays_asked_for(tmp_path):
    """Others in the file are left alone."""
    x = np.arange(6, dtype=np.uint8).reshape(3, 2)
    arrays = files.read(write(tmp_path / "a.npz", x=x, y=x[:, 0], z=x), SHAPES)
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
    """Wrong names, shapes, dtypes, and pickles, which are never loaded."""
    path = write(tmp_path / "other.npz", **arrays)
    with pytest.raises(
        ValueError, match=rf"other.npz must be an .npz file with the uint8 arrays x \(3, 2\), y \(3,\), but .*{message}"
    ):
        files.read(path, SHAPES)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 and no more", b"\x93NUMPY"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    """An empty file, a web page, a download that broke off, another format."""
    (tmp_path / "broken.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken.npz must be an .npz file .* but reading it failed"):
        files.read(tmp_path / "broken.npz", SHAPES)


def test_a_file_with_a_changed_byte_is_refused(tmp_path):
    """The checksum inside the archive is looked at."""
    path = write(tmp_path / "changed.npz", x=np.full((3, 2), 77, np.uint8), y=np.zeros(3, np.uint8))
    path.write_bytes(path.read_bytes().replace(bytes([77] * 6), bytes([77] * 5 + [78])))
    with pytest.raises(ValueError, match=r"changed.npz must be an .npz file .* but reading it failed: Bad CRC-32"):
        files.read(path, SHAPES)


def test_a_single_array_is_no_npz(tmp_path):
    """np.load returns an array for it, without names."""
    np.save(tmp_path / "single.npy", np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"must be an .npz file"):
        files.read(tmp_path / "single.npy", SHAPES)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A web server with one file, and an empty cache: its address, the file's content and the cache."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "set.npz").write_bytes(b"the data")
    monkeypatch.delenv("JLSTM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_is_verified_and_kept(served, tmp_path):
    """The second time needs no network."""
    sha256 = hashlib.sha256(b"the data").hexdigest()
    path = files.locate("set.npz", url=f"{served}/set.npz", sha256=sha256)
    assert path.read_bytes() == b"the data"
    assert path.is_relative_to(tmp_path / "cache")
    assert files.locate("set.npz", url="http://127.0.0.1:9/gone", sha256=sha256) == path


def test_a_download_of_something_else_is_refused(served, tmp_path):
    """What came is not kept either."""
    with pytest.raises(ValueError, match="hash of downloaded file"):
        files.locate("set.npz", url=f"{served}/set.npz", sha256="0" * 64)
    assert not list((tmp_path / "cache").rglob("*.npz"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/set.npz", "{served}/missing.npz"])
def test_without_network_the_error_says_what_to_do(served, url):
    """A closed port and a server's 404 alike."""
    with pytest.raises(
        FileNotFoundError, match=r"could not be downloaded .* --data-dir .* JLSTM_DATA, or train on --dataset digits"
    ):
        files.locate("set.npz", url=url.format(served=served), sha256="0" * 64)


@pytest.mark.parametrize(("module", "load"), [("pooch", mnist), ("sklearn.datasets", digits)])
def test_a_missing_extra_is_named(monkeypatch, module, load):
    """Neither is needed to import jlstm.data."""
    monkeypatch.delenv("JLSTM_DATA", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'jlstm\[examples\]'"):
        load()
