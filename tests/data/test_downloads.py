"""Every data set comes from a folder or a verified download, and a failure says what to do."""

import functools
import hashlib
import http.server
import importlib
import json
import threading

import numpy as np
import pytest

from jlstm.data import Ragged, airline, files, imdb, imdb_word_index, mnist, ptb, shakespeare, sunspots, temperatures

FILES = {
    mnist: ["mnist.npz"],
    imdb: ["imdb.npz"],
    imdb_word_index: ["imdb_word_index.json"],
    ptb: ["ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"],
    shakespeare: ["tinyshakespeare.txt"],
    airline: ["airline-passengers.csv"],
    sunspots: ["monthly-sunspots.csv"],
    temperatures: ["daily-min-temperatures.csv"],
}
NAMES_OF_SERIES = {load.__name__: FILES[load][0] for load in (airline, sunspots, temperatures)}
every_set = pytest.mark.parametrize("load", FILES, ids=lambda load: load.__name__)
DIGITS = {f"x_{part}": np.full((3, 2, 2), 51, np.uint8) for part in ("train", "test")}
DIGITS |= {f"y_{part}": np.arange(3, dtype=np.uint8) for part in ("train", "test")}
REVIEWS = {f"x_{part}": np.array([[5, 6], [7], [8, 9, 10]], object) for part in ("train", "test")}
REVIEWS |= {"y_train": np.array([0, 1, 0]), "y_test": np.array([1, 0, 1])}
TEXTS = {
    "imdb_word_index.json": '{"the": 1, "naïve": 2}',
    "ptb.train.txt": "the <unk> of the\n",
    "ptb.valid.txt": "of\n",
    "ptb.test.txt": "the\n",
    "tinyshakespeare.txt": "to be or not to be! " * 5,
    "airline-passengers.csv": '"Month","Passengers"\n"1949-01",112\n"1949-02",118',
    "monthly-sunspots.csv": '"Month","Sunspots"\n"1749-01",58.0',
    "daily-min-temperatures.csv": '"Date","Temp"\n"1981-01-01",20.7',
}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A web server with one file, and an empty cache. The value is the address, the content and the cache."""
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


@pytest.fixture
def published(served, tmp_path, monkeypatch):
    """A folder with small files in every set's layout. The server offers them in place of the published files."""
    folder = tmp_path / "site"
    np.savez(folder / "mnist.npz", **DIGITS)
    np.savez(folder / "imdb.npz", **REVIEWS)
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    sha256 = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    series = {function.upper(): (name, sha256[name]) for function, name in NAMES_OF_SERIES.items()}
    arrays = {name: files.Array("uint8", array.shape) for name, array in DIGITS.items()}
    constants = {
        "mnist": {"URL": f"{served}/mnist.npz", "SHA256": sha256["mnist.npz"], "ARRAYS": arrays},
        "imdb": {"URL": f"{served}/", "SHA256": sha256["imdb.npz"], "INDEX_SHA256": sha256["imdb_word_index.json"]},
        "corpora": {
            "PTB_URL": f"{served}/",
            "PTB_SHA256": {name: sha256[name] for name in FILES[ptb]},
            "SHAKESPEARE_URL": f"{served}/tinyshakespeare.txt",
            "SHAKESPEARE_SHA256": sha256["tinyshakespeare.txt"],
        },
        "series": {"URL": f"{served}/", **series},
    }
    for module, values in constants.items():
        for name, value in values.items():
            monkeypatch.setattr(importlib.import_module(f"jlstm.data.{module}"), name, value)
    return folder


def plain(dataset) -> object:
    """Return a data set as nested lists, which can be compared."""
    if isinstance(dataset, Ragged):
        return [row.tolist() for row in dataset]
    if isinstance(dataset, tuple):
        return [plain(part) for part in dataset]
    return dataset.tolist() if isinstance(dataset, np.ndarray) else dataset


def test_a_download_is_verified_and_kept(served, tmp_path):
    """The second call reads the cache and needs no network."""
    sha256 = hashlib.sha256(b"the data").hexdigest()
    path = files.locate("set.npz", url=f"{served}/set.npz", sha256=sha256)
    assert path.read_bytes() == b"the data"
    assert path.is_relative_to(tmp_path / "cache")
    assert files.locate("set.npz", url="http://127.0.0.1:9/gone", sha256=sha256) == path


def test_a_download_of_something_else_is_refused(served, tmp_path):
    """A download with a wrong hash is refused, and not kept."""
    with pytest.raises(ValueError, match=r"/set.npz sent another file than set.npz .*, not kept: give the folder .* JLSTM_DATA"):
        files.locate("set.npz", url=f"{served}/set.npz", sha256="0" * 64)
    assert not list((tmp_path / "cache").rglob("*.npz"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/set.npz", "{served}/missing.npz"])
def test_without_network_the_error_says_what_to_do(served, url):
    """A closed port and a server's 404 give the same kind of message."""
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded .* data_dir or JLSTM_DATA, or begin with .*digits"):
        files.locate("set.npz", url=url.format(served=served), sha256="0" * 64)


@every_set
def test_every_set_is_downloaded_once(published, load):
    """The second call reads the cache, when the server has no files any more."""
    first = load()
    for name in FILES[load]:
        (published / name).unlink()
    assert plain(load()) == plain(first)


@every_set
def test_every_set_is_read_from_a_folder_that_cannot_be_written(published, load, monkeypatch):
    """The argument or JLSTM_DATA names the folder. Nothing is written beside the files."""
    downloaded, files = load(), sorted(published.iterdir())
    published.chmod(0o555)
    assert plain(load(published)) == plain(downloaded)
    monkeypatch.setenv("JLSTM_DATA", str(published))
    assert plain(load()) == plain(downloaded)
    assert sorted(published.iterdir()) == files
    published.chmod(0o755)


@every_set
def test_a_file_that_is_not_there_is_named(load, tmp_path, monkeypatch):
    """A missing file in a given folder is an error, never a silent download."""
    names = r"imdb_flat.npz or imdb.npz" if load is imdb else FILES[load][0]
    monkeypatch.setenv("JLSTM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"there is no {names} in the folder {tmp_path}: put it there"):
        load()


@every_set
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-30], lambda content: b"<html>404</html>"])
def test_another_file_is_refused(published, load, damage):
    """An empty file, a truncated file and a web page are refused by name, also the last of several files."""
    path = published / FILES[load][-1]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path} must be (the published file|an .npz file)"):
        load(published)


def test_what_small_files_hold(published):
    """The values of each set are those of its small file."""
    assert plain(mnist().train) == [np.full((3, 2, 2), np.float32(0.2)).tolist(), [0, 1, 2]]
    for split, labels in zip(imdb(num_words=100), (REVIEWS["y_train"], REVIEWS["y_test"]), strict=True):
        label_of = {tuple(tokens.tolist()): label for tokens, label in zip(*split, strict=True)}
        assert label_of == dict(zip([(1, 8, 9), (1, 10), (1, 11, 12, 13)], labels, strict=True))
        assert split.labels.dtype == split.tokens.values.dtype == np.int32
    assert imdb_word_index() == json.loads(TEXTS["imdb_word_index.json"])
    assert plain(ptb()) == [[0, 2, 3, 0, 1], [3, 1], [0, 1], ["the", "<eos>", "<unk>", "of"]]
    assert [len(part) for part in shakespeare()] == [90, 5, 5, 8]
    assert [str(time) for time in airline().times] == ["1949-01", "1949-02"]
    assert plain(temperatures().values) == [np.float32(20.7)]
