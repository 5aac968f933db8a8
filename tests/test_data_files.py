"""A file is found, downloaded or refused: never read as something it is not, and each failure says what to do."""

import functools
import hashlib
import http.server
import importlib
import threading
from pathlib import Path

import numpy as np
import pytest

from jlstm.data import files, imdb

ARRAYS = {"x": files.Array("uint8", (3, 2)), "y": files.Array("uint8", (3,))}


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_file_is_looked_for_in_the_folder_and_the_one_below(tmp_path):
    """Beside the other sets' files, or where they have a folder of their own; a file that serves as well goes before."""
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
    """The content comes with the right hash only."""
    (tmp_path / "text").write_bytes(b"the data")
    assert files.verified(tmp_path / "text", hashlib.sha256(b"the data").hexdigest()) == b"the data"
    with pytest.raises(ValueError, match=r"text must be the published file, but its sha256 is not 00"):
        files.verified(tmp_path / "text", "0" * 64)


def test_read_returns_the_arrays_asked_for(tmp_path):
    """Others in the file are left alone."""
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
    """Wrong names, shapes, dtypes, and pickles, which are never loaded."""
    path = write(tmp_path / "other.npz", **arrays)
    with pytest.raises(
        ValueError, match=rf"other.npz must be an .npz file with the arrays x uint8 \(3, 2\), y uint8 \(3,\), but .*{message}"
    ):
        files.read(path, ARRAYS)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 and no more", b"\x93NUMPY"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    """An empty file, a web page, a download that broke off, another format."""
    (tmp_path / "broken.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken.npz must be an .npz file .* but reading it failed"):
        files.read(tmp_path / "broken.npz", ARRAYS)


def test_a_file_with_a_changed_byte_is_refused(tmp_path):
    """The checksum inside the archive is looked at."""
    path = write(tmp_path / "changed.npz", x=np.full((3, 2), 77, np.uint8), y=np.zeros(3, np.uint8))
    path.write_bytes(path.read_bytes().replace(bytes([77] * 6), bytes([77] * 5 + [78])))
    with pytest.raises(ValueError, match=r"changed.npz must be an .npz file .* but reading it failed: Bad CRC-32"):
        files.read(path, ARRAYS)


def test_a_single_array_is_no_npz(tmp_path):
    """np.load returns an array for it, without names."""
    np.save(tmp_path / "single.npy", np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match=r"must be an .npz file"):
        files.read(tmp_path / "single.npy", ARRAYS)


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
    with pytest.raises(ValueError, match=r"/set.npz sent another file than set.npz .*, not kept: give a folder .* JLSTM_DATA"):
        files.locate("set.npz", url=f"{served}/set.npz", sha256="0" * 64)
    assert not list((tmp_path / "cache").rglob("*.npz"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/set.npz", "{served}/missing.npz"])
def test_without_network_the_error_says_what_to_do(served, url):
    """A closed port and a server's 404 alike."""
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded .* --data-dir .* JLSTM_DATA, or begin with the digits"):
        files.locate("set.npz", url=url.format(served=served), sha256="0" * 64)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled(path: Path, *reviews) -> str:
    """Write a file of Keras' layout, each review a pickled object; return its sha256."""
    rows = np.empty(len(reviews), object)
    rows[:] = reviews
    labels = np.arange(len(reviews)) % 2
    write(path, x_train=rows, y_train=labels, x_test=rows, y_test=1 - labels)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_pickle_is_opened_before_its_hash_is_verified(tmp_path):
    """A file called imdb.npz that is not Keras' could run any code: it is refused unread."""
    pickled(tmp_path / "imdb.npz", Bomb(tmp_path / "exploded"), [2])
    with pytest.raises(ValueError, match=r"imdb.npz must be the published file, but its sha256 is not 6966"):
        imdb(tmp_path)
    assert not (tmp_path / "exploded").exists()
    with np.load(tmp_path / "imdb.npz", allow_pickle=True) as archive:
        assert len(archive["x_train"]) == 2
    assert (tmp_path / "exploded").exists()  # so that the test would notice


def test_imdb_is_keras_file_when_it_has_to_be_downloaded(served, tmp_path, monkeypatch):
    """The lists in Keras' own file are the reviews, from the network, from the cache, and from a folder with that file."""
    module = importlib.import_module("jlstm.data.imdb")
    monkeypatch.setattr(module, "URL", f"{served}/")
    monkeypatch.setattr(module, "SHA256", pickled(tmp_path / "site" / "imdb.npz", [5, 6], [7], [8, 9, 10]))
    first = imdb(num_words=100)
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:9/")
    for dataset in (first, imdb(num_words=100), imdb(tmp_path / "site", num_words=100)):
        for split, odd in zip(dataset, (0, 1), strict=True):
            content = {tuple(tokens.tolist()): int(label) for tokens, label in zip(*split, strict=True)}
            labels = [0, 1, 0] if not odd else [1, 0, 1]
            assert content == dict(zip([(1, 8, 9), (1, 10), (1, 11, 12, 13)], labels, strict=True))
            assert split.labels.dtype == split.tokens.values.dtype == np.int32
