"""Compares a whole ONNX model, as `jlstm.convert.onnx.model` runs it, with ONNX Runtime, node by node."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx

from jlstm import convert
from parity import tolerance
from parity.diagnosis import Diagnosis
from parity.measure import Comparison, Quantity
from parity.model import onnx_run
from parity.model.onnx_graph import load
from parity.same_model import complaint


def obstacle(path: Path) -> str:
    """Return why `jlstm.convert.onnx.model` does not run a file; "" if it does."""
    try:
        convert.onnx.model(path)
    except ValueError as error:
        return str(error)
    return ""


def compare(path: Path, lengths: Sequence[int] | None = None) -> Comparison | None:
    """Run a model on random inputs here and in ONNX Runtime, and compare the outputs.

    Args:
        path: the file.
        lengths: how many steps of each sequence count, for inputs with "len" in their names; None for different ones.

    Returns:
        The outputs. If one differs, the diagnosis names the first node whose outputs do. None if ONNX Runtime cannot run the
        model on the inputs that were tried.

    Raises:
        ValueError: `jlstm.convert.onnx.model` refuses the model, or cannot run it on inputs that ONNX Runtime takes.
    """
    model, proto = convert.onnx.model(path), load(path)
    run = _run(proto, lengths)
    if run is None:
        return None
    feeds, theirs = run
    # Whole numbers may decide shapes, so they are constants of the compiled program.
    arrays = {name: feed for name, feed in feeds.items() if jnp.issubdtype(feed.dtype, jnp.floating)}
    with jax.default_matmul_precision("highest"):
        values = jax.jit(lambda params, inputs: model.values(params, feeds | inputs))(model.params, arrays)
    ours = feeds | {name: np.asarray(value) for name, value in values.items()}
    # An output that no node computes is an array of the file.
    quantities = tuple(_quantity(name, ours[name], theirs[name]) for name in model.outputs if name in ours)
    return Comparison("onnxruntime", "float32", quantities, _diagnosis(proto, ours, theirs, quantities))


def _run(proto: Any, lengths: Sequence[int] | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """Return inputs, and all values that ONNX Runtime computes from them by name; None if it runs on none of those tried."""
    probed = onnx.ModelProto()
    probed.CopyFrom(proto)
    outputs = [output.name for output in proto.graph.output]
    names = [name for node in proto.graph.node for name in node.output if name]
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    try:
        session = onnx_run.session(probed)
    except onnx_run.FAILURES:
        return None
    for feeds in onnx_run.feeds(proto, lengths):
        try:
            return feeds, dict(zip(outputs + names, session.run(outputs + names, feeds), strict=True))
        except onnx_run.FAILURES:
            continue
    return None


def _diagnosis(
    proto: Any, ours: Mapping[str, np.ndarray], theirs: Mapping[str, Any], quantities: Sequence[Quantity]
) -> Diagnosis | None:
    """Return which node is the first whose outputs differ; None if the outputs of the model are the same."""
    if all(quantity.verdict == "pass" for quantity in quantities):
        return None
    different = tuple(quantity.name for quantity in quantities if quantity.verdict != "pass")
    for node in proto.graph.node:
        for name in node.output:
            if name in ours and (what := complaint(name, ours[name], np.asarray(theirs[name]))):
                label = node.name or node.output[0]
                return Diagnosis((f"the first node that differs is {label!r} ({node.op_type}), {what}",), different=different)
    return Diagnosis(("no node of the main graph alone differs as much",), different=different)


def _quantity(name: str, value: np.ndarray, truth: Any) -> Quantity:
    """Return the distance of an output from ONNX Runtime's."""
    truth = np.asarray(truth, np.float64)
    scale = float(np.abs(truth).max(initial=0))
    distance = float(np.abs(value.astype(np.float64) - truth).max(initial=0)) if value.shape == truth.shape else np.inf
    is_floating = jnp.issubdtype(value.dtype, jnp.floating)
    eps = float(jnp.finfo(value.dtype).eps) if is_floating else float(np.finfo(np.float32).eps)
    return Quantity(name, scale, distance, 0.0, eps, tolerance.of_model(eps) * scale if is_floating else 0.0, np.inf)
