"""Keras's defaults for options that a weights-only file does not state. Defaults that never changed are assumed and listed.

For a default that changed, the version of Keras that the file states decides. Without a version, the option is required.
"""

from collections.abc import Mapping
from typing import Any

from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_model import options as keras_options
from jlstm.convert.keras_model import places
from jlstm.convert.keras_model.arrays import GATES
from jlstm.convert.keras_model.options import UnsupportedError

_ONLY = {
    **dict.fromkeys(("recurrent_activation",), ("LSTM", "GRU", "ConvLSTM")),
    **dict.fromkeys(("forget_bias",), ("LSTM", "ConvLSTM")),
    **dict.fromkeys(("spatial", "strides", "padding", "dilation"), ("ConvLSTM",)),
    "reset_after": ("GRU",),
}
_CLASSES = {
    "lstm": "LSTM",
    "gru": "GRU",
    "simple_rnn": "RNN",
    "cu_dnnlstm": "LSTM",
    "cu_dnngru": "GRU",
    **{f"conv_lstm{axes}d": "ConvLSTM" for axes in (1, 2, 3)},
}
_PLAIN = {"activation": "'tanh'", "reverse": "False (go_backwards)"}
_CONVOLUTION = {"strides": "1", "padding": "'valid'", "dilation": "1 (dilation_rate)"}


class Defaults:
    """Options of layers without a description.

    Args:
        content: the file.
        options: what the caller states, for all layers that have such an option.
    """

    def __init__(self, content: Content, options: Mapping[str, Any]) -> None:
        self._content, self._options = content, {name: value for name, value in options.items() if name != "merge"}
        self._merge, self._states_merge = options.get("merge", "concat"), "merge" in options
        self._assumed: dict[str, None] = {}
        self._kinds: set[str] = set()

    def merge(self, name: str) -> str | None:
        """Return how the directions of a layer are merged."""
        if not self._states_merge:
            self._assumed["merge='concat', Keras's default merge_mode"] = None
        if not self._content.numbered or "bidirectional" not in name:
            self._assumed[f"{name!r} is Bidirectional, as the names of its two directions say"] = None
        return self._merge

    def kind_of_class(self, base: str) -> str | None:
        """The kind of layer that a numbered group's name tells; None if it tells none.

        Raises:
            UnsupportedError: it is of a class that is not read.
        """
        groups = ["", *base.split("/")]
        container, last = groups[-2:]
        if any(places.number(group)[0] == "time_distributed" for group in groups):
            raise UnsupportedError("it is inside TimeDistributed: take it apart")
        name = places.number(last)[0]
        if container != "layers" or name in ("rnn", "bidirectional"):
            return None
        if name not in _CLASSES:
            raise UnsupportedError(f"its class, {name!r} in small letters, is not one of Keras's recurrent layers")
        return _CLASSES[name]

    def of(self, name: str, kind: str | None, shape: tuple[int, ...], roles: Mapping[str, str], side: int) -> dict[str, Any]:
        """Return a cell's options.

        Args:
            name: the layer's.
            kind: of the cell, if the file tells it.
            shape: of its recurrent kernel.
            roles: the names of its arrays.
            side: 0 for the forward direction, 1 for the backward one.

        Raises:
            UnsupportedError: an option has to be told.
            ValueError: the weights are of another kind.
        """
        shaped = _by_shape(shape)
        if kind is not None and shaped != kind:
            raise ValueError(f"it is in the group of {kind} layers, and its weights are of {shaped}: write the file again")
        if kind is None:
            self._assumed[f"the cells of {name!r} are Keras's own {shaped} cells, as the shapes of their weights say"] = None
        self._kinds.add(shaped)
        bias = self._content.datasets[roles["bias"]].shape if "bias" in roles else ()
        cudnn = bias == (2 * shape[-1],) and shaped in ("LSTM", "GRU")
        options = {option: value for option, value in self._options.items() if shaped in _ONLY.get(option, (shaped,))}
        if cudnn and options.keys() & {"activation", "recurrent_activation", "reset_after"}:
            raise ValueError("its weights are in cuDNN's layout, which has no choice of activations: leave these options out")
        if shaped != "RNN" and not cudnn and "recurrent_activation" not in options:
            options["recurrent_activation"] = self._gate(shaped)
        if shaped == "GRU" and not bias and "reset_after" not in options:
            raise UnsupportedError(
                "it is a GRU without bias, whose weights do not tell when it resets h, and Keras's default was changed in "
                "TensorFlow 2: pass reset_after=True or False"
            )
        if shaped == "ConvLSTM" and "spatial" not in options:
            raise UnsupportedError(
                "weights do not tell the spatial sizes of its inputs: pass them as spatial=(rows, columns), say"
            )
        unstated = (_PLAIN if not cudnn else {"reverse": _PLAIN["reverse"]}) | (_CONVOLUTION if shaped == "ConvLSTM" else {})
        for option, value in unstated.items():
            if option not in self._options:
                self._assumed[f"{option}={value}, Keras's default"] = None
        return options | {"reverse": options.get("reverse", False) != bool(side)}

    def _gate(self, kind: str) -> str:
        """The gates' function: Keras 2.3 and TensorFlow 2.0 changed it from hard_sigmoid to sigmoid, and Keras 3 for ConvLSTM."""
        version = keras_options.version(self._content.version)
        ask = "pass recurrent_activation='sigmoid' or 'hard_sigmoid_0.2'"
        if kind == "ConvLSTM":
            if version is None:
                raise UnsupportedError(
                    f"the file does not tell its version of Keras, and gates are hard_sigmoid before Keras 3: {ask}"
                )
            old = version.major < 3
        elif self._content.numbered:  # a layout that is newer than the change
            old = False
        elif version is None:
            raise UnsupportedError(
                f"the file does not tell its version of Keras, and gates were hard_sigmoid before Keras 2.3: {ask}"
            )
        elif version[:3] == (2, 2, 4) and "tf" in version.rest:  # of TensorFlow 1.13 to 2.1
            raise UnsupportedError(
                f"keras_version 2.2.4-tf is of TensorFlow 1, whose gates are hard_sigmoid, and of 2.0, whose are sigmoid: {ask}"
            )
        else:
            old = version[:2] < (2, 3)
        value = "hard_sigmoid_0.2" if old else "sigmoid"
        stated = f" in Keras {self._content.version}, which wrote the file" if version is not None else ""
        self._assumed[f"recurrent_activation={value!r}, the default of {kind} layers{stated}"] = None
        return value

    def sentences(self) -> tuple[str, ...]:
        """Return one sentence for each assumption.

        Raises:
            ValueError: an option is for a kind of layer that the file does not have.
        """
        for option in self._options:
            kinds = _ONLY.get(option, ())
            if kinds and self._kinds and not self._kinds & set(kinds):
                raise ValueError(
                    f"{option} is an option of {' and '.join(kinds)} layers, the file has {' and '.join(sorted(self._kinds))} "
                    "layers: leave it out"
                )
        return tuple(self._assumed)


def _by_shape(shape: tuple[int, ...]) -> str:
    if len(shape) in (3, 4, 5):
        return "ConvLSTM"
    units, columns = shape if len(shape) == 2 else (0, 0)
    kind = GATES.get(columns // units) if units and columns % units == 0 else None
    if kind is None:
        raise UnsupportedError(f"its recurrent kernel has shape {shape}, expected (units, gates·units) with 4, 3 or 1 gates")
    return kind
