"""Runs a whole Keras model in float64, and records the outputs of its layers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.model.keras_run import recorded_calls, sample_inputs
from parity.model.keras_whole import Whole
from parity.peers._keras import tf


def run(model: Any, lengths: Sequence[int] | None) -> Whole:
    """Run a copy of a model in float64, without dropout, on random inputs.

    Args:
        model: a whole Keras model.
        lengths: how many steps of each sequence count, where a layer of the model masks; None for padding in the second one.

    Returns:
        The inputs by name, the outputs, and the output of each layer that is called once.

    Raises:
        ValueError: Keras cannot run it so.
    """
    try:
        copy = _in_float64(model)
        layers = {layer.name: layer for layer in copy.layers if type(layer).__name__ != "InputLayer"}
        calls: dict[str, list[Any]] = {}
        inputs = sample_inputs(copy, lengths)
        with recorded_calls(layers, lambda name, call: calls.setdefault(name, []).append(call)):
            outputs = copy(inputs, training=False)
    except Exception as error:  # a layer may raise anything; the reason is reported
        reason = (str(error).strip().split("\n")[0] or type(error).__name__)[:160]
        raise ValueError(f"Keras cannot run it in float64 ({reason})") from error
    once = {name: _arrays(results[0][2]) for name, results in calls.items() if len(results) == 1}
    flat = inputs if isinstance(inputs, list) else [inputs]
    return Whole([np.asarray(value) for value in flat], _arrays(outputs), once)


def _in_float64(model: Any) -> Any:
    """Return a copy of a model, with its weights, that computes in float64."""
    config = json.loads(json.dumps(model.get_config()))
    for entry in _dicts(config):
        if _is_floating(entry.get("dtype")):
            entry["dtype"] = "float64"
    copy = type(model).from_config(config)
    if not copy.built:
        copy.build(model.input_shape)
    copy.set_weights([np.asarray(array, np.float64) for array in model.get_weights()])
    return copy


def _is_floating(policy: Any) -> bool:
    """Return whether a dtype or a policy is floating. Inputs of whole numbers, and masks, keep their dtype."""
    name = policy.get("config", {}).get("name", "") if isinstance(policy, Mapping) else policy
    return isinstance(name, str) and "float" in name


def _dicts(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield all mappings inside a tree."""
    stack = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _arrays(results: Any) -> list[np.ndarray]:
    return [tf.cast(array, "float64").numpy() for array in tf.nest.flatten(results)]
