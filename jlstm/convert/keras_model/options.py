"""Conversion of the options in the configuration of Keras's recurrent layers and cells to those of jlstm.

An option that is not listed here could change what is computed: a layer that has one is not converted.
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

_TRAINING = {
    f"{array}_{use}" for array in ("kernel", "recurrent", "bias") for use in ("initializer", "regularizer", "constraint")
}
_LAYER = {"name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape", "input_dim", "input_length", "seed"}
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
LOOP = _LAYER | _RUN
STACKED = _LAYER | {"cells", "reverse_state_order"}
WRAPPER = _LAYER | {"layer", "backward_layer", "merge_mode"}
_VERSION = re.compile(r"([123])\.(\d+)(?:\.(\d+))?([.\w+-]*)")


class UnsupportedError(ValueError):
    """Why a recurrent layer is not converted, in a clause that begins with a verb's subject: "it has …"."""


class Version(NamedTuple):
    """A version of Keras, such as 2.2.4-tf."""

    major: int
    minor: int
    patch: int
    rest: str


def version(text: str | None) -> Version | None:
    """Return a version that can be read, 1 to 3, or None."""
    match = _VERSION.fullmatch(text or "")
    return None if match is None else Version(int(match[1]), int(match[2]), int(match[3] or 0), match[4])


def quoted(value: Any) -> str:
    """Return a value in quotes for a message, cut to 60 characters."""
    text = str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


class Cell(NamedTuple):
    """A cell as a description gives it.

    Args:
        kind: "LSTM", "GRU", "RNN" or "ConvLSTM".
        number: the name of its group in new files, and
        name: its own name.
        units: the size of h.
        use_bias: whether it has a bias.
        dtype: of its variables; "" if that is not told.
        cudnn: whether its weights are in the layout of cuDNN.
        options: under our names.
    """

    kind: str
    number: str
    name: str
    units: int
    use_bias: bool
    dtype: str
    cudnn: bool
    options: dict[str, Any]


def only(config: Mapping[str, Any], allowed: set[str]) -> None:
    """Check that a configuration sets no unknown option.

    Raises:
        UnsupportedError: an unknown option is set.
    """
    unknown = sorted(name for name, value in config.items() if name not in allowed and value is not None)
    if unknown:
        raise UnsupportedError(f"it has the option {quoted(unknown[0])}={quoted(config[unknown[0]])}, which is not known here")


def cell(kind: str, config: Mapping[str, Any], loop: Mapping[str, Any], keras: Version, *, cudnn: bool = False) -> Cell:
    """Return a cell's options.

    Args:
        kind: of the cell.
        config: its description, or that of a layer which has the cell's options itself.
        loop: the description of the layer that runs it; may be `config`.
        keras: the version that wrote the description.
        cudnn: whether it is CuDNNLSTM or CuDNNGRU, which have no choice of activations.

    Raises:
        UnsupportedError: an option that we do not have.
        KeyError: an option is missing.
        ValueError: an option's value contradicts another part of the file, or is none that Keras writes.
    """
    only(config, _ALLOWED[kind] | _TRAINING | (LOOP if config is loop else _LAYER))
    _same_version(config, loop, keras)
    size = "filters" if kind == "ConvLSTM" else "units"
    units = config[size]
    if isinstance(units, bool) or not isinstance(units, int) or units < 1:
        raise ValueError(f"{quoted(config.get('name'))} is described with {size}={quoted(units)}, expected a whole number")
    use_bias = True if cudnn else config["use_bias"]
    if not isinstance(use_bias, bool):
        raise ValueError(f"{quoted(config.get('name'))} is described with use_bias={quoted(use_bias)}, expected true or false")
    options = {} if cudnn else _activations(kind, config, keras)
    options |= {name: config.get(name, 0.0) for name in ("dropout", "recurrent_dropout")}
    options |= {"reverse": loop.get("go_backwards", False), "time_major": loop.get("time_major", False)}
    if kind in ("LSTM", "ConvLSTM"):
        options["forget_bias"] = 1.0 if config.get("unit_forget_bias", True) else None
    if kind == "GRU":
        options["reset_after"] = True if cudnn else config.get("reset_after", False)  # Keras 2.1 had no such option
    if kind == "ConvLSTM":
        options |= _window(config)
    return Cell(kind, "", str(config.get("name", "")), units, use_bias, _dtype(config.get("dtype")), cudnn, options)


def _activations(kind: str, config: Mapping[str, Any], keras: Version) -> dict[str, Any]:
    names = ("activation",) if kind == "RNN" else ("activation", "recurrent_activation")
    return {name: _activation(name, config[name], keras) for name in names}


def _activation(option: str, value: Any, keras: Version) -> str:
    if value == "hard_sigmoid":
        return "hard_sigmoid" if keras.major == 3 else "hard_sigmoid_0.2"
    if value is None:
        return "linear"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise UnsupportedError(
            f"it has {option}={quoted(value)}, which is not ours: load its weights with a function of your own"
        )
    return ACTIVATIONS[value]


def _window(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("data_format") not in (None, "channels_last"):
        raise UnsupportedError(f"it has data_format={quoted(config['data_format'])}, and ours have features last")
    sizes = {"strides": config["strides"], "dilation": config["dilation_rate"]}
    axes = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    return axes | {"padding": config["padding"]}


def _same_version(config: Mapping[str, Any], loop: Mapping[str, Any], keras: Version) -> None:
    """Require that options which only one of Keras 2 and 3 writes agree with the version, which says what hard_sigmoid means."""
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
    return "float32" if name.startswith("mixed_") else name if name in ("float16", "bfloat16", "float32", "float64") else ""
