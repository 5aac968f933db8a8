"""What the peers that run Keras on TensorFlow share: layers run eagerly, with a gradient tape.

Keras's kernels have our layout. With `reset_after`, a GRU's bias has shape (2, 3·units); its second row holds our
`recurrent_bias`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # Eigen's kernels: the same rounding on every processor

import jax
import numpy as np
import tensorflow as tf

import jlstm
from jlstm.cells import ConvLSTMCell, GRUCell
from jlstm.convert import layout
from parity.peers._exchange import carry_like, joined, layers, nan_in_padding
from parity.problem import Problem
from parity.quantities import Quantities, biases, named
from parity.values import Values

tf.config.set_visible_devices([], "GPU")  # TensorFlow would take the GPU's whole memory, and its matmuls round to TF32


@dataclass(frozen=True)
class Framework:
    """One version of Keras and what differs between versions.

    Args:
        name: its name, for messages.
        layers: its `layers` module.
        begin: `(cell, inputs) -> states`, a cell's initial states.
        hand_in: `(layer, masks)`, stores our dropout masks where the layer caches its own. `masks` maps "inputs" and "recurrent"
            to lists of one or four arrays.
        activations: its names of activations, where they differ from ours.
    """

    name: str
    layers: Any
    begin: Callable[[Any, Any], Any]
    hand_in: Callable[[Any, Mapping[str, Any]], None]
    activations: Mapping[str, Any] = field(default_factory=dict)


def lacks(framework: Framework, problem: Problem) -> str:
    """Return why Keras cannot run a problem; "" if it can."""
    try:
        for (layer,) in layers(problem.layer):
            _refuse(framework.name, layer, problem.step)
    except ValueError as error:
        return str(error)
    return ""


def known_bug(name: str, problem: Problem) -> str:
    """Return what TensorFlow's gradients get wrong in padding; "" if nothing."""
    bug = f"{name} lets NaN in padding into gradients (https://github.com/tensorflow/tensorflow/issues/6209)"
    return bug if nan_in_padding(problem) else ""


def _refuse(name: str, layer: Any, step: bool) -> None:
    """Raise ValueError if Keras cannot run one layer of a problem."""
    rnn = layer.children.get("forward", layer)
    if not isinstance(rnn, jlstm.RNN):
        raise ValueError(f"{name} has Bidirectional only around a single layer, got {rnn!r}: compare its parts")
    cell = rnn.cell
    layout.refuse(name, cell, but=_SUPPORTED, kinds=(jlstm.LSTMCell, GRUCell, ConvLSTMCell))
    if isinstance(cell, ConvLSTMCell) and (step or rnn is not layer):
        raise ValueError(
            f"{name} has ConvLSTM as a layer, not as a cell, and it is not run in Bidirectional here: compare the layer"
        )
    if cell.stochastic and (not isinstance(cell, jlstm.LSTMCell) or cell.recurrent_dropout_on != "h"):
        raise ValueError(f"{name} takes dropout masks of ours only for x and h of an LSTM: leave dropout out")


_SUPPORTED = (
    *("activation", "recurrent_activation", "reset_after"),
    *("filters", "kernel_size", "spatial", "strides", "padding", "dilation"),
)


