"""The functions that XLA calls pass the right arrays to the kernel, and launch it as the plan says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emulated_gpu
import jlstm
from jlstm.backends.gpu import library
from jlstm.backends.native.columns import attributes

TIME, BATCH, UNITS, PADDED, COUNTERS = 3, 5, 2, 16, 8
PLAN = {"blocks": 4, "threads": 64, "cluster": 1, "cooperative": False, "shared_bytes": 0, "counters": COUNTERS, "rows": BATCH}
CELLS = {"Lstm": jlstm.LSTMCell(UNITS), "Gru": jlstm.GRUCell(UNITS)}
CELLS["LstmVariant"] = jlstm.LSTMCell(UNITS, peephole=True, cell_clip=0.5)
F32 = np.float32


@pytest.fixture(scope="module", autouse=True)
def emulated(driver):
    """Calls of this file run on the stand-in."""
    with emulated_gpu.installed(driver):
        assert library.obstacle() == ""
        yield


@pytest.fixture
def kernel(build_folder, tmp_path, standin):
    """Return a function that gives the file of the kernel of a cell."""

    def file(cell):
        source = emulated_gpu.ROOT / "tests" / "backends" / "gpu" / "copies.cc"
        macros = [f"-DCELL={cell}", f"-DUNITS={UNITS}", f"-DCOUNTERS={COUNTERS}"]
        compiled = emulated_gpu.compile_library(build_folder / f"copies-{cell}.so", source, *macros)
        (tmp_path / cell).write_bytes(bytes(compiled) + b"\0")
        return tmp_path / cell

    return file


def random(rng, *shape):
    return rng.normal(size=shape).astype(F32)


def forward(file, cell, zs, recurrent, peepholes, h0, c0, mask, resets, *, keep=False, reverse=False, **plan):
    """Call the function, and return its results without the workspace."""
    time, batch, _ = zs.shape
    shapes = [(time, batch, UNITS), h0.shape, c0.shape]
    if keep:
        shapes += [zs.shape, (time, batch, PADDED * bool(c0.size))] + [(time, batch, UNITS)] * bool(mask.size or resets.size)
    operands = (zs, recurrent, peepholes, h0, c0, mask, resets)
    return call("jlstm_gpu_forward", shapes, operands, attributes(cell, reverse=reverse) | {"kernel": str(file)} | PLAN | plan)


def backward(file, cell, *operands, reverse=False, **plan):
    """Call the function, and return its results without the workspace."""
    _, peepholes, h0, *_, gates, _, _, _, dc = operands
    dpeepholes = (len(h0), *peepholes.shape) if peepholes.size else (0, 0, 0)
    shapes = [gates.shape, dpeepholes, h0.shape, dc.shape]
    options = attributes(cell, reverse=reverse) | {"kernel": str(file)} | PLAN | plan
    return call("jlstm_gpu_backward", shapes, operands, options, {6: 0})


def call(target, shapes, operands, options, aliases=None):
    results = [jax.ShapeDtypeStruct(shape, F32) for shape in shapes] + [jax.ShapeDtypeStruct((4 * COUNTERS,), np.uint8)]
    options = {name: np.int32(value) if type(value) is int else value for name, value in options.items()}
    function = jax.ffi.ffi_call(target, results, input_output_aliases=aliases)
    return [np.asarray(result) for result in jax.jit(lambda *operands: function(*operands, **options))(*operands)[:-1]]


def inputs(cell_name, *, mask=False, resets=False, batch=BATCH):
    """Return random operands of the forward run."""
    rng = np.random.default_rng(0)
    empty = np.zeros((0, 0), bool)
    has_c, has_peepholes = cell_name != "Gru", cell_name == "LstmVariant"
    return {
        "zs": random(rng, TIME, batch, 4 * PADDED),
        "recurrent": random(rng, UNITS, 4 * UNITS),
        "peepholes": random(rng, 3, UNITS) if has_peepholes else np.zeros((0, 0), F32),
        "h0": random(rng, batch, UNITS),
        "c0": random(rng, batch, UNITS if has_c else 0),
        "mask": rng.random((TIME, batch)) < 0.7 if mask else empty,
        "resets": rng.random((TIME, batch)) < 0.3 if resets else empty,
    }


def gate(zs):
    """Return the columns of the second gate, with its padding."""
    return zs.reshape(*zs.shape[:2], 4, PADDED)[:, :, 1]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("flags", [(), ("mask",), ("mask", "resets")], ids=" ".join)
def test_forward_passes_its_arrays(kernel, cell, flags):
    """Each array is where the kernel expects it: inputs, results, and what is kept for the backward run."""
    arrays = inputs(cell, **dict.fromkeys(flags, True))
    ys, h, c, gates, cs, *hs = forward(kernel(cell), CELLS[cell], **arrays, keep=True, reverse=True)
    z = gate(arrays["zs"])[:, :, :UNITS]
    expected = z + F32(10) * arrays["resets"][..., None] if "resets" in flags else z
    np.testing.assert_array_equal(ys, np.where(arrays["mask"][..., None], expected, F32(-1)) if "mask" in flags else expected)
    np.testing.assert_array_equal(h, arrays["h0"] + arrays["recurrent"][:, 0])
    expected_c = arrays["c0"] + (arrays["peepholes"][2] if cell == "LstmVariant" else F32(0))
    np.testing.assert_array_equal(c, np.minimum(expected_c, F32(0.5)) if cell == "LstmVariant" else expected_c)
    np.testing.assert_array_equal(gate(gates), gate(arrays["zs"]) + 1)
    steps = np.arange(TIME)[::-1, None, None]
    np.testing.assert_array_equal(cs, np.broadcast_to(steps, cs.shape))
    assert len(hs) == bool(flags)
    for array in hs:
        np.testing.assert_array_equal(array, np.broadcast_to(steps + 1, array.shape))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("flags", [(), ("resets",)], ids=" ".join)
def test_backward_passes_its_arrays(kernel, cell, flags):
    """Each array is where the kernel expects it. The gradient of the pre-activations may take the memory of the gates."""
    arrays, rng = inputs(cell, **dict.fromkeys(flags, True)), np.random.default_rng(1)
    recurrent, peepholes, h0, c0, mask, resets = list(arrays.values())[1:]
    hs, dys = random(rng, TIME, BATCH, UNITS), random(rng, TIME, BATCH, UNITS)
    gates, cs = arrays["zs"], random(rng, TIME, BATCH, PADDED if c0.size else 0)
    dh, dc = random(rng, *h0.shape), random(rng, *c0.shape)
    operands = (recurrent, peepholes, h0, mask, resets, hs, gates, cs, dys, dh, dc)
    dzs, dpeepholes, dh0, dc0 = backward(kernel(cell), CELLS[cell], *operands)
    z = gate(gates) + cs if c0.size else gate(gates).copy()
    z[:, :, :UNITS] += dys + 2 * hs
    np.testing.assert_allclose(gate(dzs), z, rtol=0, atol=1e-6)  # the sums are in another order
    np.testing.assert_array_equal(dh0, dh + h0)
    np.testing.assert_array_equal(dc0, dc + recurrent[:, :1].T if c0.size else dc)
    if peepholes.size:
        np.testing.assert_array_equal(dpeepholes[:, :, 0], np.arange(3) + np.arange(BATCH)[:, None])


def test_a_large_batch_is_several_launches(kernel, standin):
    """Each launch runs as many rows as the plan says, and finds its counters cleared."""
    arrays = inputs("Lstm")
    ys, h, *_ = forward(kernel("Lstm"), CELLS["Lstm"], **arrays, rows=2)
    assert len(standin.calls("cuLaunchKernelEx")) == 3
    assert standin.calls("cuMemsetD32Async") == [{"count": COUNTERS}] * 3
    np.testing.assert_array_equal(ys, gate(arrays["zs"])[:, :, :UNITS])
    np.testing.assert_array_equal(h, arrays["h0"] + arrays["recurrent"][:, 0])


@pytest.mark.parametrize(
    ("plan", "attributes_count"),
    [
        ({"blocks": 6, "threads": 96, "shared_bytes": 1000}, 0),
        ({"blocks": 6, "cooperative": True, "shared_bytes": 200_000}, 1),
        ({"blocks": 8, "cluster": 4}, 1),
        ({"blocks": 32, "cluster": 16, "cooperative": True}, 2),
    ],
    ids=str,
)
def test_launches_follow_the_plan(kernel, standin, plan, attributes_count):
    """Blocks, threads, clusters, cooperation and shared memory are those of the plan."""
    forward(kernel("Lstm"), CELLS["Lstm"], **inputs("Lstm"), **plan)
    plan = {name: value for name, value in (PLAN | plan).items() if name not in ("counters", "rows")}
    assert standin.calls("cuLaunchKernelEx") == [plan | {"cooperative": int(plan["cooperative"]), "attributes": attributes_count}]
    attributes_set = {call["attribute"]: call["value"] for call in standin.calls("cuFuncSetAttribute")}
    assert attributes_set[8] == plan["shared_bytes"]  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    assert attributes_set.get(14) == (1 if plan["cluster"] > 8 else None)  # ..._NON_PORTABLE_CLUSTER_SIZE_ALLOWED
    assert bool(standin.calls("cuOccupancyMaxActiveClusters")) == (plan["cluster"] > 1)


def test_an_empty_batch_launches_nothing(kernel, standin):
    """Without sequences there is nothing to run."""
    ys, *_ = forward(kernel("Lstm"), CELLS["Lstm"], **inputs("Lstm", batch=0))
    assert ys.shape == (TIME, 0, UNITS)
    assert standin.calls("cuLaunchKernelEx") == []


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("zs", np.zeros((TIME, BATCH, 4 * UNITS), F32), "zs has a shape that does not fit to the other arrays"),
        ("zs", np.zeros((TIME, BATCH), F32), None),
        ("h0", np.zeros((BATCH, UNITS), np.float16), "h has the wrong dtype"),
        ("recurrent", np.zeros((UNITS, 3 * UNITS), F32), "recurrent_kernel has a shape that does not fit"),
        ("recurrent", np.zeros(UNITS, F32), r"recurrent_kernel is not \(units, 4 units\)"),
        ("mask", np.zeros((TIME, BATCH + 1), bool), "mask has a shape that does not fit to the other arrays"),
    ],
)
def test_wrong_arrays_are_refused(kernel, name, value, problem):
    """An array of another shape or dtype never reaches the GPU."""
    arrays = inputs("Lstm") | {name: value}
    if problem is None:  # its results have no shapes either
        results = [(TIME, BATCH, UNITS), (BATCH, UNITS), (BATCH, UNITS)]
        options = attributes(CELLS["Lstm"], reverse=False) | {"kernel": "none"} | PLAN
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"is not \(time, batch, size\)"):
            call("jlstm_gpu_forward", results, list(arrays.values()), options)
        return
    with pytest.raises(jax.errors.JaxRuntimeError, match=f"jlstm's kernel: {problem}"):
        forward(kernel("Lstm"), CELLS["Lstm"], **arrays)


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ({"blocks": 0}, "the plan has no blocks, threads or rows"),
        ({"blocks": 4, "cluster": 3}, "the plan has blocks that do not fill clusters"),
        ({"shared_bytes": -1}, "the plan has a negative size"),
        ({"counters": COUNTERS + 1}, "the workspace is too small"),
    ],
)
def test_wrong_plans_are_refused(kernel, plan, problem):
    """A plan that cannot be launched is an error, and the GPU sees nothing of it."""
    with pytest.raises(jax.errors.JaxRuntimeError, match=problem):
        forward(kernel("Lstm"), CELLS["Lstm"], **inputs("Lstm"), **plan)


def test_cells_that_do_not_exist_are_refused(kernel):
    """The library and the Python code agree on the names of cells."""
    arrays = list(inputs("Lstm").values())
    options = attributes(CELLS["Lstm"], reverse=False) | {"kernel": "none", "cell": "perceptron"} | PLAN
    with pytest.raises(jax.errors.JaxRuntimeError, match="there is no such cell"):
        call("jlstm_gpu_forward", [(TIME, BATCH, UNITS), (BATCH, UNITS), (BATCH, UNITS)], arrays, options)
    assert jnp.ones(1)[0] == 1  # JAX goes on
