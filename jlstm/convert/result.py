"""The result of `read`: the recurrent layers of a file, and notes on the parts of the file that were not converted."""

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jlstm._src import checks
from jlstm.cell import Params
from jlstm.layers import Layer


@dataclass(frozen=True)
class OtherLayer:
    """A layer of a file that is not recurrent, such as an embedding.

    Attributes:
        kind: its class in the framework, such as "Dense"; "" if the file does not tell it.
        arrays: its arrays by what they are to it, such as "kernel" and "bias"; by number if the file does not tell that.
        options: its options, by their names in the framework; {} if the file does not tell them.
    """

    kind: str
    arrays: Mapping[str, np.ndarray] = field(compare=False)
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        checks.instance("kind", self.kind, str, "'Dense'")
        checks.mapping("arrays", self.arrays, "{'kernel': array}")
        checks.arrays("arrays", dict(self.arrays))
        checks.mapping("options", self.options, "{'units': 4}")


class FileLayers(dict[str, tuple[Layer, Params]]):
    """A dict of the recurrent layers of a file, `(layer, params)` by name, with notes on the rest of the file.

    A recurrent layer is either converted exactly or skipped. `read` warns about skipped layers. It refuses a file if it can
    convert none of its layers.

    Attributes:
        in_network_order: whether the layers are in the order in which the network runs them. It is False if the file does not
            state that order. The layers are then in the file's order, or sorted by name if the file has no order.
        skipped: recurrent layers that were not converted, by name, each with the reason in one sentence.
        assumed: one sentence for each assumption about something that the file does not state.
        unused: the names of the file's other arrays, such as those of an embedding.
        other_layers: the layers that these arrays belong to, if `read` was asked for them: what they are, with their arrays.

    Examples:
        >>> layers = FileLayers({}, skipped={"rnn": "it has weights of a layer normalization"})
        >>> layers["rnn"]
        Traceback (most recent call last):
        KeyError: "'rnn' was not converted: it has weights of a layer normalization"
    """

    def __init__(
        self,
        layers: Mapping[str, tuple[Layer, Params]],
        *,
        in_network_order: bool = False,
        skipped: Mapping[str, str] | None = None,
        assumed: Iterable[str] = (),
        unused: Iterable[str] = (),
        other_layers: Mapping[str, OtherLayer] | None = None,
    ) -> None:
        checks.mapping("layers", layers, "{'lstm': (layer, params)}", lambda entry: isinstance(entry, tuple) and len(entry) == 2)
        checks.flag("in_network_order", in_network_order)
        skipped = {} if skipped is None else skipped
        checks.mapping("skipped", skipped, "{'rnn': 'it has a layer norm'}", lambda reason: isinstance(reason, str))
        other_layers = {} if other_layers is None else other_layers
        checks.mapping("other_layers", other_layers, "{'head': OtherLayer(…)}", lambda layer: isinstance(layer, OtherLayer))
        super().__init__(layers)
        self.in_network_order = in_network_order
        self.skipped, self.other_layers = dict(skipped), dict(other_layers)
        self.assumed, self.unused = (
            tuple(checks.text(f"each of {name}", entry) for entry in checks.several(name, entries, "['embedding']"))
            for name, entries in {"assumed": assumed, "unused": unused}.items()
        )

    def __missing__(self, name: str) -> tuple[Layer, Params]:
        if name in self.skipped:
            raise KeyError(f"{name!r} was not converted: {self.skipped[name]}")
        raise KeyError(name)

    def warn_about_skipped(self, path: str | os.PathLike[str], kinds: str, remedy: str) -> "FileLayers":
        """Warn about each skipped layer, and return this result, which must have a layer.

        Only the `read` of a converter calls this, and calls it directly: the warnings then point to the line of the user's code
        that called `read`.

        Args:
            path: the file, for the messages.
            kinds: the kinds of layers that are read, such as "LSTM, GRU or RNN layer", for the message on a file without any.
            remedy: what to do with such a file, for the same message.

        Raises:
            ValueError: no layer was converted. If layers were skipped, the message has the name of the first one and the reason,
                the names of at most two more, and the number of the rest. If none was skipped, it states that the file has no
                `kinds`, and the `remedy`.
        """
        name = os.fspath(path)
        if not self and not self.skipped:
            raise ValueError(f"{name} has no {kinds}: {remedy}")
        if not self:
            (first, reason), *remaining = self.skipped.items()
            also = f"; nor can {', '.join(repr(layer) for layer, _ in remaining[:2])}" if remaining else ""
            also += f" and {len(remaining) - 2} more" if len(remaining) > 2 else ""
            raise ValueError(f"{name} has no layer that can be converted: {first!r}: {reason}{also}")
        for layer, reason in self.skipped.items():
            # Level 1 is this line, 2 is `read`, and 3 the caller of `read`.
            warnings.warn(f"{name}: {layer!r} is not converted: {reason}", UserWarning, stacklevel=3)
        return self