def run(framework: Framework, problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem, eagerly, with a gradient tape.

    Args:
        framework: the version of Keras.
        problem: what to compute.
        values: its numbers.

    Returns:
        The quantities by name, as float64 arrays.
    """
    tensors = jax.tree.map(lambda leaf: tf.cast(tf.constant(leaf), problem.dtype), values._replace(mask=None))
    with tf.GradientTape() as tape:
        xs, carry = jax.tree.map(tf.identity, (tensors.xs, tensors.carry))
        # The tape watches variables by itself; inputs and carry are no variables.
        tape.watch([xs, *jax.tree.leaves(carry)])
        if problem.step:
            layer = _cell(framework, problem.layer, problem)
            initial, weights = _load(problem.layer, [layer], values.params, len(values.xs))
            y, state = layer(xs[:, 0], list(carry or jax.tree.leaves(framework.begin(layer, xs))))
            ys, last_carry = y[:, None], carry_like(problem.layer)(*state)
        else:
            keras_layers = _keras_layers(framework, problem)
            initial, weights = _load(problem.layer, keras_layers, values.params, len(values.xs))
            ys, last_carry = _forward(framework, problem, values, keras_layers, xs, carry, tensors.dropout_masks)
    leaves, structure = jax.tree.flatten((weights, xs, carry))
    # One backward pass: the cotangents of all results are drawn, so every gradient depends on each of them.
    targets = jax.tree.leaves((ys, last_carry))
    cotangents = jax.tree.leaves((tensors.d_ys, tensors.d_carry))
    # Where nothing depends on a leaf, TensorFlow returns None by default, and JAX zeros.
    gradients = tape.gradient(targets, leaves, cotangents, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    d_weights, d_xs, d_carry = jax.tree.unflatten(structure, gradients)
    d_params = jax.tree.map(_ours, d_weights, is_leaf=lambda tree: isinstance(tree, dict) and "kernel" in tree)
    results = (ys, last_carry, d_params, d_xs, d_carry, biases(initial) if problem.weights == "initial" else None)
    return named(*jax.tree.map(_numpy, results))


def _forward(
    framework: Framework, problem: Problem, values: Values, keras_layers: list[Any], xs: Any, carry: Any, dropout_masks: Any
) -> tuple[Any, Any]:
    ys = []
    masks = [None] * problem.batches if values.mask is None else tf.split(values.mask, problem.batches, 1)
    for k, (x, mask) in enumerate(zip(tf.split(xs, problem.batches, 1), masks, strict=True)):
        # Later batches start from the states that a layer with stateful=True keeps itself.
        y, carries, initial = x, [], carry if k == 0 else None
        for (layer, state, masks_of_layer), keras_layer in zip(
            layers(problem.layer, initial, dropout_masks), keras_layers, strict=True
        ):
            y, last_state = _run(framework, layer, keras_layer, y, state, mask, masks_of_layer)
            carries.append(last_state)
        last_carry = joined(problem.layer, carries)
        if mask is not None and problem.outputs == "all":  # Keras may repeat the previous output where a step does not count
            y = jax.tree.map(lambda leaf, mask=mask: tf.where(_broadcast_mask(mask, leaf), leaf, tf.zeros_like(leaf)), y)
        ys.append(y)
    return jax.tree.map(lambda *leaves: tf.concat(leaves, 1), *ys), last_carry


def _broadcast_mask(mask: Any, ys: Any) -> Any:
    return tf.reshape(mask, (*mask.shape, *[1] * (len(ys.shape) - 2)))


def _run(framework: Framework, ours: Any, layer: Any, xs: Any, carry: Any, mask: Any, dropout_masks: Any) -> tuple[Any, Any]:
    """Call the Keras layer and return outputs in the order of the inputs, and the carry."""
    bidirectional = bool(ours.children)
    names = ("forward", "backward")
    # Keras draws its masks on the first call and caches them. With ours in the cache, it draws none.
    if dropout_masks is not None:
        layers_and_masks = (
            ((layer.forward_layer, dropout_masks["forward"]), (layer.backward_layer, dropout_masks["backward"]))
            if bidirectional
            else ((layer, dropout_masks),)
        )
        for inner, masks in layers_and_masks:
            framework.hand_in(inner, {name: list(mask) for name, mask in masks.items()})
    state = carry and ([leaf for name in names for leaf in carry[name]] if bidirectional else list(carry))
    # Bidirectional.__call__ cannot pass a mask on: its compute_mask raises TypeError on the states of return_state=True
    call = layer.call if bidirectional else layer
    results = list(call(xs, initial_state=state, mask=mask, training=dropout_masks is not None))
    outputs = 2 if bidirectional and ours.merge is None else 1
    ys, states = results[:outputs], results[outputs:]
    reverse = ours.children.get("forward", ours).reverse
    returns_all = (layer.forward_layer if bidirectional else layer).return_sequences
    # A backward layer returns its outputs in the order of computation. Bidirectional flips those of its second layer only,
    # so that both of them, or their merged outputs, come reversed if its first layer runs backwards.
    ys = [(tf.reverse(y, [1]) if reverse else y) if returns_all else y[:, None] for y in ys]
    # Keras lists the states of both directions flat: the first half is the forward direction's
    kind, half = carry_like(ours), len(states) // 2
    if not bidirectional:
        return ys[0], kind(*states)
    carries_by_direction = dict(zip(names, (kind(*states[:half]), kind(*states[half:])), strict=True))
    return dict(zip(names, ys, strict=True)) if ours.merge is None else ys[0], carries_by_direction


def _keras_layers(framework: Framework, problem: Problem) -> list[Any]:
    """Return the Keras layers of a problem, without weights. Only the topmost may return its last output alone."""
    ours = [layer for (layer,) in layers(problem.layer)]
    return [_layer(framework, layer, problem, last=problem.outputs == "last" and layer is ours[-1]) for layer in ours]


def _layer(framework: Framework, ours: Any, problem: Problem, *, last: bool) -> Any:
    if ours.children:
        directions = [_layer(framework, child, problem, last=last) for child in ours.children.values()]
        return framework.layers.Bidirectional(
            directions[0], backward_layer=directions[1], merge_mode=ours.merge, dtype=problem.dtype
        )
    cell = ours.cell
    name = "GRU" if isinstance(cell, GRUCell) else f"ConvLSTM{len(cell.spatial)}D" if cell.spatial_in else "LSTM"
    recurrent_only = {"zero_output_for_mask": problem.zero_output, "unroll": ours.unroll == "all"} if not cell.spatial_in else {}
    return getattr(framework.layers, name)(
        **_options(framework, cell),
        **recurrent_only,
        return_sequences=not last,
        return_state=True,
        go_backwards=ours.reverse,
        stateful=problem.batches > 1,
        dtype=problem.dtype,
    )


def _cell(framework: Framework, ours: Any, problem: Problem) -> Any:
    cell = framework.layers.GRUCell if isinstance(ours.cell, GRUCell) else framework.layers.LSTMCell
    return cell(**_options(framework, ours.cell), dtype=problem.dtype)


def _options(framework: Framework, cell: Any) -> dict[str, Any]:
    options: dict[str, Any]
    if isinstance(cell, GRUCell):
        options = {name: getattr(cell, name) for name in ("units", "reset_after")}
    elif isinstance(cell, ConvLSTMCell):
        options = {name: getattr(cell, name) for name in ("filters", "kernel_size", "strides", "padding")}
        options |= {"dilation_rate": cell.dilation, "unit_forget_bias": cell.forget_bias is not None}
    else:
        options = {"units": cell.units, "unit_forget_bias": cell.forget_bias is not None}
    for name in ("activation", "recurrent_activation"):
        options[name] = framework.activations.get(getattr(cell, name), getattr(cell, name))
    names = ("use_bias", "dropout", "recurrent_dropout")
    # Our weights replace these. The default initializer, orthogonal, needs QR, which has no bfloat16.
    initializers = dict.fromkeys(("kernel_initializer", "recurrent_initializer"), "zeros")
    return {name: getattr(cell, name) for name in names} | options | initializers


def _load(ours: jlstm.Layer, keras_layers: list[Any], params: Any, batch: int) -> tuple[Any, Any]:
    """Build the Keras layers, load our parameters, and return their initial weights and their variables, in our structure."""
    pairs = zip(layers(ours, params), keras_layers, strict=True)
    loaded = [_load_layer(layer, keras_layer, layer_params, batch) for (layer, layer_params), keras_layer in pairs]
    return joined(ours, [initial for initial, _ in loaded]), joined(ours, [variables for _, variables in loaded])


def _load_layer(ours: jlstm.Layer, layer: Any, params: Any, batch: int) -> tuple[Any, Any]:
    if ours.children:
        layer.build((batch, None, params["forward"]["kernel"].shape[0]))
        keras_layers = {"forward": layer.forward_layer, "backward": layer.backward_layer}
        sides = {name: _load_layer(child, keras_layers[name], params[name], batch) for name, child in ours.children.items()}
        initial, variables = ({name: pair[k] for name, pair in sides.items()} for k in range(2))
        return initial, variables
    features = params["kernel"].shape[-2]
    layer.build((batch, None, *ours.spatial_in, features) if hasattr(layer, "cell") else (batch, features))
    cell = getattr(layer, "cell", layer)
    weights = _theirs(params)
    # Read before our parameters replace them: the initial biases are a quantity that is compared.
    initial = _ours({name: getattr(cell, name).numpy() for name in weights})
    for name, value in weights.items():
        getattr(cell, name).assign(value.astype(tf.as_dtype(cell.dtype).as_numpy_dtype))
    return initial, {name: _tensor(getattr(cell, name)) for name in weights}


def _theirs(params: Any) -> Any:
    """Return our parameters as Keras's variables: a GRU's two biases become the rows of one array."""
    if "recurrent_bias" not in params:
        return params
    # Keras has a recurrent bias for all three gates. Ours is for the candidate only, so the columns of z and r are zero.
    second_row = np.concatenate([np.zeros(2 * len(params["recurrent_bias"])), params["recurrent_bias"]])
    without_recurrent_bias = {name: value for name, value in params.items() if name != "recurrent_bias"}
    return without_recurrent_bias | {"bias": np.stack([params["bias"], second_row])}


def _ours(weights: Any) -> Any:
    """Split a GRU's bias into `bias` and `recurrent_bias`: the inverse of `_theirs`."""
    bias = weights.get("bias")
    if bias is None or len(bias.shape) == 1:
        return weights
    return weights | {"bias": bias[0], "recurrent_bias": bias[1][2 * (bias.shape[1] // 3) :]}


def _tensor(variable: Any) -> Any:
    """Return the TensorFlow variable, which Keras 3 wraps in a variable class of its own."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _numpy(tensor: Any) -> np.ndarray:
    return tf.cast(tf.convert_to_tensor(tensor), tf.float64).numpy()
