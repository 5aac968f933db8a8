"""The checks of `python -m benchmarks.gpu` pass on an emulated GPU, and find a wrong kernel."""

import jax
import pytest

import emulated_gpu
from benchmarks.gpu import cases, checks, ready
from jlstm.backends import gpu

pytestmark = pytest.mark.no_cover

NAMES = ("lstm 7×17, mask, resets, reverse", "same bits, 10 units", "nothing to run", "second derivatives", "vmap")


@pytest.fixture
def emulated(driver, build_folder, standin):
    """The backend `gpu` runs on an emulated GPU."""
    with emulated_gpu.running(driver, build_folder):
        standin.set()
        yield standin


@pytest.mark.table(quick=1)
@pytest.mark.loose
@pytest.mark.parametrize("name", NAMES)
def test_a_check_passes(emulated, name):
    """Each check has a line with figures."""
    outcome = checks.run(name)
    assert outcome.passed, outcome.line
    assert outcome.line
    assert emulated.calls("cuLaunchKernelEx") or name == "nothing to run"


@pytest.mark.loose
def test_a_wrong_kernel_is_found(emulated, monkeypatch):
    """A gradient that is off by 1e-5, and a call that XLA runs although the kernel could, are failures."""
    name = NAMES[0]

    def differentiate(layer, arrays):
        results, gradients = true_differentiate(layer, arrays)
        return results, jax.tree.map(lambda leaf: leaf * (1 + 1e-5), gradients)

    true_differentiate = cases.differentiate
    monkeypatch.setattr(cases, "differentiate", differentiate)
    outcome = checks.run(name)
    assert not outcome.passed
    assert "gradients off by 1.0e-05; forward warp 7×32, backward warp 7×32; at most 2e-06 is right" in outcome.line
    with monkeypatch.context() as patch:
        patch.setattr(gpu.kernel, "compiled", lambda *_: "no compiler")
        assert checks.run(name).line == "the kernel does not run forward: no compiler"


def test_a_driver_without_a_gpu(driver, standin, monkeypatch):
    """A driver that refuses, or that has no GPU, is a sentence with its status."""
    monkeypatch.setattr(ready, "DRIVER", str(driver))
    ready.check_gpu()
    standin.set(cuInit=100)
    with pytest.raises(ready.NotReadyError, match=r"^there is no NVIDIA GPU here: .* finds 0 \(its status is 100\)$"):
        ready.check_gpu()
