"""The emulated GPU of these tests."""

import os

import pytest

import emulated_gpu
from jlstm.backends.gpu import library
from jlstm.backends.native import libraries


@pytest.fixture(scope="session")
def build_folder(tmp_path_factory):
    """A folder that all processes of the tests share."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    (shared / "emulated_gpu").mkdir(exist_ok=True)
    return shared / "emulated_gpu"


@pytest.fixture(scope="session")
def driver(build_folder):
    """The stand-in for the driver."""
    if library.load().functions is None and library.load().reason == libraries.NOT_BUILT:
        pytest.skip("this machine had no C++ compiler when the package was installed")
    return emulated_gpu.compile_library(build_folder / "libcuda.so.1", library.HERE / "tests" / "standin.cc")


@pytest.fixture
def standin(tmp_path, monkeypatch, driver):
    """The stand-in for the driver, with its own settings."""
    monkeypatch.setenv(emulated_gpu.STANDIN, "")
    return emulated_gpu.Standin(tmp_path / "log")
