"""Our own HDF5 reader against the HDF5 library."""

import h5py
import numpy as np
import pytest

from jlstm.convert.files import RefusalError
from jlstm.convert.hdf5_format import File


def test_what_the_library_writes_is_read(tmp_path):
    """Nested groups, floating dtypes in both byte orders and text attributes are read bit by bit."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["short"], file.attrs["long"] = "word", "wörd" * 10**5
        file.attrs["bytes"], file.attrs["number"], file.attrs["words"] = np.bytes_(b"four"), 3.0, ["a", "b"]
        for k in range(300):  # more than one block of a symbol table
            file.create_group(f"wide/{k}").attrs["name"] = f"layer_{k}"
        file["/".join("deep" for _ in range(50)) + "/x"] = rng.normal(size=3)
        for dtype in ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8"):
            file[f"floats/{dtype}"] = rng.normal(size=(2, 3, 4)).astype(dtype)
        file["floats/scalar"], file["floats/none"] = np.float32(1), np.zeros((0, 3))
        file["whole"] = np.arange(3)
    ours = File((tmp_path / "a.h5").read_bytes())
    assert ours.attributes[""] == {"short": "word", "long": "wörd" * 10**5, "bytes": "four", "words": ("a", "b")}
    with h5py.File(tmp_path / "a.h5") as file:
        theirs = {}
        file.visititems(lambda name, item: theirs.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        assert all(ours.attributes[f"wide/{k}"]["name"] == file[f"wide/{k}"].attrs["name"] for k in range(300))
    assert ours.datasets.keys() == theirs.keys()
    assert ours.datasets.pop("whole").dtype is None
    for name, dataset in ours.datasets.items():
        np.testing.assert_array_equal(ours.array(dataset), theirs[name])
        assert ours.array(dataset).dtype == theirs[name].dtype


def test_the_later_format_is_refused(tmp_path):
    """The later HDF5 format is refused: Keras does not write it."""
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["x"] = np.ones(3)
    with pytest.raises(RefusalError, match="first version"):
        File((tmp_path / "a.h5").read_bytes())


def test_groups_within_themselves_are_read_once(tmp_path):
    """A cycle of groups and a dataset under two names are read once."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one/x"] = np.ones(3)
        file["one/again"], file["y"] = file["one"], file["one/x"]
    assert len(File((tmp_path / "a.h5").read_bytes()).datasets) == 1


def test_a_path_without_end_is_refused(tmp_path):
    """Deep nesting is refused: the names would take memory quadratic in the depth."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/".join("deep" for _ in range(1000)) + "/x"] = np.ones(3)
    with pytest.raises(RefusalError, match="nested too deep"):
        File((tmp_path / "a.h5").read_bytes())


def test_a_circle_of_blocks_is_refused(tmp_path):
    """A symbol table whose node is itself is refused. The HDF5 library would read it forever."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one/x"] = np.ones(3)
    content = bytearray((tmp_path / "a.h5").read_bytes())
    node = content.index(b"TREE")
    content[node + 32 : node + 40] = node.to_bytes(8, "little")
    with pytest.raises(RefusalError, match="not where it says"):
        File(bytes(content))


@pytest.mark.parametrize("place", [4, 2], ids=["type", "space"])
def test_an_attribute_that_is_cut_off_is_refused(tmp_path, place):
    """An attribute whose type or shape claims to be one byte long is refused."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["word"] = "text"
    content = bytearray((tmp_path / "a.h5").read_bytes())
    name = content.index(b"word\0")
    content[name - place : name - place + 2] = (1).to_bytes(2, "little")
    with pytest.raises(RefusalError, match="an attribute that is not whole"):
        File(bytes(content))
