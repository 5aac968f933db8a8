"""Where "auto" takes the kernel for GPUs, and the sentences of `explain` where it does not."""

import jax
import jax.numpy as jnp
import pytest

import gpu_kernel
from jlstm import GRU, LSTM, backends, explain
from jlstm.backends import gpu
from problems import FEATURES, UNITS


@pytest.fixture
def on_gpu(monkeypatch):
    """JAX computes on one GPU, as far as the backends know."""
    gpu_kernel.pretend(monkeypatch)
    monkeypatch.setattr(jax, "devices", lambda *_: ["a GPU"])
    yield monkeypatch
    gpu.kernel.compiled.cache_clear()
    jax.clear_caches()


def explained(layer, *, dtype=jnp.float32, **sequence):
    """Return the backend of a layer, and the sentences of those that were tried before."""
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    (choice,) = explain(layer, params, jax.ShapeDtypeStruct((2, 5, FEATURES), dtype), **sequence).choices
    return choice.backend, choice.obstacles


@pytest.mark.parametrize(
    ("platform", "names"),
    [("gpu", ["gpu", "fused", "scan"]), ("cpu", ["cpu", "fused", "scan"]), ("tpu", ["fused", "scan"])],
)
def test_auto_tries_the_kernel_of_the_platform(monkeypatch, platform, names):
    """The kernel of another platform is not even mentioned, unless the caller names it."""
    with backends.auto():
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
        assert backends.tried() == names
        other = "cpu" if platform == "gpu" else "gpu"
        assert explained(LSTM(UNITS, projection=2))[1].keys() == set(names) - {"fused", "scan"}
        assert explained(LSTM(UNITS, backend=other))[1][other] == f"JAX computes on {platform}"


@pytest.mark.parametrize("layer", [LSTM(UNITS), GRU(UNITS), LSTM(UNITS, peephole=True, coupled="i=1-f", cell_clip=1.0)], ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_kernel_runs_up_to_32_bits(on_gpu, layer, dtype):
    """Masks, directions and the options of the native cells do not matter."""
    assert explained(layer, dtype=dtype, lengths=[1, 5]) == ("gpu", {})


def test_float64_falls_back(on_gpu, x64):
    """XLA computes in float64."""
    assert explained(LSTM(UNITS), dtype="float64") == ("fused", {"gpu": "it computes in float32"})


def test_other_cells_fall_back(on_gpu):
    """An option that the kernel does not have is named."""
    assert explained(LSTM(UNITS, projection=2)) == ("fused", {"gpu": "it is not for projection=2"})
    assert explained(GRU(UNITS, reset_after=False))[1]["gpu"] == "it is not for reset_after=False"


def test_a_process_without_a_kernel_falls_back(on_gpu):
    """The sentence of the library is that of `explain`."""
    on_gpu.setattr(gpu.library, "obstacle", lambda: "there is no libcuda")
    assert explained(LSTM(UNITS)) == ("fused", {"gpu": "there is no libcuda"})


@pytest.mark.parametrize("devices", [1, 4])
def test_a_size_without_a_plan_falls_back(on_gpu, devices):
    """With several devices the smallest part of the batch decides."""
    batches = []

    def no_plan(direction, cell_name, units, batch, gpu):
        batches.append(batch)
        return f"{units} units are too many"

    on_gpu.setattr(gpu.kernel.plan, "plan", no_plan)
    on_gpu.setattr(jax, "devices", lambda *_: ["a GPU"] * devices)
    assert explained(LSTM(UNITS)) == ("fused", {"gpu": f"{UNITS} units are too many"})
    assert batches == [{1: 2, 4: 1}[devices]]


def test_a_failing_compilation_is_said_once_compiled(on_gpu):
    """A kernel that does not compile is not compiled again for the same size. XLA runs the layer."""
    calls = []

    def fail(cell_name, *rest):
        calls.append(cell_name)
        raise gpu.kernel.compiler.CompilationError("NVRTC could not compile the kernel")

    on_gpu.setattr(gpu.kernel.compiler, "kernel", fail)
    for _ in range(2):
        assert explained(LSTM(UNITS)) == ("fused", {"gpu": "NVRTC could not compile the kernel"})
        jax.clear_caches()
    assert calls == ["lstm"]


def test_programs_traced_for_a_gpu_run_on_a_cpu(on_gpu):
    """A program that was traced for a GPU and is lowered for a CPU calls the kernel for CPUs, if there is one."""
    layer = LSTM(UNITS, backend="gpu")
    params = layer.init(jax.random.key(0), FEATURES)
    xs = jnp.ones((2, 5, FEATURES))
    assert explained(layer)[0] == "gpu"
    got = jax.jit(lambda params: layer.apply(params, xs)[1])(params)
    expected = LSTM(UNITS, backend="scan").apply(params, xs)[1]
    assert jnp.allclose(got, expected, atol=1e-6)
