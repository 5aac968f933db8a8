"""Compares a whole model, which `jlstm.convert.keras.model` runs, with the outputs of its framework, layer by layer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jlstm import convert
from parity.diagnosis import Diagnosis
from parity.measure import Comparison, Quantity
from parity.model.leftovers import listed

# In float64. TensorFlow rounds some of its constants to float32, such as that of gelu, and layers may amplify that.
_LIMIT = 1e-6


class Whole(NamedTuple):
    """What a framework computed with a whole model in float64.

    Args:
        inputs: its inputs, in their order.
        outputs: its outputs, flattened.
        layers: the outputs of its layers by name; layers that it calls several times are left out.
    """

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    layers: dict[str, list[np.ndarray]]


RunWhole = Callable[[Sequence[int] | None], Whole]


def obstacle(path: Path) -> str:
    """Return why `jlstm.convert` cannot run the model of a file; "" if it can."""
    try:
        convert.keras.model(path, dtype="float64")
    except ValueError as error:
        return str(error)
    return ""


def compare(path: Path, peer: str, run: RunWhole, lengths: Sequence[int] | None) -> Comparison:
    """Compare all outputs of a model and of its layers in float64.

    Args:
        path: the model's file.
        peer: the name of its framework.
        run: runs it in its framework.
        lengths: how many steps of each sequence count, where a layer masks; None for padding in the second one.

    Returns:
        The outputs. If they differ, the diagnosis names the first layer that does.

    Raises:
        ValueError: one of both sides cannot run the model. The message says why.
    """
    theirs = run(lengths)
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        model = convert.keras.model(path, dtype="float64")

        # One program for the outputs and for those of the layers: compiled apart, both could be rounded in other ways.
        def both(params: Any, inputs: Any) -> Any:
            return model.apply(params, inputs), model.outputs(params, inputs)

        results, by_layer = jax.jit(both)(model.params, theirs.inputs)
    ours = {"outputs": jax.tree.leaves(results)} | {name: jax.tree.leaves(value) for name, value in by_layer.items()}
    truths = {"outputs": theirs.outputs} | theirs.layers
    # Our layers are in the order of their calls, so the first one that differs is where the difference begins.
    different = [name for name in ours if name in truths and not _agree(ours[name], truths[name])]
    layers = [name for name in different if name != "outputs"]
    diagnosis = None
    if different:
        begins = f"the first layer that differs is {layers[0]!r}" if layers else "no single layer differs"
        diagnosis = Diagnosis((f"{begins} ({listed(different)} differ)",), different=tuple(different))
    measured = ["outputs", *layers[:1]]
    quantities = [
        quantity(name if len(truths[name]) == 1 else f"{name}.{k}", value, truth)
        for name in measured
        for k, (value, truth) in enumerate(zip(ours[name], truths[name], strict=True))
    ]
    return Comparison(peer, "float64", tuple(quantities), diagnosis)


def _agree(values: list[Any], truths: list[np.ndarray]) -> bool:
    return all(quantity("", value, truth).verdict == "pass" for value, truth in zip(values, truths, strict=True))


def quantity(name: str, value: Any, truth: np.ndarray) -> Quantity:
    """Return the distance of an output. NaN at the same places is no difference, such as the mean over no step that counts."""
    value = np.asarray(value, np.float64)
    scale = float(np.max(np.abs(truth), initial=0.0, where=np.isfinite(truth)))
    if value.shape != truth.shape:
        distance = np.inf
    else:
        same = np.isnan(value) & np.isnan(truth)
        distance = float(np.max(np.where(same, 0.0, np.abs(value - truth)), initial=0.0))
    return Quantity(name, scale, distance, 0.0, float(np.finfo(np.float64).eps), _LIMIT * max(scale, 1e-3), np.inf)
