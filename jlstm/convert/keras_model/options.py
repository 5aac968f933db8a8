"""Conversion of the options in the configuration of Keras's recurrent layers and cells to those of jlstm.

A layer with an option that is not listed here is skipped, because the option could change the result.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

ACTIVATIONS = {
    **{name: name for name in ("tanh", "sigmoid", "relu", "linear", "elu", "selu", "softplus", "softsign", "silu", "hard_tanh")},
    "swish": "silu",
}
KINDS = {
    "LSTM": "LSTM",
    "CuDNNLSTM": "LSTM",
    "GRU": "GRU",
    "CuDNNGRU": "GRU",
    "SimpleRNN": "RNN",
    **{f"ConvLSTM{axes}D": "ConvLSTM" for axes in (1, 2, 3)},
}
CELLS = {"LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "RNN"}

# Options that a configuration may have with any value: those of training, of all layers, and of the loop over time.
_TRAINING = {
    f"{array}_{use}" for array in ("kernel", "recurrent", "bias") for use in ("initializer", "regularizer", "constraint")
}
LAYER = {"name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape", "input_dim", "input_length", "seed"}
_RUN = {
    *("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "time_major", "zero_output_for_mask"),
    *("use_cudnn", "activity_regularizer"),
}
_CELL = {"units", "activation", "use_bias", "dropout", "recurrent_dropout", "implementation"}
_GATED = {"recurrent_activation"}
_WINDOW = {"filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate"}
_ALLOWED = {
    "LSTM": _CELL | _GATED | {"unit_forget_bias"},
    "GRU": _CELL | _GATED | {"reset_after"},
    "RNN": _CELL,
    "ConvLSTM": (_CELL | _GATED | _WINDOW | {"unit_forget_bias"}) - {"units"},
}
LOOP = LAYER | _RUN
STACKED = LAYER | {"cells", "reverse_state_order"}
WRAPPER = LAYER | {"layer", "backward_layer", "merge_mode"}
_VERSION = re.compile(r"([123])\.(\d+)(?:\.(\d+))?([.\w+-]*)")


class UnsupportedError(ValueError):
    """The reason why a recurrent layer is skipped, as a sentence about the layer: "it has …"."""


class Version(NamedTuple):
    """A version of Keras, such as 2.2.4-tf."""

    major: int
    minor: int
    patch: int
    suffix: str


def version(text: str | None) -> Version | None:
    """Parse a version of Keras. Return None if the text is not a version from 1 to 3."""
    match = _VERSION.fullmatch(text or "")
    return None if match is None else Version(int(match[1]), int(match[2]), int(match[3] or 0), match[4])


def quoted(value: Any) -> str:
    """Return a value in quotes for a message, cut to 60 characters."""
    text = str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


class Cell(NamedTuple):
    """The configuration of one cell.

    Attributes:
        kind: "LSTM", "GRU", "RNN" or "ConvLSTM".
        group: the name of the cell's group in a numbered file, such as "lstm_cell_1". It is "" for a layer such as LSTM, which
            has a single cell.
        name: the cell's own name, which is that of its group in a legacy file.
        units: the size of h.
        use_bias: whether the cell has a bias.
        dtype: the dtype of the cell's variables; "" if the configuration does not state it.
        cudnn: whether the weights are in the layout of cuDNN.
        options: all other options, by the names of jlstm.
    """

    kind: str
    group: str
    name: str
    units: int
    use_bias: bool
    dtype: str
    cudnn: bool
    options: dict[str, Any]


def require_known(config: Mapping[str, Any], allowed: set[str]) -> None:
    """Check that a configuration sets no unknown option.

    Raises:
        UnsupportedError: an unknown option is set.
    """
    unknown = sorted(name for name, value in config.items() if name not in allowed and value is not None)
    if unknown:
        raise UnsupportedError(f"it has the option {quoted(unknown[0])}={quoted(config[unknown[0]])}, which is not known here")


def cell(kind: str, config: Mapping[str, Any], loop: Mapping[str, Any], keras: Version, *, cudnn: bool = False) -> Cell:
    """Convert the configuration of a cell.

    Args:
        kind: the kind of cell.
        config: the cell's configuration, or that of a layer such as LSTM, which has the options of its cell.
        loop: the configuration of the layer that runs the cell. It is `config` for a layer such as LSTM.
        keras: the version of Keras that wrote the configuration.
        cudnn: whether the layer is a CuDNNLSTM or CuDNNGRU. Their activations cannot be chosen.

    Raises:
        UnsupportedError: jlstm does not have an option.
        KeyError: an option is missing.
        ValueError: the value of an option contradicts another part of the file, or Keras never writes it.
    """
    require_known(config, _ALLOWED[kind] | _TRAINING | (LOOP if config is loop else LAYER))
    _same_version(config, loop, keras)
    size = "filters" if kind == "ConvLSTM" else "units"
    units = config[size]
    if isinstance(units, bool) or not isinstance(units, int) or units < 1:
        raise ValueError(f"{quoted(config.get('name'))} is described with {size}={quoted(units)}, expected a whole number")
    use_bias = True if cudnn else config["use_bias"]
    # Keras 2.1 does not have `reset_after`.
    reset_after = True if cudnn else config.get("reset_after", False)
    for option, value in {"use_bias": use_bias, "reset_after": reset_after}.items():
        if not isinstance(value, bool):
            raise ValueError(f"{quoted(config.get('name'))} is described with {option}={quoted(value)}, expected true or false")
    options = {} if cudnn else _activations(kind, config, keras)
    options |= {name: config.get(name, 0.0) for name in ("dropout", "recurrent_dropout")}
    options |= {"reverse": loop.get("go_backwards", False), "time_major": loop.get("time_major", False)}
    # `unit_forget_bias` changes only the initial bias, so it has no effect on the weights of the file.
    if kind in ("LSTM", "ConvLSTM"):
        options["forget_bias"] = 1.0 if config.get("unit_forget_bias", True) else None
    if kind == "GRU":
        options["reset_after"] = reset_after
    if kind == "ConvLSTM":
        options |= _window(config)
    return Cell(kind, "", str(config.get("name", "")), units, use_bias, _dtype(config.get("dtype")), cudnn, options)


def _activations(kind: str, config: Mapping[str, Any], keras: Version) -> dict[str, Any]:
    names = ("activation",) if kind == "RNN" else ("activation", "recurrent_activation")
    return {name: _activation(name, config[name], keras) for name in names}


def _activation(option: str, value: Any, keras: Version) -> str:
    """Return the name in jlstm of an activation. That of "hard_sigmoid" depends on the version of Keras.

    Raises:
        UnsupportedError: jlstm does not have this activation.
    """
    # Keras 3 changed the slope of hard_sigmoid from 0.2 to 1/6 under the same name.
    if value == "hard_sigmoid":
        return "hard_sigmoid" if keras.major == 3 else "hard_sigmoid_0.2"
    if value is None:  # Keras's `activation=None`
        return "linear"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise UnsupportedError(
            f"it has {option}={quoted(value)}, which is not ours: load its weights with a function of your own"
        )
    return ACTIVATIONS[value]


def _window(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the convolutions of a ConvLSTM. The weights tell the size of its window.

    Raises:
        UnsupportedError: the features are not the last axis of its inputs.
    """
    if config.get("data_format") not in (None, "channels_last"):
        raise UnsupportedError(f"it has data_format={quoted(config['data_format'])}, and ours have features last")
    sizes = {"strides": config["strides"], "dilation": config["dilation_rate"]}
    axes = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    return axes | {"padding": config["padding"]}


