"""Runs a whole ONNX model on random inputs, with the inputs and outputs of its recurrent nodes as additional outputs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from parity.model.onnx_graph import Place, places
from parity.model.original import Recorded

BATCH, TIME = 2, 12
_ROLES = ("X", "sequence_lens", "initial_h", "initial_c", "Y", "Y_h", "Y_c")
_INTS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
_MOST_RUNS = 24  # of a model whose branches depend on its inputs
FAILURES = (
    *(errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented, errors.RuntimeException),
    *(errors.NoSuchFile, errors.EPFail, ValueError, TypeError, RuntimeError),
)


def recorded(model: Any, nodes: Mapping[str, Place]) -> tuple[dict[str, Recorded], list[str]]:
    """Run the model until each of the nodes has run, or no other inputs are left to try.

    Args:
        model: the result of `onnx_graph.load`.
        nodes: the nodes by name. Those inside a Loop or a Scan cannot be recorded.

    Returns:
        What each node received and returned, and one sentence about those that were not run, with the reason.
    """
    model_copy = onnx.ModelProto()
    model_copy.CopyFrom(model)
    copies = list(places(model_copy.graph))  # all of them, before any is changed
    place_copies = {name: next(copy for copy in copies if _is_copy(copy, place)) for name, place in nodes.items()}
    probes = {name: probe for name, place in place_copies.items() if (probe := _add_outputs(place))}
    reason, records = "it is inside a loop", {}
    outputs = [name for by_role in probes.values() for name in by_role.values()]
    try:
        runtime = session(model_copy)
        # A node in a branch runs for some inputs only, so inputs are tried until each node has run.
        for inputs in feeds(model_copy):
            try:
                values = dict(zip(outputs, runtime.run(outputs, inputs), strict=True))
            except FAILURES as error:
                reason = _line(error)
                continue
            for name, by_role in probes.items():
                arrays = {role: values[output] for role, output in by_role.items()}
                # X is empty if the branch of the node did not run, see `_pass_through_if`.
                if name not in records and arrays["X"].size and np.isfinite(arrays["X"]).all():
                    records[name] = _record(arrays)
            if len(records) == len(probes):
                break
    except FAILURES as error:
        reason = _line(error)
    missing = sorted(nodes.keys() - records.keys())
    sentence = f"{', '.join(missing[:4])}: compared alone and not in the whole model, which could not be run for it ({reason})"
    return records, [sentence] if missing else []


def batch_first(ys: np.ndarray) -> np.ndarray:
    """Return outputs (time, directions, batch, units) as (batch, time, features)."""
    time, directions, batch, units = ys.shape
    return ys.transpose(2, 0, 1, 3).reshape(batch, time, directions * units).astype(np.float64)


def by_direction(states: list[np.ndarray]) -> list[np.ndarray]:
    """Return states (directions, batch, units) in the order of `Results.states`."""
    return [state[d].astype(np.float64) for d in range(len(states[0])) for state in states]


def _is_copy(copy: Place, place: Place) -> bool:
    return copy.node == place.node and len(copy.graphs) == len(place.graphs)


def session(model: Any) -> Any:
    """Return a session of ONNX Runtime that runs the graph as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal errors only: a failed run is caught and its reason is reported
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # so that probes stay where they are
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _add_outputs(place: Place) -> dict[str, str]:
    """Make the node's inputs and outputs outputs of the whole graph, and return their names by role."""
    node, graph = place.node, place.graphs[-1]
    count = 3 if node.op_type == "LSTM" else 2
    # Optional outputs may be missing or have an empty name. They need a name to become outputs of the graph.
    while len(node.output) < count:
        node.output.append("")
    for k in range(count):
        node.output[k] = node.output[k] or f"unnamed {id(node)} {k}"
    values = {role: place.input_name(role) for role in _ROLES[:4]} | dict(zip(_ROLES[4:], node.output, strict=False))
    probes = {role: f"probe {id(node)} {role}" for role, value in values.items() if value}
    for role, output in probes.items():
        graph.node.append(onnx.helper.make_node("Identity", [values[role]], [output]))
    kinds = {output: _INTS[0] if role == "sequence_lens" else onnx.TensorProto.FLOAT for role, output in probes.items()}
    for output in probes.values():
        graph.output.append(onnx.ValueInfoProto(name=output))
    # From the innermost graph outwards; graphs[0] is the model's own and has no holder.
    for inner, holder, outer in zip(place.graphs[:0:-1], place.holders[::-1], place.graphs[-2::-1], strict=True):
        if holder.op_type != "If":  # a loop's outputs have another meaning
            for output in probes.values():
                inner.output.remove(next(info for info in inner.output if info.name == output))
            return {}
        _pass_through_if(holder, inner, kinds)
        for output in probes.values():
            outer.output.append(onnx.ValueInfoProto(name=output))
    return probes


