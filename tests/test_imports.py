"""What `import jlstm` brings along."""

import subprocess
import sys

import pytest

HEAVY = ("tensorflow", "keras", "tf_keras", "matplotlib", "torch", "sklearn", "pandas", "parity", "hypothesis")


@pytest.fixture(scope="module")
def loaded():
    """Top-level modules that a fresh interpreter has after `import jlstm` and a run of a layer."""
    program = (
        "import sys, jax, jlstm; layer = jlstm.LSTM(2); params = layer.init(jax.random.key(0), 3);"
        "layer.apply(params, jax.numpy.ones((1, 2, 3))); print(*{name.split('.')[0] for name in sys.modules})"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("name", HEAVY)
def test_nothing_heavy_is_imported(loaded, name):
    """The core runs without frameworks, plotting or the checker."""
    assert name not in loaded
    assert "jax" in loaded


def test_flax_is_imported_only_with_its_adapters(loaded):
    """Flax comes with `jlstm.linen` and `jlstm.nnx`, not before."""
    assert "flax" not in loaded
