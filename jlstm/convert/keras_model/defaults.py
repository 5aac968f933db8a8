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

_KINDS_OF_OPTION = {  # the kinds of layers that have an option; all kinds have those that are not listed
    **dict.fromkeys(("recurrent_activation",), ("LSTM", "GRU", "ConvLSTM")),
    **dict.fromkeys(("forget_bias",), ("LSTM", "ConvLSTM")),
    **dict.fromkeys(("spatial", "strides", "padding", "dilation"), ("ConvLSTM",)),
    "reset_after": ("GRU",),
}
_KINDS_OF_GROUP = {  # the kind of layer by the name of its group in a numbered file, which is its class in snake case
    "lstm": "LSTM",
    "gru": "GRU",
    "simple_rnn": "RNN",
    "cu_dnnlstm": "LSTM",
    "cu_dnngru": "GRU",
    **{f"conv_lstm{axes}d": "ConvLSTM" for axes in (1, 2, 3)},
}
_UNCHANGED = {"activation": "'tanh'", "reverse": "False (go_backwards)"}
_CONV_DEFAULTS = {"strides": "1", "padding": "'valid'", "dilation": "1 (dilation_rate)"}


class Defaults:
    """Provides the options of the layers in a weights-only file, and records every default that it assumes.

    Args:
        content: the contents of the file.
        options: options from the caller, for all layers that have them.
    """

    def __init__(self, content: Content, options: Mapping[str, Any]) -> None:
        self._content, self._options = content, {name: value for name, value in options.items() if name != "merge"}
        self._merge, self._states_merge = options.get("merge", "concat"), "merge" in options
        self._assumed: dict[str, None] = {}  # an ordered set of sentences
        self._kinds: set[str] = set()

    def merge(self, name: str) -> str | None:
        """Return how the directions of a layer are merged, and record what is assumed.

        Args:
            name: the layer's name, for the sentence on the assumption.
        """
        if not self._states_merge:
            self._assumed["merge='concat', Keras's default merge_mode"] = None
        if not self._content.numbered or "bidirectional" not in name:
            self._assumed[f"{name!r} is Bidirectional, as the names of its two directions say"] = None
        return self._merge

    def kind_of_class(self, layer_group: str) -> str | None:
        """Return the kind of layer, such as "LSTM", that the name of its group in a numbered file states.

        Args:
            layer_group: the layer's group. That of "layers/lstm_1" states its class. That of an attribute of a user's class, such
                as "encoder/rnn", does not, nor do "layers/rnn" and "layers/bidirectional".

        Returns:
            "LSTM", "GRU", "RNN" or "ConvLSTM", or None if the name does not state it.

        Raises:
            UnsupportedError: the layer is of a class that is not read, or is inside TimeDistributed.
        """
        groups = ["", *layer_group.split("/")]
        container, last = groups[-2:]
        if any(places.split_number(group)[0] == "time_distributed" for group in groups):
            raise UnsupportedError("it is inside TimeDistributed: take it apart")
        name = places.split_number(last)[0]
        # Outside a list of layers, a group has the name of an attribute. RNN and Bidirectional do not state the kind of a cell.
        if container != "layers" or name in ("rnn", "bidirectional"):
            return None
        if name not in _KINDS_OF_GROUP:
            raise UnsupportedError(f"its class, {name!r} in small letters, is not one of Keras's recurrent layers")
        return _KINDS_OF_GROUP[name]

    def cell_options(
        self, name: str, kind: str | None, shape: tuple[int, ...], roles: Mapping[str, str], side: int
    ) -> dict[str, Any]:
        """Return the options of a cell: those of the caller that its kind has, and the default of `recurrent_activation`.

        All assumed defaults are recorded, and so is a kind that the file does not state.

        Args:
            name: the layer's name.
            kind: the kind of the cell, or None if the file does not state it.
            shape: the shape of the cell's recurrent kernel.
            roles: the names of the cell's arrays by role.
            side: 0 for the forward direction, 1 for the backward one.

        Raises:
            UnsupportedError: the caller has to pass an option.
            ValueError: the weights are of another kind than the file states, or an option does not fit them.
        """
        shape_kind = _kind_of_shape(shape)
        if kind is not None and shape_kind != kind:
            raise ValueError(f"it is in the group of {kind} layers, and its weights are of {shape_kind}: write the file again")
        if kind is None:
            self._assumed[f"the cells of {name!r} are Keras's own {shape_kind} cells, as the shapes of their weights say"] = None
        self._kinds.add(shape_kind)
        bias = self._content.datasets[roles["bias"]].shape if "bias" in roles else ()
        cudnn = bias == (2 * shape[-1],) and shape_kind in ("LSTM", "GRU")
        options = {
            option: value for option, value in self._options.items() if shape_kind in _KINDS_OF_OPTION.get(option, (shape_kind,))
        }
        if cudnn and options.keys() & {"activation", "recurrent_activation", "reset_after"}:
            raise ValueError("its weights are in cuDNN's layout, which has no choice of activations: leave these options out")
        if shape_kind != "RNN" and not cudnn and "recurrent_activation" not in options:
            options["recurrent_activation"] = self._gate(shape_kind)
        if shape_kind == "GRU" and not bias and "reset_after" not in options:
            raise UnsupportedError(
                "it is a GRU without bias, whose weights do not tell when it resets h, and Keras's default was changed in "
                "TensorFlow 2: pass reset_after=True or False"
            )
        if shape_kind == "ConvLSTM" and "spatial" not in options:
            raise UnsupportedError(
                "weights do not tell the spatial sizes of its inputs: pass them as spatial=(rows, columns), say"
            )
        unstated = (_UNCHANGED if not cudnn else {"reverse": _UNCHANGED["reverse"]}) | (
            _CONV_DEFAULTS if shape_kind == "ConvLSTM" else {}
        )
        for option, value in unstated.items():
            if option not in self._options:
                self._assumed[f"{option}={value}, Keras's default"] = None
        return options | {"reverse": options.get("reverse", False) != bool(side)}

    def _gate(self, kind: str) -> str:
        """Return the default `recurrent_activation` of the version of Keras that wrote the file, and record that it is assumed.

        Keras 2.3 and TensorFlow 2.0 changed it from hard_sigmoid to sigmoid, and Keras 3 changed it for ConvLSTM. This is the
        hard_sigmoid of Keras 2, with the slope 0.2: no layer of Keras 3 has a hard_sigmoid by default.

        Args:
            kind: "LSTM", "GRU" or "ConvLSTM".

        Raises:
            UnsupportedError: the version of Keras does not tell the default.
        """
        version = keras_options.version(self._content.version)
        ask = "pass recurrent_activation='sigmoid' or 'hard_sigmoid_0.2'"
        if kind == "ConvLSTM":
            if version is None:
                raise UnsupportedError(
                    f"the file does not tell its version of Keras, and gates are hard_sigmoid before Keras 3: {ask}"
                )
            is_older = version.major < 3
        elif self._content.numbered:  # versions of Keras that write numbered files are newer than the change
            is_older = False
        elif version is None:
            raise UnsupportedError(
                f"the file does not tell its version of Keras, and gates were hard_sigmoid before Keras 2.3: {ask}"
            )
        elif version[:3] == (2, 2, 4) and "tf" in version.suffix:  # TensorFlow 1.13 to 2.1 state this version
            raise UnsupportedError(
                f"keras_version 2.2.4-tf is of TensorFlow 1, whose gates are hard_sigmoid, and of 2.0, whose are sigmoid: {ask}"
            )
        else:
            is_older = version[:2] < (2, 3)
        value = "hard_sigmoid_0.2" if is_older else "sigmoid"
        stated = f" in Keras {self._content.version}, which wrote the file" if version is not None else ""
        self._assumed[f"recurrent_activation={value!r}, the default of {kind} layers{stated}"] = None
        return value

    def sentences(self) -> tuple[str, ...]:
        """Return one sentence for each assumption. Call it after all layers were converted.

        Raises:
            ValueError: an option is for a kind of layer that the file does not have.
        """
        for option in self._options:
            kinds = _KINDS_OF_OPTION.get(option, ())
            if kinds and self._kinds and not self._kinds & set(kinds):
                raise ValueError(
                    f"{option} is an option of {' and '.join(kinds)} layers, the file has {' and '.join(sorted(self._kinds))} "
                    "layers: leave it out"
                )
        return tuple(self._assumed)


def _kind_of_shape(shape: tuple[int, ...]) -> str:
    """Return the kind of cell whose recurrent kernel has this shape.

    Raises:
        UnsupportedError: no kind of cell has such a kernel.
    """
    if len(shape) in (3, 4, 5):
        return "ConvLSTM"
    units, columns = shape if len(shape) == 2 else (0, 0)
    kind = GATES.get(columns // units) if units and columns % units == 0 else None
    if kind is None:
        raise UnsupportedError(f"its recurrent kernel has shape {shape}, expected (units, gates·units) with 4, 3 or 1 gates")
    return kind
