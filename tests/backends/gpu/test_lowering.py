"""Programs for a GPU and a TPU, lowered on a machine that has neither: the calls of the kernel, and what is around them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import gpu_kernel
from jlstm import GRU, LSTM, Bidirectional, explain
from jlstm.backends import gpu
from problems import FEATURES, flags

BATCH, TIME, UNITS, PADDED = 2, 20, 17, 32
MOVES = {"transpose", "concatenate", "pad", "gather", "copy", "reverse", "dynamic_slice", "dynamic_update_slice"}
ATTRIBUTES = {"cell", "reverse", "activation", "recurrent_activation", "output_activation", "coupled", "cell_clip", "gate_clip"}
ATTRIBUTES |= {"kernel", "blocks", "threads", "cluster", "cooperative", "shared_bytes", "counters", "rows"}
CASES = {  # layer, flags, shapes of what both calls have only in some cases: c, mask, resets, peepholes, h before each step
    "plain": (LSTM(UNITS, time_major=True), (), {}),
    "reverse": (LSTM(UNITS, reverse=True, time_major=True), (), {}),
    "mask, resets": (LSTM(UNITS, time_major=True), ("mask", "resets"), {}),
    "GRU": (GRU(UNITS, time_major=True), ("mask",), {"c": (BATCH, 0), "cs": (TIME, BATCH, 0)}),
    "peephole": (
        LSTM(UNITS, peephole=True, time_major=True),
        (),
        {"peepholes": (3, UNITS), "dpeepholes": (BATCH, 3, UNITS)},
    ),
}


@pytest.fixture
def on_gpu(monkeypatch):
    """JAX computes on a GPU, as far as the backends know."""
    gpu_kernel.pretend(monkeypatch)
    yield
    gpu.kernel.compiled.cache_clear()
    jax.clear_caches()


class Operation(NamedTuple):
    """What the tests ask of an operation of StableHLO. `call` has the rest of a custom call."""

    name: str
    operands: list[tuple[int, ...]]
    results: list[tuple[int, ...]]
    call: Any = None


class Call(NamedTuple):
    target: str
    layouts: list[list[int]]
    aliases: list[str]
    options: dict[str, Any]


def operations(function, *arguments, platform="cuda"):
    """Return all operations of a program for a platform."""

    def walk(operation):
        for block in (block for region in operation.regions for block in region.blocks):
            for inner in block.operations:
                if inner.operation.name.startswith("stablehlo."):
                    yield described(inner.operation)
                yield from walk(inner.operation)

    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,))
    module = lowered.compiler_ir()
    return list(walk(module.operation))


def described(operation):
    operands, results = ([tuple(value.type.shape) for value in values] for values in (operation.operands, operation.results))
    name, attributes = operation.name.removeprefix("stablehlo."), operation.attributes
    if name != "custom_call":
        return Operation(name, operands, results)
    layouts = [list(np.asarray(layout)) for kind in ("operand_layouts", "result_layouts") for layout in attributes.get(kind, [])]
    options = {option.name: option.attr.value for option in attributes.get("mhlo.backend_config", [])}
    aliases = list(map(str, attributes.get("output_operand_aliases", [])))
    return Operation(name, operands, results, Call(attributes["call_target_name"].value, layouts, aliases, options))


def kernel_calls(program):
    return [operation for operation in program if operation.call and operation.call.target.startswith("jlstm")]


def targets(program):
    return [operation.call.target for operation in kernel_calls(program)]


def large_moves(program):
    """Return the operations that only move an array with an axis for time."""
    results = [(operation.name, shape) for operation in program for shape in operation.results]
    return [name for name, shape in results if name in MOVES and len(shape) == 3 and shape[0] >= TIME - 1]


def problem_of(layer, names, batch=BATCH):
    """Return shapes of parameters, inputs and flags, and a loss of them."""
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    sequence = {name: flags(0.5, batch=TIME, time=batch) for name in names}  # time first
    loss = lambda params, xs: (layer.apply(params, xs, **sequence)[1] ** 2).sum()
    return loss, params, jax.ShapeDtypeStruct((TIME, batch, FEATURES), jnp.float32)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("name", CASES)
def test_training_is_one_call_in_each_direction(name):
    """Operands, results, layouts, aliases and attributes are those of the handlers, and nothing moves large arrays."""
    layer, flag_names, others = CASES[name]
    loss, *arguments = problem_of(layer, flag_names)
    program = operations(jax.grad(loss, argnums=(0, 1)), *arguments)
    assert large_moves(program) == []
    assert targets(program) == ["jlstm_gpu_forward", "jlstm_gpu_backward"]
    state, recurrent, ys, zs = (BATCH, UNITS), (UNITS, 4 * UNITS), (TIME, BATCH, UNITS), (TIME, BATCH, 4 * PADDED)
    c, cs = others.get("c", state), others.get("cs", (TIME, BATCH, PADDED))
    mask, resets = ((TIME, BATCH) if flag in flag_names else (0, 0) for flag in ("mask", "resets"))
    peepholes, dpeepholes = others.get("peepholes", (0, 0)), others.get("dpeepholes", (0, 0, 0))
    workspace = (gpu_kernel.WORKSPACE,)
    forward, backward = kernel_calls(program)
    assert forward.operands == [zs, recurrent, peepholes, state, c, mask, resets]
    assert forward.results == [ys, state, c, zs, cs, *([ys] if flag_names else []), workspace]
    assert backward.operands == [recurrent, peepholes, state, mask, resets, ys, zs, cs, ys, state, c]
    assert backward.results == [zs, dpeepholes, state, c, workspace]
    for operation, direction in ((forward, "forward"), (backward, "backward")):
        call = operation.call
        row_major = [list(range(len(shape)))[::-1] for shape in (*operation.operands, *operation.results)]
        assert call.layouts == row_major
        assert call.options.keys() == ATTRIBUTES
        assert call.options["kernel"] == f"kernels/{call.options['cell']}-{direction}.cubin"
        assert call.options["reverse"] == layer.reverse
    assert forward.call.aliases == []
    (alias,) = backward.call.aliases  # dz is written over the gates
    assert "output_tuple_indices = [0], operand_index = 6" in alias


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("name", CASES)
def test_inference_keeps_nothing(name):
    """Without a gradient there is one call, which returns the outputs, the last carry and its workspace."""
    layer, flag_names, _ = CASES[name]
    program = operations(*problem_of(layer, flag_names))
    (call,) = kernel_calls(program)
    assert (call.call.target, len(call.results)) == ("jlstm_gpu_forward", 4)
    assert large_moves(program) == []


@pytest.mark.usefixtures("on_gpu")
def test_gradients_that_nobody_needs_cost_nothing():
    """The products for the inputs are left out if only the parameters are differentiated, and the other way round."""
    loss, *arguments = problem_of(LSTM(UNITS, time_major=True), ())
    products = lambda argnums: [
        operation.results[0] for operation in operations(jax.grad(loss, argnums), *arguments) if operation.name == "dot_general"
    ]
    zs, dxs = (TIME, BATCH, 4 * PADDED), (TIME, BATCH, FEATURES)
    assert sorted(products(0)) == sorted([zs, (UNITS, 4 * PADDED), (UNITS, 4 * PADDED), (FEATURES, 4 * PADDED)])
    assert sorted(products(1)) == sorted([zs, dxs])


@pytest.mark.usefixtures("on_gpu")
def test_vmap_is_one_call():
    """Mapped inputs become a part of the batch of one call in each direction."""
    loss, params, xs = problem_of(LSTM(UNITS, time_major=True), ())
    mapped = jax.vmap(jax.grad(loss, argnums=1), in_axes=(None, 0))
    calls = kernel_calls(operations(mapped, params, jax.ShapeDtypeStruct((3, *xs.shape), xs.dtype)))
    assert [call.results[0][1] for call in calls] == [3 * BATCH, 3 * BATCH]


@pytest.mark.usefixtures("on_gpu")
def test_second_derivatives_are_in_jax():
    """A Hessian-vector product calls the kernel for first derivatives, and runs loops of XLA for the rest."""
    loss, params, xs = problem_of(LSTM(UNITS, time_major=True), ())
    program = operations(lambda params, xs: jax.jvp(jax.grad(loss), (params, xs), (params, xs))[1], params, xs)
    assert "jlstm_gpu_forward" in targets(program)
    assert "while" in {operation.name for operation in program}


@pytest.mark.usefixtures("on_gpu")
def test_both_directions_and_shard_map():
    """Each direction has its own calls, and in `shard_map` each device calls the kernel with its part of the batch."""
    loss, params, xs = problem_of(Bidirectional(LSTM(UNITS, time_major=True)), (), batch=16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    gradient = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(P(), P(None, "data")), out_specs=P())
    calls = kernel_calls(operations(gradient, params, xs))
    assert sorted(call.call.target for call in calls) == ["jlstm_gpu_backward"] * 2 + ["jlstm_gpu_forward"] * 2
    assert {call.results[0][1] for call in calls} == {16 // 8}


@pytest.mark.usefixtures("on_gpu")
def test_exported_programs_do_not_call_the_kernel():
    """An exported program may run on another machine, where the compiled kernel is not."""
    loss, *arguments = problem_of(LSTM(UNITS), ())
    exported = jax.export.export(jax.jit(loss), platforms=("cuda",))(*arguments)
    assert "jlstm_gpu" not in exported.mlir_module()


def test_without_a_gpu_there_are_no_calls():
    """A process that has no GPU cannot compile the kernel, so that its programs for one are XLA's alone."""
    loss, *arguments = problem_of(LSTM(UNITS, backend="cpu"), ())
    assert kernel_calls(operations(jax.grad(loss), *arguments)) == []


