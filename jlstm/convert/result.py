"""What `read` returns: the recurrent layers of a file, and what it has to say about the rest of the file."""

import os
import warnings
from collections.abc import Iterable, Mapping

from jlstm import checks
from jlstm.cell import Params
from jlstm.layers import Layer


class FileLayers(dict[str, tuple[Layer, Params]]):
    """The recurrent layers of a file, `(layer, params)` by name. It is a dict that also tells what is not in it.

    A recurrent layer is either converted exactly or skipped. `read` warns about skipped layers, and refuses a file of which
    it can convert none.

    Attributes:
        in_network_order: whether the layers stand in the order in which the network runs them. False where the file does not
            tell that order; they then stand in the file's order, or sorted by name where the file has none.
        skipped: recurrent layers that were not converted, by name, with the reason in one sentence.
        assumed: one sentence for each thing that the file does not state and that was assumed.
        unused: the names of the file's other arrays, such as those of an embedding.

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
    ) -> None:
        checks.mapping("layers", layers, "{'lstm': (layer, params)}", lambda entry: isinstance(entry, tuple) and len(entry) == 2)
        checks.flag("in_network_order", in_network_order)
        skipped = {} if skipped is None else skipped
        checks.mapping("skipped", skipped, "{'rnn': 'it has a layer norm'}", lambda reason: isinstance(reason, str))
        super().__init__(layers)
        self.in_network_order = in_network_order
        self.skipped = dict(skipped)
        self.assumed, self.unused = (
            tuple(checks.text(f"each of {name}", entry) for entry in checks.several(name, entries, "['embedding']"))
            for name, entries in {"assumed": assumed, "unused": unused}.items()
        )

    def __missing__(self, name: str) -> tuple[Layer, Params]:
        if name in self.skipped:
            raise KeyError(f"{name!r} was not converted: {self.skipped[name]}")
        raise KeyError(name)

    def checked(self, path: str | os.PathLike[str], kinds: str, remedy: str) -> "FileLayers":
        """Return this result, after a warning for each skipped layer.

        Args:
            path: the file, for the messages.
            kinds: what the file has none of if it has no layers, such as "LSTM, GRU or RNN layer".
            remedy: what to do about that.

        Raises:
            ValueError: no layer was converted. The sentence names the skipped ones, so that it never says "has no …" of
                something that is there.
        """
        name = os.fspath(path)
        if not self and not self.skipped:
            raise ValueError(f"{name} has no {kinds}: {remedy}")
        if not self:
            (first, reason), *others = self.skipped.items()
            also = f"; nor can {', '.join(repr(layer) for layer, _ in others[:2])}" if others else ""
            more = f" and {len(others) - 2} more" if len(others) > 2 else ""
            raise ValueError(f"{name} has no layer that can be converted: {first!r}: {reason}{also}{more}")
        for layer, reason in self.skipped.items():
            warnings.warn(f"{name}: {layer!r} is not converted: {reason}", UserWarning, stacklevel=3)
        return self
