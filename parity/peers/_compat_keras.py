"""What runs in the process of the peer `compat_keras`: the drop-ins under `jit`, with one `vjp` for all gradients."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import keras

from jlstm.compat import keras as drop_ins
from parity.peers._keras_layers import Framework, keras_layers, load, ours, run_layers
from parity.problem import Problem
from parity.quantities import Quantities, biases, in_pieces
from parity.values import Values


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem in its dtype.

    Args:
        problem: what to compute.
        values: its numbers.

    Returns:
        The quantities by name, as float64 arrays.
    """
    # Without "highest", matmuls of float32 may run in lower precision on accelerators, such as TF32 on GPUs.
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        layers = keras_layers(KERAS, problem)
        initial, variables = load(problem.layer, layers, values.params, len(values.xs))
        states = [variable for layer in layers for variable in layer.non_trainable_variables if variable.name == "rnn_state"]

        @jax.jit
        def with_gradients(weights: Any, state_values: list[Any], piece: Values) -> Any:
            def forward(weights: Any, xs: Any, carry: Any) -> Any:
                # Within the scope, variables have these values. It also holds what is assigned to them.
                assigned = [*zip(jax.tree.leaves(variables), jax.tree.leaves(weights), strict=True)]
                scope = keras.StatelessScope([*assigned, *zip(states, state_values, strict=True)])
                with scope:
                    ys, last_carry = run_layers(KERAS, problem.layer, layers, xs, carry, piece.mask, piece.dropout_masks, _flip)
                if piece.mask is not None and problem.outputs == "all":  # Keras repeats the previous output at masked steps
                    counts = jnp.asarray(piece.mask)[..., None]
                    ys = jax.tree.map(lambda leaf: jnp.where(counts, leaf, jnp.zeros_like(leaf)), ys)
                return (ys, last_carry), [scope.get_current_value(state) for state in states]

            results, pullback, new_states = jax.vjp(forward, weights, piece.xs, piece.carry, has_aux=True)
            d_weights, d_xs, d_carry = pullback((piece.d_ys, piece.d_carry))
            d_params = jax.tree.map(ours, d_weights, is_leaf=lambda tree: isinstance(tree, dict) and "kernel" in tree)
            return (*results, d_params, d_xs, d_carry), new_states

        state_values = [state.value for state in states]
        weights = jax.tree.map(lambda variable: variable.value, variables)

        def run_piece(piece: Values) -> Any:
            nonlocal state_values
            # Later pieces start from the states that a layer with stateful=True keeps.
            carry = piece.carry if piece.carry is values.carry else None
            typed = jax.tree.map(
                lambda leaf: jnp.asarray(leaf, problem.dtype), piece._replace(params=None, mask=None, carry=carry)
            )
            result, state_values = with_gradients(weights, state_values, typed._replace(mask=piece.mask))
            return result

        return in_pieces(problem, values, run_piece, biases(initial) if problem.weights == "initial" else None)


def _flip(ys: Any) -> Any:
    return jnp.flip(ys, 1)


def _hand_in(layer: Any, dropout_masks: Mapping[str, Any]) -> None:
    for name, attribute in (("inputs", "_dropout_mask"), ("recurrent", "_recurrent_dropout_mask")):
        if name in dropout_masks:
            # Keras caches one mask as an array, and one mask per gate as a list.
            masks = dropout_masks[name]
            setattr(layer.cell, attribute, masks if len(masks) > 1 else masks[0])


KERAS = Framework("jlstm.compat.keras", drop_ins, lambda *_: None, _hand_in)