@pytest.mark.parametrize(
    ("layer", "sequence"),
    [
        (LSTM(UNITS, time_major=True), {}),
        (Bidirectional(LSTM(UNITS, time_major=True)), {"lengths": np.arange(BATCH)}),
        (GRU(UNITS, time_major=True), {"resets": flags(0.5, batch=TIME, time=BATCH)}),
    ],
    ids=["LSTM", "bidirectional, lengths", "GRU, resets"],
)
def test_on_a_tpu_nothing_leaves_the_device(monkeypatch, layer, sequence):
    """Forward and in training `fused` runs there, without a callback to the host and without gathering the batch."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    jax.clear_caches()
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), FEATURES))
    xs = jax.ShapeDtypeStruct((TIME, BATCH, FEATURES), jnp.float32)
    loss = lambda params, xs: (layer.apply(params, xs, **sequence)[1] ** 2).sum()
    assert {choice.backend for choice in explain(layer, params, xs, **sequence).choices} == {"fused"}
    for function in (loss, jax.grad(loss)):
        program = operations(function, params, xs, platform="tpu")
        names = {operation.name for operation in program}
        assert "while" in names
        assert not names & {"custom_call", "gather", "all_gather", "all_to_all", "send", "recv", "infeed", "outfeed"}
    jax.clear_caches()
