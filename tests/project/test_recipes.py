"""The recipes of CONTRIBUTING.md work: a cell and a peer that are added by them pass the generic tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A copy of the packages and the tests, in which a recipe can be followed."""
    for name in ("jlstm", "parity", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "build"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def insert(path, before, text):
    """Insert text before the first place of `before` in a file, as a contributor would."""
    content = path.read_text()
    assert before in content, f"{path.name} has no {before!r} any more: change the recipe and this test"
    path.write_text(content.replace(before, text + before, 1))


def run(checkout, *command):
    """Run a Python module in the copy, and return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu"}
    process = subprocess.run(
        [sys.executable, "-m", *command], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_a_cell_that_is_added_by_the_recipe_passes_the_generic_tests(checkout):
    """The files that the recipe names are enough for the tests of all cells, of saved layers and of bad arguments."""
    elman = (checkout / "jlstm/cells/elman.py").read_text()
    (checkout / "jlstm/cells/new.py").write_text(
        elman.replace("ElmanCell", "NewCell").replace("jlstm.NewCell", "jlstm.cells.NewCell")
    )
    insert(checkout / "jlstm/cells/__init__.py", "from jlstm.cells.slstm", "from jlstm.cells.new import NewCell\n")
    insert(checkout / "jlstm/cells/__init__.py", '    "Residual"', '    "NewCell",\n')
    insert(checkout / "tests/support/family.py", '    "minLSTM"', '    "New": cells.NewCell(UNITS),\n')
    insert(checkout / "tests/_src/test_serialization_layers.py", "    RNN(Highway(", "    RNN(jlstm.cells.NewCell(UNITS)),\n")
    insert(checkout / "tests/support/bad_calls.py", '"MinGRUCell", "MinLSTMCell"', '"NewCell", ')
    printed = run(checkout, "pytest", "-q", "-p", "no:randomly", "tests/test_family.py", "-k", "New")
    assert int(re.search(r"(\d+) passed", printed)[1]) >= 8
    run(checkout, "pytest", "-q", "tests/_src/test_serialization_layers.py", "-k", "comes_back")
    run(checkout, "pytest", "-q", "tests/test_bad_inputs.py", "-k", "every_public_name and cells")
    run(checkout, "pytest", "-q", "--doctest-modules", "jlstm/cells/new.py")


def test_a_peer_that_is_added_by_the_recipe_is_compared(checkout):
    """The one file that the recipe names is enough for `python -m parity` and the tests of all peers."""
    pytest.importorskip("equinox")
    (checkout / "parity/peers/new.py").write_text((checkout / "parity/peers/equinox.py").read_text())
    printed = run(checkout, "parity", "--peer", "new", "--case", "lstm wide")
    assert "pass" in printed
    run(checkout, "pytest", "-q", "tests/parity/peers/test_peers.py", "-k", "protocol and new")