def _pass_through_if(holder: Any, branch: Any, kinds: Mapping[str, int]) -> None:
    """Pass additional outputs of a branch on through its If. The other branch returns empty arrays for them."""
    for attribute in holder.attribute:
        if attribute.g is not branch and attribute.g != branch:
            for output, kind in kinds.items():
                empty = onnx.helper.make_tensor(output, kind, [0], [])
                attribute.g.node.append(onnx.helper.make_node("Constant", [], [output], value=empty))
                attribute.g.output.append(onnx.ValueInfoProto(name=output))
    holder.output.extend(kinds)


def feeds(model: Any, lengths: Sequence[int] | None = None) -> Iterator[dict[str, np.ndarray]]:
    """Yield random inputs of several sizes. Scalar inputs take every number that the graph may compare them with.

    Args:
        model: the model.
        lengths: how many steps of each sequence count, for inputs with "len" in their names; None for several different ones.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    rng = np.random.default_rng(0)
    scalars = [value.name for value in inputs if _is_scalar(value)]
    sizes = ((BATCH, TIME), (1, TIME), (1, 1), (BATCH, BATCH)) if lengths is None else ((len(lengths), max(lengths)),)
    choices = product(sizes, product(_compared_with(model), repeat=len(scalars)))
    vocabulary = _vocabulary(model)
    for (batch, time), numbers in islice(choices, _MOST_RUNS):
        chosen = dict(zip(scalars, numbers, strict=True))
        yield {value.name: _random_input(value, rng, batch, time, chosen, vocabulary, lengths) for value in inputs}


def _is_scalar(value: Any) -> bool:
    kind = value.type.tensor_type
    sizes = [axis.dim_value for axis in kind.shape.dim]
    return kind.elem_type in (*_INTS, onnx.TensorProto.BOOL) and all(size == 1 for size in sizes)


def _compared_with(model: Any) -> list[int]:
    """Return integers that an input may be compared with."""
    numbers = {0, 1}  # also the values of a boolean input
    for graph in {id(inner): inner for place in places(model.graph) for inner in place.graphs}.values():
        for node in graph.node:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                # Type 2 is AttributeProto.INT, whose number is in the field i.
                numbers |= _numbers(attribute.t) if attribute.HasField("t") else {attribute.i} if attribute.type == 2 else set()
        for tensor in graph.initializer:
            numbers |= _numbers(tensor)
    return sorted(numbers, key=lambda number: (-abs(number), number))[:8]


def _numbers(tensor: Any) -> set[int]:
    if tensor.data_type not in _INTS or int(np.prod(tensor.dims, dtype=np.int64)) != 1:
        return set()
    number = int(onnx.numpy_helper.to_array(tensor).reshape(-1)[0])
    return {number} if abs(number) < 2**31 else set()


def _vocabulary(model: Any) -> int:
    """Return the number of rows of the smallest lookup table."""
    tables = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 2}
    gathers = [place.node for place in places(model.graph) if place.node.op_type == "Gather"]
    return int(min((tables[node.input[0]] for node in gathers if node.input[0] in tables), default=2))


def _random_input(
    value: Any, rng: Any, batch: int, time: int, chosen: Mapping[str, int], vocabulary: int, lengths: Sequence[int] | None
) -> np.ndarray:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    shape = [_size(axis, k, batch, time) for k, axis in enumerate(kind.shape.dim)]
    if value.name in chosen:
        return np.full(shape, chosen[value.name], dtype)
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    # Lengths must not exceed the time. Several different ones show whether they are respected.
    if "len" in value.name.lower() and lengths is not None:
        return np.array(lengths).reshape(shape).astype(dtype)
    if "len" in value.name.lower():
        return np.linspace(time, (time + 1) // 2, int(np.prod(shape))).reshape(shape).astype(dtype)
    return rng.integers(0, vocabulary, shape).astype(dtype)


def _size(axis: Any, k: int, batch: int, time: int) -> int:
    name = axis.dim_param.lower()
    if axis.dim_value:
        return int(axis.dim_value)
    if name:
        return batch if "batch" in name or name in ("n", "b") else time
    return batch if k == 0 else time


def _record(arrays: Mapping[str, np.ndarray]) -> Recorded:
    mask = None
    if "sequence_lens" in arrays and arrays["sequence_lens"].size:
        mask = np.arange(len(arrays["X"])) < arrays["sequence_lens"][:, None]
    initial = [arrays[role] for role in ("initial_h", "initial_c") if role in arrays]
    states = [arrays[role] for role in ("Y_h", "Y_c") if role in arrays]
    if initial and len(initial) < len(states):
        initial.append(np.zeros_like(states[1]))  # initial_c may be left out, and is then zero
    xs = arrays["X"].swapaxes(0, 1).astype(np.float64)
    return Recorded(xs, mask, by_direction(initial) if initial else None, [batch_first(arrays["Y"])], None, by_direction(states))


def _line(error: Exception) -> str:
    return (str(error).split("\n")[0] or type(error).__name__)[:160]
