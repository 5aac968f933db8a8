"""Recurrent layers of a graph: our layers, with the outputs, states and masks of Keras."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.cell import Params
from jlstm.convert.keras_graph.values import Call, Run, Value
from jlstm.convert.keras_model.options import UnsupportedError, Version
from jlstm.layers import Bidirectional, Layer, Stack
from jlstm.layers.bidirectional import MERGES

Config = Mapping[str, Any]


class _Returned(NamedTuple):
    """The options of Keras that decide what a layer returns. `zero` is `zero_output_for_mask`."""

    sequences: bool
    state: bool
    zero: bool


def make(layer: Layer, entry: Mapping[str, Any], version: Version) -> Run:
    """Return a recurrent layer of Keras.

    Args:
        layer: the converted layer.
        entry: the layer's entry in the configuration.
        version: the version of Keras, which decides whether a call with initial states is masked.

    Raises:
        UnsupportedError: the layer is stateful or time-major.
    """
    both = isinstance(layer, Bidirectional)
    config = entry["config"]["layer"]["config"] if both else entry["config"]
    for option, remedy in {
        "stateful": "save the model with stateful=False, or run the layer of keras.read and pass its carry on",
        "time_major": "save the model with the batch first",
        "reverse_state_order": "read the layer with keras.read",
    }.items():
        if config.get(option) or config.get("cell", {}).get("config", {}).get(option):
            raise UnsupportedError(f"it has {option}=True: {remedy}")
    sequences = config["return_sequences"]
    # Keras's Bidirectional overwrites `zero_output_for_mask` of both of its layers with their `return_sequences`.
    zero = sequences if both else config.get("zero_output_for_mask", False)
    returned = _Returned(sequences, config["return_state"], zero)

    def run(params: Params, call: Call) -> tuple[Value, ...]:
        x, attached = call.inputs[0]
        # Keras 2 passes initial states in the list of inputs.
        states = tuple(value.array for value in call.states or call.inputs[1:])
        # Keras 3 looks up the mask of the inputs only for a call with a single argument, so not beside initial states.
        mask = None if states and version.major == 3 and not call.has_mask_argument else attached
        outputs, last_states = (_both if both else _single)(layer, params, x, mask, states, call.key, returned)
        # The mask that is attached passes on, also if it was not used.
        passed = attached if returned.sequences else None
        return (*(Value(output, passed) for output in outputs), *(Value(state) for state in last_states if returned.state))

    return run


Results = tuple[tuple[Array, ...], tuple[Array, ...]]


def _single(layer: Layer, params: Params, x: Array, mask: Array | None, states: Any, key: Any, returned: _Returned) -> Results:
    """Return the output of one direction in the order of processing, and the last states."""
    carry = None
    if states:
        initial = layer.initial_carry(params, x.shape[:1], x.dtype)
        if len(states) != len(leaves := jax.tree.leaves(initial)):
            raise ValueError(f"a recurrent layer is called with {len(states)} initial states, expected {len(leaves)}: pass these")
        carry = jax.tree.unflatten(jax.tree.structure(initial), states)
    last, ys = layer.apply(params, x, carry, mask=mask, key=key)
    last_states = tuple(jax.tree.leaves(last))
    backwards = _is_reversed(layer)
    ordered = None if mask is None else jnp.flip(mask, 1) if backwards else mask
    if returned.sequences:
        ys = jnp.flip(ys, 1) if backwards else ys
        return (ys if ordered is None or returned.zero else _held(ys, ordered),), last_states
    h = layer.last_output(last)
    if ordered is not None:
        # Keras returns zero if no step counts, whatever the initial state is, and with `zero` also if the last one does not.
        counts = ordered[:, -1] if returned.zero else ordered.any(1)
        h = jnp.where(_expanded(counts, h), h, 0)
    return (h,), last_states


def _both(layer: Any, params: Params, x: Array, mask: Array | None, states: Any, key: Any, returned: _Returned) -> Results:
    """Return the merged outputs of both directions, and the last states of the forward and then the backward direction."""
    half = len(states) // 2
    keys = (None, None) if key is None else jax.random.split(key)
    directions = zip(layer.children.items(), (states[:half], states[half:]), keys, strict=True)
    forward, backward = (
        _single(child, params[name], x, mask, child_states, child_key, returned)
        for (name, child), child_states, child_key in directions
    )
    # Keras flips the outputs of the second direction, also if it is the first one that runs backwards.
    y, y_backward = forward[0][0], jnp.flip(backward[0][0], 1) if returned.sequences else backward[0][0]
    outputs = (y, y_backward) if layer.merge is None else (MERGES[layer.merge](y, y_backward),)
    return outputs, forward[1] + backward[1]


def _is_reversed(layer: Layer) -> bool:
    return _is_reversed(layer.layers[0]) if isinstance(layer, Stack) else bool(getattr(layer, "reverse", False))


def _held(ys: Array, mask: Array) -> Array:
    """Return outputs where a step that does not count repeats the output before it, or is zero if there is none."""
    steps = jnp.where(mask, jnp.arange(mask.shape[1]), -1)
    latest = jax.lax.cummax(steps, axis=1)  # the latest step that counts
    held = jnp.take_along_axis(ys, _expanded(jnp.maximum(latest, 0), ys), axis=1)
    return jnp.where(_expanded(latest >= 0, ys), held, 0)


def _expanded(array: Array, like: Array) -> Array:
    """Return an array with axes of size 1 behind its own, as many as `like` has."""
    return array.reshape(array.shape + (1,) * (like.ndim - array.ndim))
