"""LSTM, GRU and RNN nodes of a graph, run by layers of jlstm.

A node takes xs (time, batch, features) and returns Y (time, directions, batch, units), Y_h and Y_c (directions, batch, units).
With layout=1, the batch is the first axis of all of them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jlstm.convert.onnx_run.graph import Compute, Run
from jlstm.layers import Layer

STATES = {"h": 5, "c": 6}  # the positions of the initial states among the inputs
_LENGTHS = 4


def recurrent_step(layer: Layer, name: str, batch_first: bool) -> Compute:
    """Return the function of a step that runs a layer.

    Args:
        layer: the converted layer.
        name: the name of its parameters.
        batch_first: whether the node has layout=1.
    """
    layer = layer.map_layers(lambda rnn: replace(rnn, time_major=not batch_first))
    axis = 1 if batch_first else 0  # of the directions, in states

    def compute(run: Run, inputs: Sequence[Any]) -> Sequence[Any]:
        inputs = [*inputs, *[None] * (8 - len(inputs))]
        xs, params = jnp.asarray(inputs[0]), run.params[name]
        if xs.ndim != 3:
            raise ValueError(f"expected an input of three axes, got shape {xs.shape}")
        states = {state: jnp.moveaxis(jnp.asarray(inputs[k]), axis, 0) for state, k in STATES.items() if inputs[k] is not None}
        carry = _filled(layer, params, xs, states, batch_first) if states else None
        last, ys = layer.apply(params, xs, carry, lengths=inputs[_LENGTHS])
        carries = list(last.values()) if isinstance(last, dict) else [last]
        ys = ys.reshape(*ys.shape[:2], len(carries), -1)
        ys = ys if batch_first else jnp.swapaxes(ys, 1, 2)
        return [ys, *(jnp.stack(states, axis) for states in zip(*carries, strict=True))]

    return compute


def _filled(layer: Layer, params: Any, xs: jax.Array, states: dict[str, jax.Array], batch_first: bool) -> Any:
    """Return the initial carry with the states (directions, batch, units) that the node gets. Other states are zero."""
    carry = layer.initial_carry(params, xs.shape[:1] if batch_first else xs.shape[1:2], xs.dtype)
    if not isinstance(carry, dict):
        return carry._replace(**{name: state[0] for name, state in states.items()})
    return {
        direction: part._replace(**{name: state[d] for name, state in states.items()})
        for d, (direction, part) in enumerate(carry.items())
    }
