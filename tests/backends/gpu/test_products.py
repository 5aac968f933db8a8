"""What surrounds the kernel for GPUs: products, padding, residuals and sharding. The kernel here is in JAX, see `gpu_kernel`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gpu_kernel
from jlstm import GRU, LSTM, explain
from jlstm.backends import cpu, gpu
from jlstm.backends.native import primitives
from problems import TIME, UNITS, apply, assert_close, cotangent_of, differentiate, flags, small_problem

FLAGS = {"mask": flags(0.6), "resets": flags(0.3)}
CASES = {  # layer, units, flags
    "plain": (LSTM, UNITS, {}),
    "reverse": (partial(LSTM, reverse=True), 17, {}),
    "mask, resets": (LSTM, UNITS, FLAGS),
    "GRU": (GRU, 16, {}),
    "GRU, reverse, mask": (partial(GRU, reverse=True), 5, {"mask": flags(0.6)}),
    "peephole, reverse, resets": (partial(LSTM, peephole=True, reverse=True), UNITS, {"resets": flags(0.3)}),
}


@pytest.fixture(autouse=True, scope="module")
def kernel_in_jax():
    """Let programs for the CPU call the kernel in JAX as programs for a GPU call that of the GPU."""
    with pytest.MonkeyPatch.context() as patch:
        gpu_kernel.pretend(patch)
        patch.setattr(gpu.kernel, "_call", gpu_kernel.call)
        primitives.register("cpu", gpu.kernel)
        yield
    primitives.register("cpu", cpu.kernel)
    gpu.kernel._compiled.cache_clear()


def assert_equals_scan(make, sequence, *, time=TIME, padding=0.0):
    """Assert that values and gradients in float32 are those of `scan` in float64."""
    problem = small_problem(make(backend="gpu"), time=time)
    assert [choice.backend for choice in explain(problem.layer, *in_float32(problem[1:3])).choices] == ["gpu"]
    cotangent, (_, params, xs, carry) = cotangent_of(problem), problem
    with jax.enable_x64(True):
        truth = differentiate(make(backend="scan"), cotangent, params, xs, carry, **sequence)
    if "mask" in sequence:
        xs = np.where(sequence["mask"][:, :, None], xs, padding)
    got = differentiate(problem.layer, *in_float32((cotangent, params, xs, carry)), **sequence)
    assert_close(got, truth, atol=2e-5)  # sums of up to 10 rows of numbers of this size, rounded to 6e-8 of their size


def in_float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_those_of_scan(name):
    """For units that fill up a block of 16 and for others. NaN in padding has no effect."""
    make, units, sequence = CASES[name]
    assert_equals_scan(partial(make, units), sequence, padding=np.nan)


def test_one_step():
    """With one step, the gradient of the recurrent kernel comes from the initial carry alone."""
    assert_equals_scan(partial(LSTM, UNITS), {}, time=1)


@pytest.mark.parametrize("time", [0, TIME])
@pytest.mark.parametrize("batch", [0, 1])
def test_empty_calls(batch, time):
    """Calls without steps or sequences do not reach the kernel."""
    problem = small_problem(LSTM(UNITS, backend="gpu"), batch=batch, time=time, dtype=np.float32)
    backends_of = [choice.backend for choice in explain(*problem).choices]
    assert backends_of == ["gpu" if batch and time else "fused"]
    got = apply(*problem)
    assert_close(got, apply(LSTM(UNITS, backend="scan"), *problem[1:]), atol=1e-5)


@pytest.mark.table(quick=2)
@pytest.mark.parametrize(("kind", "refused"), [("GRU", "forward"), ("peephole", "forward"), ("GRU", "backward")])
def test_one_direction_may_have_no_kernel(monkeypatch, kind, refused, caplog):
    """XLA runs the direction that has no kernel, and keeps what the kernel reads. A line of the log says so."""
    make = {"GRU": partial(GRU, UNITS), "peephole": partial(LSTM, UNITS, peephole=True)}[kind]
    problem = small_problem(make(backend="gpu"), dtype=np.float32)
    cotangent = cotangent_of(problem)
    with monkeypatch.context() as patch:
        real = gpu.kernel.compiled
        patch.setattr(gpu.kernel, "compiled", lambda direction, *size: "no" if direction == refused else real(direction, *size))
        gpu.kernel._warn.cache_clear()
        got = differentiate(problem.layer, cotangent, *problem[1:], **FLAGS)
    jax.clear_caches()
    assert_close(got, differentiate(make(backend="scan"), cotangent, *problem[1:], **FLAGS), atol=2e-5)
    assert [record.message for record in caplog.records] == ["XLA runs what the kernel for GPUs should: no"]


def test_second_derivatives_and_vmap():
    """Hessian-vector products, and gradients under `vmap` over inputs, equal those of `scan`."""
    problem = small_problem(LSTM(2, backend="gpu"), time=3, dtype=np.float32)
    _, params, xs, carry = problem
    direction = jax.tree.map(jnp.ones_like, params)

    @partial(jax.jit, static_argnums=0)
    def derivatives(layer):
        loss = lambda params, xs: (layer.apply(params, xs, carry)[1] ** 2).sum()
        curvature = jax.jvp(jax.grad(loss), (params, xs), (direction, jnp.ones_like(xs)))[1]
        return curvature, jax.vmap(jax.grad(loss, argnums=1), in_axes=(None, 0))(params, jnp.stack([xs, 2 * xs]))

    assert_close(derivatives(problem.layer), derivatives(LSTM(2, backend="scan")), atol=1e-4)


@pytest.mark.parametrize("is_manual", [False, True], ids=["auto", "shard_map"])
def test_devices_share_the_batch(is_manual):
    """Each device runs its part of the batch, and gradients of weights are summed over all devices."""
    batch = 2 * len(jax.devices())
    problem = small_problem(LSTM(UNITS, backend="gpu", peephole=True), batch=batch, dtype=np.float32)
    mesh = jax.make_mesh((len(jax.devices()),), ("data",), axis_types=(AxisType.Auto,))

    def loss(params, xs, layer):
        return (layer.apply(params, xs)[1] ** 2).sum()

    def gradients(params, xs):
        return jax.grad(partial(loss, layer=problem.layer))(params, xs)

    if is_manual:
        gradients = jax.shard_map(gradients, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    params, xs = jax.device_put((problem.params, problem.xs), (NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))))
    with jax.set_mesh(mesh):
        got = jax.jit(gradients)(params, xs)
    truth = jax.jit(jax.grad(partial(loss, layer=LSTM(UNITS, backend="scan", peephole=True))))(problem.params, problem.xs)
    assert_close(got, truth, atol=1e-4)
