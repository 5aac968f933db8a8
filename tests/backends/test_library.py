"""The compiled libraries of the kernel are found, match their sources, and match the processor."""

import re
import shutil
from pathlib import Path

import pytest

from jlstm.backends.cpu import library
from jlstm.backends.native import libraries

HANDLERS = sorted(set(re.findall(r"\bJlstm\w+", (library.HERE / "src" / "handlers.cc").read_text(encoding="utf-8"))))


@pytest.fixture
def loaded():
    """The library of this machine."""
    loaded_library = library.load()
    if loaded_library.functions is None and loaded_library.reason.startswith("no kernel was built"):
        pytest.skip("this machine had no C++ compiler when the package was installed")
    return loaded_library


@pytest.fixture
def copies(loaded, tmp_path):
    """A folder with copies of this machine's libraries."""
    for file in Path(loaded.functions._name).parent.glob("libkernel-*"):
        shutil.copy(file, tmp_path)
    return tmp_path


def test_a_library_loads(loaded):
    """There is a library for this processor, and it tells its instruction set."""
    assert loaded.functions is not None, loaded.reason
    assert loaded.instructions in ("avx512", "avx2", "baseline")
    assert loaded.reason == ""
    assert library.load() is loaded


@pytest.mark.parametrize("name", HANDLERS)
def test_handlers_are_exported(loaded, name):
    """The names that handlers.cc gives to XLA can be looked up in the library."""
    assert loaded.functions[name]


def test_the_baseline_takes_the_place_of_a_library_that_an_old_compiler_could_not_build(copies):
    """The libraries with AVX are optional."""
    for file in copies.glob("libkernel-avx*"):
        file.unlink()
    assert library.find((copies,), libraries.sources(library.HERE)).instructions == "baseline"


@pytest.mark.parametrize("instructions", library.INSTRUCTIONS)
def test_older_instructions_can_be_chosen(loaded, copies, instructions):
    """A library for this processor or an older one is loaded. For a newer one a sentence lists what there is."""
    chosen = library.find((copies,), libraries.sources(library.HERE), instructions)
    usable = library.INSTRUCTIONS[: library.INSTRUCTIONS.index(loaded.instructions) + 1]
    if instructions in usable:
        assert chosen.functions is not None
        assert chosen.instructions == instructions
    else:
        assert chosen.reason == f"JLSTM_INSTRUCTIONS must be one of {', '.join(usable)} on this machine, got {instructions!r}"


def test_instructions_that_do_not_exist_are_refused(copies):
    """A misspelled instruction set is refused: the speed of a fallback would be taken for its own."""
    chosen = library.find((copies,), libraries.sources(library.HERE), "avx3")
    assert chosen.functions is None
    assert chosen.reason.endswith("on this machine, got 'avx3'")


def test_other_sources_are_noticed(copies):
    """A library built from sources other than those beside the Python code is not used, and the reason says what to do."""
    loaded_library = library.find((copies,), "0" * 64)
    assert loaded_library.functions is None
    assert loaded_library.reason == f"the kernel in {copies} was built from other sources: install jlstm again"


@pytest.mark.parametrize(
    "name", ["CMakeLists.txt", "src/handlers.cc", "../CMakeLists.txt", "../native/src/cells.h", "../native/src/exported.map"]
)
def test_any_change_of_the_sources_changes_their_hash(tmp_path, name):
    """How the kernel is compiled counts too; what an editor leaves there does not."""
    folder = shutil.copytree(library.HERE, tmp_path / "cpu")
    shutil.copytree(library.HERE.parent / "native", tmp_path / "native")
    shutil.copy(library.HERE.parent / "CMakeLists.txt", tmp_path)
    (folder / "src" / "run.h~").touch()
    assert libraries.sources(folder) == libraries.sources(library.HERE)
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert libraries.sources(folder) != libraries.sources(library.HERE)


def test_no_library_is_no_error(tmp_path):
    """Without a compiler at installation, a sentence explains why there is no library."""
    loaded_library = library.find((tmp_path,), "")
    assert loaded_library.functions is None
    assert loaded_library.reason == "no kernel was built: install jlstm again on a machine with a C++ compiler"


def test_a_broken_library_is_no_error(tmp_path):
    """A library for another processor or system is reported in a sentence."""
    (tmp_path / f"libkernel-baseline{library.SUFFIX}").write_bytes(b"not a library")
    loaded_library = library.find((tmp_path,), "")
    assert loaded_library.functions is None
    assert loaded_library.reason.startswith(f"the kernel in {tmp_path} could not be loaded: ")
