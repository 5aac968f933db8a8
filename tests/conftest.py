"""What all tests share: eight simulated devices, strict arithmetic, float64 on request."""

import ast
import gc
import os
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from browser import program
from compilation import DEVICES, FAST

os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), DEVICES, *FAST))  # before JAX starts

import hypothesis
import jax
import pytest

from jlstm import backends

SUPPORT = Path(__file__).parent / "support"
PEERS = Path(__file__).parents[1] / "parity" / "peers"
MISSING = {name for name in ("torch", "onnx", "onnxruntime", "haiku", "equinox") if find_spec(name) is None}  # the extra "peers"
collect_ignore_glob = ["typed_options.py"]  # mypy reads it, and its wrong options raise errors
collect_ignore_glob += ["support/core_only.py"]  # a script for environments without other packages
collect_ignore_glob += [] if program() else ["*/test_page.py"]

hypothesis.settings.register_profile(
    "jlstm",
    deadline=None,  # the first example compiles
    max_examples=12,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # x64 is the same for all examples
)
hypothesis.settings.load_profile("jlstm")


def pytest_addoption(parser):
    parser.addoption("--backend", default=backends.Auto().first, help='the first that "auto" tries')


def pytest_ignore_collect(collection_path):
    """Leave out files that need a peer that is not installed. CI has all of them."""
    return True if MISSING and collection_path.suffix == ".py" and needs_missing(collection_path) else None


@cache
def needs_missing(path):
    """Return whether a file imports a peer that is not installed: itself, through a helper, or through `parity.peers`."""
    imports = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in imports if isinstance(node, ast.ImportFrom) and node.module]
    helpers = [SUPPORT / f"{module}.py" for module in modules]
    if path.parent.name == "peers" and path.name.startswith("test_"):
        helpers.append(PEERS / path.name.removeprefix("test_"))
    return any(module.split(".")[0] in MISSING for module in modules) or any(map(needs_missing, filter(Path.exists, helpers)))


def pytest_configure(config):
    config.addinivalue_line("markers", 'every_backend: `just test-scan` runs it again, on the backend "scan"')
    config.addinivalue_line("markers", "newest_jax: `just test-newest` runs it again, with the newest Python and JAX")
    config.addinivalue_line("markers", "loose: runs optax's adam or nnx.Optimizer, which mix dtypes and ranks")
    config.addinivalue_line("markers", "slow: only `just test-all` runs it, and `just test` with the file's name")
    config.addinivalue_line("markers", "table(quick): a table of cases, all but `quick` of which are slow")


@pytest.hookimpl(tryfirst=True)  # before the order is shuffled
def pytest_collection_modifyitems(items):
    """Mark the slow cases of tables, and let one worker run all tests of a file."""
    tables = defaultdict(list)
    for item in items:
        if not item.get_closest_marker("xdist_group"):  # else two workers compile the same programs
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
        if item.get_closest_marker("table"):
            tables[item.path, item.originalname].append(item)
    for cases in tables.values():
        quick = cases[0].get_closest_marker("table").kwargs["quick"]
        quick_numbers = {number * len(cases) // quick for number in range(quick)}  # evenly spread, the first among them
        for number, case in enumerate(cases):
            if number not in quick_numbers:
                case.add_marker("slow")


def pytest_collection_finish():
    """Collect garbage less often, and never among what imports have left: JAX traces into millions of small objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(autouse=True, scope="session")
def first_backend(request):
    """Let "auto" begin with the backend that the command line names."""
    with backends.auto(request.config.getoption("--backend"), heeds_drawbacks=False):  # the problems of tests are short
        yield


@pytest.fixture(autouse=True, scope="module")
def memory():
    """Forget compiled programs after each file: together they take gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def strict(request):
    """Forbid the silent promotion of dtypes and ranks."""
    if request.node.get_closest_marker("loose"):
        yield
    else:
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            yield


@pytest.fixture
def x64():
    """Turn float64 on for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def full_precision():
    """Multiply float32 matrices in float32, also on GPUs and TPUs, which by default take fewer bits."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def native():
    """Skip the test where there is no compiled kernel, or where the tests run on another backend."""
    if backends.tried()[0] != "cpu" or (why := backends.cpu.kernel.obstacle()).startswith("no kernel was built"):
        pytest.skip("there is no native kernel, or the tests are for another backend")
    assert not why, why