def _same_version(config: Mapping[str, Any], loop: Mapping[str, Any], keras: Version) -> None:
    """Check that the options fit the version of Keras, because the version determines the meaning of hard_sigmoid.

    Raises:
        ValueError: a configuration of Keras 3 has an option that only Keras 2 writes, or the other way round.
    """
    # Keras 2 may write zero_output_for_mask too, but then it also writes implementation or time_major.
    older = [name for name in ("implementation", "time_major") if name in config or name in loop]
    newer = ["zero_output_for_mask"] if "zero_output_for_mask" in loop and not older else []
    for names, major in ((older, 3), (newer, 2)):
        if names and keras.major == major:
            raise ValueError(
                f"keras_version is {major}.{keras.minor}.{keras.patch}, but {quoted(loop.get('name'))} has {names[0]}, which "
                f"Keras {5 - major} writes: save the model again"
            )


def _dtype(policy: Any) -> str:
    """Return the dtype of the variables, or "" if the policy does not state it."""
    name = policy["config"].get("name") if isinstance(policy, Mapping) and isinstance(policy.get("config"), Mapping) else policy
    if not isinstance(name, str):
        return ""
    # A mixed policy computes in a smaller dtype than that of the variables, which are float32.
    return "float32" if name.startswith("mixed_") else name if name in ("float16", "bfloat16", "float32", "float64") else ""
