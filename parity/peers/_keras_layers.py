"""What all versions of Keras share as peers: their layers from ours, their weights from ours, and how a layer is called.

Keras's kernels have our layout. With `reset_after`, a GRU's bias has shape (2, 3·units); its second row holds our
`recurrent_bias`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

import jlstm
from jlstm.cells import ConvLSTMCell, GRUCell
from jlstm.convert import layout
from parity.peers._exchange import carry_like, joined, layers
from parity.problem import Problem


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


def lacks(name: str, problem: Problem) -> str:
    """Return why Keras cannot run a problem; "" if it can. `name` is that of its version, for messages."""
    try:
        for (layer,) in layers(problem.layer):
            _refuse(name, layer, problem.step)
    except ValueError as error:
        return str(error)
    return ""


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


def keras_layers(framework: Framework, problem: Problem) -> list[Any]:
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


def keras_cell(framework: Framework, ours: Any, problem: Problem) -> Any:
    """Return the Keras cell of a layer, without weights, for a single step."""
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


def run_layers(
    framework: Framework,
    layer: jlstm.Layer,
    keras_layers: list[Any],
    xs: Any,
    carry: Any,
    mask: Any,
    dropout_masks: Any,
    flip: Callable[[Any], Any],
) -> tuple[Any, Any]:
    """Call the Keras layers one after the other, and return outputs in the order of the inputs, and the carry.

    `flip` reverses outputs in time.
    """
    carries = []
    for (part, state, part_masks), keras_layer in zip(layers(layer, carry, dropout_masks), keras_layers, strict=True):
        xs, last_state = _run_layer(framework, part, keras_layer, xs, state, mask, part_masks, flip)
        carries.append(last_state)
    return xs, joined(layer, carries)


def _run_layer(
    framework: Framework, ours: Any, layer: Any, xs: Any, carry: Any, mask: Any, dropout_masks: Any, flip: Callable[[Any], Any]
) -> tuple[Any, Any]:
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
    ys = [(flip(y) if reverse else y) if returns_all else y[:, None] for y in ys]
    # Keras lists the states of both directions flat: the first half is the forward direction's
    kind, half = carry_like(ours), len(states) // 2
    if not bidirectional:
        return ys[0], kind(*states)
    carries_by_direction = dict(zip(names, (kind(*states[:half]), kind(*states[half:])), strict=True))
    return dict(zip(names, ys, strict=True)) if ours.merge is None else ys[0], carries_by_direction


def load(layer: jlstm.Layer, keras_layers: list[Any], params: Any, batch: int) -> tuple[Any, Any]:
    """Build the Keras layers, load our parameters, and return their initial weights and their variables, in our structure."""
    pairs = zip(layers(layer, params), keras_layers, strict=True)
    loaded = [_load_layer(part, keras_layer, part_params, batch) for (part, part_params), keras_layer in pairs]
    return joined(layer, [initial for initial, _ in loaded]), joined(layer, [variables for _, variables in loaded])


def _load_layer(layer: jlstm.Layer, keras_layer: Any, params: Any, batch: int) -> tuple[Any, Any]:
    if layer.children:
        keras_layer.build((batch, None, params["forward"]["kernel"].shape[0]))
        keras_layers = {"forward": keras_layer.forward_layer, "backward": keras_layer.backward_layer}
        sides = {name: _load_layer(child, keras_layers[name], params[name], batch) for name, child in layer.children.items()}
        initial, variables = ({name: pair[k] for name, pair in sides.items()} for k in range(2))
        return initial, variables
    features = params["kernel"].shape[-2]
    keras_layer.build((batch, None, *layer.spatial_in, features) if hasattr(keras_layer, "cell") else (batch, features))
    cell = getattr(keras_layer, "cell", keras_layer)
    weights = theirs(params)
    # Read before our parameters replace them: the initial biases are a quantity that is compared.
    initial = ours({name: getattr(cell, name).numpy() for name in weights})
    for name, value in weights.items():
        getattr(cell, name).assign(value.astype(jnp.dtype(cell.dtype)))
    return initial, {name: getattr(cell, name) for name in weights}


def theirs(params: Any) -> Any:
    """Return our parameters as Keras's variables: a GRU's two biases become the rows of one array."""
    if "recurrent_bias" not in params:
        return params
    # Keras has a recurrent bias for all three gates. Ours is for the candidate only, so the columns of z and r are zero.
    second_row = np.concatenate([np.zeros(2 * len(params["recurrent_bias"])), params["recurrent_bias"]])
    without_recurrent_bias = {name: value for name, value in params.items() if name != "recurrent_bias"}
    return without_recurrent_bias | {"bias": np.stack([params["bias"], second_row])}


def ours(weights: Any) -> Any:
    """Split a GRU's bias into `bias` and `recurrent_bias`: the inverse of `theirs`."""
    bias = weights.get("bias")
    if bias is None or len(bias.shape) == 1:
        return weights
    return weights | {"bias": bias[0], "recurrent_bias": bias[1][2 * (bias.shape[1] // 3) :]}
