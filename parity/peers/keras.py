"""Keras 3 on TensorFlow. Layout: kernel (features, 4·units), recurrent_kernel (units, 4·units), bias; gates i f c o, as ours."""

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # Eigen's kernels: the same rounding on every processor
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import jax
import keras
import numpy as np
import tensorflow as tf

import jlstm
from parity.case import Problem, Quantities, Values, biases, named

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"Keras runs on {keras.backend.backend()!r} here, set KERAS_BACKEND=tensorflow")

tf.config.set_visible_devices([], "GPU")  # TensorFlow would take the GPU's whole memory, and its matmuls round to TF32


def version() -> str:
    """Versions of Keras and TensorFlow."""
    return f"keras {keras.__version__} on tensorflow {tf.__version__}"


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem, eagerly, with a gradient tape."""
    tensors = jax.tree.map(lambda leaf: tf.cast(tf.constant(leaf), problem.dtype), values._replace(mask=None))
    with tf.GradientTape() as tape:
        xs, carry = jax.tree.map(tf.identity, (tensors.xs, tensors.carry))
        tape.watch([xs, *jax.tree.leaves(carry)])
        if problem.step:
            layer = _cell(problem.layer, problem)
            initial, weights = _load(problem.layer, layer, values.params, len(values.xs))
            y, state = layer(xs[:, 0], list(carry or layer.get_initial_state(len(xs))))
            ys, last_carry = y[:, None], jlstm.Carry(*state)
        else:
            layer = _layer(problem.layer, problem, last=problem.outputs == "last")
            initial, weights = _load(problem.layer, layer, values.params, len(values.xs))
            ys, last_carry = _forward(problem, values, layer, xs, carry, tensors.noise)
    leaves, structure = jax.tree.flatten((weights, xs, carry))
    targets = jax.tree.leaves((ys, last_carry))
    cotangents = jax.tree.leaves((tensors.d_ys, tensors.d_carry))
    gradients = tape.gradient(targets, leaves, cotangents, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    d_params, d_xs, d_carry = jax.tree.unflatten(structure, gradients)
    results = (ys, last_carry, d_params, d_xs, d_carry, biases(initial) if problem.weights == "initial" else None)
    return named(*jax.tree.map(_numpy, results))


def _forward(problem: Problem, values: Values, layer: Any, xs: Any, carry: Any, noise: Any) -> tuple[Any, Any]:
    ys = []
    masks = [None] * problem.batches if values.mask is None else tf.split(values.mask, problem.batches, 1)
    for k, (x, mask) in enumerate(zip(tf.split(xs, problem.batches, 1), masks, strict=True)):
        y, last_carry = _run(problem.layer, layer, x, carry if k == 0 else None, mask, noise)
        if mask is not None and problem.outputs == "all":  # Keras may repeat the previous output where a step does not count
            y = jax.tree.map(lambda leaf, mask=mask: tf.where(mask[:, :, None], leaf, tf.zeros_like(leaf)), y)
        ys.append(y)
    return jax.tree.map(lambda *leaves: tf.concat(leaves, 1), *ys), last_carry


def _run(ours: Any, layer: Any, xs: Any, carry: Any, mask: Any, noise: Any) -> tuple[Any, Any]:
    """Call the Keras layer and put its results into our order: outputs in the order of the inputs, one carry a layer."""
    if isinstance(ours, jlstm.Stack):
        carries = []
        for k, (one, keras_one) in enumerate(zip(ours.layers, layer, strict=True)):
            xs, after = _run(one, keras_one, xs, carry and carry[k], mask, noise and noise[k])
            carries.append(after)
        return xs, tuple(carries)
    bidirectional = isinstance(ours, jlstm.Bidirectional)
    names = ("forward", "backward")
    if noise is not None:
        both = (
            ((layer.forward_layer, noise["forward"]), (layer.backward_layer, noise["backward"]))
            if bidirectional
            else ((layer, noise),)
        )
        for one, masks in both:
            _hand_in(one.cell, masks)
    state = carry and ([leaf for name in names for leaf in carry[name]] if bidirectional else list(carry))
    # Bidirectional.__call__ cannot pass a mask on: its compute_mask raises TypeError on the states of return_state=True
    call = layer.call if bidirectional else layer
    results = list(call(xs, initial_state=state, mask=mask, training=noise is not None))
    outputs = 2 if bidirectional and ours.merge is None else 1
    ys, states = results[:outputs], results[outputs:]
    reverse = (ours.layer if bidirectional else ours).reverse
    returns_all = (layer.forward_layer if bidirectional else layer).return_sequences
    ys = [(tf.reverse(y, [1]) if reverse else y) if returns_all else y[:, None] for y in ys]
    if not bidirectional:
        return ys[0], jlstm.Carry(*states)
    both_carries = dict(zip(names, (jlstm.Carry(*states[:2]), jlstm.Carry(*states[2:])), strict=True))
    return dict(zip(names, ys, strict=True)) if ours.merge is None else ys[0], both_carries


def _hand_in(cell: Any, noise: Any) -> None:
    """Put the dropout masks where the cell keeps those that it has drawn for a sequence."""
    for name, attribute in (("inputs", "_dropout_mask"), ("recurrent", "_recurrent_dropout_mask")):
        if name in noise:
            setattr(cell, attribute, list(noise[name]) if len(noise[name]) > 1 else noise[name][0])


def _layer(ours: Any, problem: Problem, *, last: bool) -> Any:
    if isinstance(ours, jlstm.Stack):
        return [_layer(one, problem, last=last and one is ours.layers[-1]) for one in ours.layers]
    if isinstance(ours, jlstm.Bidirectional):
        if not isinstance(ours.layer, jlstm.RNN):
            raise ValueError(f"Keras has Bidirectional only around a single layer, got {ours.layer!r}: compare its parts")
        both = [_layer(one, problem, last=last) for one in (ours.layer, ours.layer.flipped())]
        return keras.layers.Bidirectional(both[0], backward_layer=both[1], merge_mode=ours.merge, dtype=problem.dtype)
    return keras.layers.LSTM(
        **_options(ours.cell),
        return_sequences=not last,
        return_state=True,
        go_backwards=ours.reverse,
        stateful=problem.batches > 1,
        unroll=ours.unroll == "all",
        zero_output_for_mask=problem.zero_output,
        dtype=problem.dtype,
    )


def _cell(ours: Any, problem: Problem) -> Any:
    return keras.layers.LSTMCell(**_options(ours.cell), dtype=problem.dtype)


def _options(cell: jlstm.LSTMCell) -> dict[str, Any]:
    if cell.output_activation not in (None, cell.activation):
        raise ValueError("Keras has one activation for g and for the output: leave output_activation out")
    names = ("units", "activation", "recurrent_activation", "use_bias", "dropout", "recurrent_dropout")
    drawn = dict.fromkeys(("kernel_initializer", "recurrent_initializer"), "zeros")  # replaced by ours; QR has no bfloat16
    return {name: getattr(cell, name) for name in names} | {"unit_forget_bias": cell.forget_bias is not None} | drawn


def _load(ours: Any, layer: Any, params: Any, batch: int) -> tuple[Any, Any]:
    """Build the Keras layer, load our parameters, and return what they were before and its variables, both as our tree."""
    if isinstance(ours, jlstm.Stack):
        loaded = [_load(one, keras_one, p, batch) for one, keras_one, p in zip(ours.layers, layer, params, strict=True)]
        return tuple(before for before, _ in loaded), tuple(variables for _, variables in loaded)
    if isinstance(ours, jlstm.Bidirectional):
        layer.build((batch, None, params["forward"]["kernel"].shape[0]))
        both = (("forward", layer.forward_layer), ("backward", layer.backward_layer))
        sides = {name: _load(ours.layer, keras_one, params[name], batch) for name, keras_one in both}
        before, variables = ({name: pair[k] for name, pair in sides.items()} for k in range(2))
        return before, variables
    features = params["kernel"].shape[0]
    layer.build((batch, features) if isinstance(layer, keras.layers.LSTMCell) else (batch, None, features))
    cell = getattr(layer, "cell", layer)
    before = {name: getattr(cell, name).numpy() for name in params}
    for name, value in params.items():
        getattr(cell, name).assign(value.astype(tf.as_dtype(cell.dtype).as_numpy_dtype))
    return before, {name: getattr(cell, name).value for name in params}


def _numpy(tensor: Any) -> np.ndarray:
    return tf.cast(tf.convert_to_tensor(tensor), tf.float64).numpy()
