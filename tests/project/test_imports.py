"""What `import jlstm` imports, and what it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABSENT = """
import importlib.util, sys
peers = {"torch", "onnx", "onnxruntime", "haiku", "equinox"}
class Absent:
    def find_spec(self, name, *_):
        if name in peers:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name in peers else find(name, *package)
"""
CORE = {"jax", "jaxlib", "numpy", "jaxtyping", "safetensors", "ml_dtypes", "opt_einsum", "scipy", "wadler_lindig"}
ONLY_CORE = f"""
import runpy, sys
from importlib.machinery import PathFinder
visible = sys.stdlib_module_names | {CORE | {"jlstm", "parity"}}
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: find(name, *rest) if name[0] == "_" or name.split(".")[0] in visible else None
runpy.run_path({str(ROOT / "tests" / "support" / "core_only.py")!r})
"""
HEAVY = (
    *("tensorflow", "keras", "tf_keras", "matplotlib", "torch", "sklearn", "pandas", "parity", "hypothesis"),
    *("optax", "orbax", "h5py", "rich", "tensorboardX", "pooch", "onnx"),
)


@pytest.fixture(scope="module")
def loaded():
    """Return the top-level modules of a new interpreter after `import jlstm` and a run of a layer."""
    program = (
        "import sys, jax, jlstm; layer = jlstm.LSTM(2); params = layer.init(jax.random.key(0), 3);"
        "layer.apply(params, jax.numpy.ones((1, 2, 3))); print(*{name.split('.')[0] for name in sys.modules})"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.table(quick=8)
@pytest.mark.parametrize("name", HEAVY)
def test_nothing_heavy_is_imported(loaded, name):
    """The core imports no framework, no plotting library and no type checker."""
    assert name not in loaded
    assert "jax" in loaded


@pytest.mark.newest_jax
def test_flax_is_imported_only_with_its_adapters(loaded):
    """Flax is imported by `jlstm.linen` and `jlstm.nnx`, not before."""
    assert "flax" not in loaded


def test_the_core_needs_few_packages(tmp_path):
    """Without other packages the core works, and what needs one of them says so in one sentence."""
    command = [sys.executable, "-c", ONLY_CORE]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert process.returncode == 0, process.stderr


def test_doctests_are_looked_for_where_a_peer_is_not_installed(tmp_path):
    """Files that need a missing peer have no doctests, which is no error."""
    (tmp_path / "absent.py").write_text(ABSENT)
    files = [
        "parity/peers/torch.py",
        "parity/peers/haiku.py",
        "parity/peers/equinox.py",
        "parity/peers/onnx.py",
        "parity/problem.py",
    ]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "absent", *files]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert process.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, process.stdout


@pytest.mark.slow
def test_tests_of_peers_that_are_not_installed_are_left_out(tmp_path):
    """`just test` works without the extra "peers": files that import a peer, or a helper that does, are left out."""
    (tmp_path / "absent.py").write_text(ABSENT)
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "absent", "tests/convert", "tests/parity"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert process.returncode == 0, process.stdout
    files = {line.split("::")[0] for line in process.stdout.splitlines()}
    assert {"tests/convert/test_flax.py", "tests/parity/test_gru.py", "tests/parity/peers/test_flax_nnx.py"} <= files
    assert not files & {
        *(f"tests/parity/peers/test_{name}.py" for name in ("torch", "onnx", "haiku", "equinox")),
        "tests/convert/test_torch_files.py",
        "tests/convert/test_onnx_folding.py",
        "tests/parity/test_rounding.py",
    }
