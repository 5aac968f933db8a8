"""What all converters share: the order of gates, the way through a layer's parts, and how they are put together."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jlstm import checks
from jlstm.cell import Cell, Params
from jlstm.cells import ElmanCell, GRUCell, LSTMCell
from jlstm.cells.lstm import GATE_NAMES
from jlstm.description import features_in
from jlstm.layers import GRU, LSTM, RNN, Bidirectional, Layer, Stack, param_shapes
from jlstm.layers.bidirectional import MERGES

OURS = {"LSTM": "ifgo", "GRU": "zrg", "RNN": "h"}  # RNN: the plain recurrent network, an ElmanCell
_LOOP = {field.name for field in fields(RNN)} - {"cell"}
_DROPOUT = ("dropout", "recurrent_dropout", "recurrent_dropout_on")
_INITIAL = ("forget_bias", "kernel_init", "recurrent_init", "bias_init")


class Part(NamedTuple):
    """One direction of one layer: what runs it and its parameters, in NumPy."""

    layer: RNN
    params: dict[str, np.ndarray]


def order(columns: np.ndarray, given: str, wanted: str, axis: int = -1) -> np.ndarray:
    """Put blocks of equal size, one for each letter of `given`, into the order of `wanted`; of others, zeros.

    Examples:
        >>> order(np.array([1, 2, 3, 4]), "iofg", "ifgo").tolist()
        [1, 3, 4, 2]
    """
    blocks = dict(zip(given, np.split(columns, len(given), axis), strict=True))
    return np.concatenate([blocks.get(gate, np.zeros_like(blocks[given[0]])) for gate in wanted], axis)


def merge(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Add two biases, so that adding zeros changes no bit: -0.0 + 0.0 would be 0.0."""
    return np.where(second == 0, first, first + second)


def kind(cell: Cell) -> str:
    """Return "LSTM", "GRU" or, for an ElmanCell, "RNN"."""
    return "GRU" if isinstance(cell, GRUCell) else "RNN" if isinstance(cell, ElmanCell) else "LSTM"


def gates(name: str, coupled: str | None = None) -> str:
    """The gates that have weights, in our order."""
    return GATE_NAMES[coupled] if name == "LSTM" else OURS[name]


def rnn(name: str, units: int, params: dict[str, np.ndarray], **options: Any) -> Part:
    """The layer that parameters are for: an "LSTM", a "GRU" or a plain "RNN", with options that no array tells.

    Raises:
        ValueError: an option that it does not have, or not with such a value.
    """
    make = {"LSTM": LSTM, "GRU": GRU, "RNN": _elman}[name]
    dtype = params["recurrent_kernel"].dtype
    try:
        return Part(make(units, use_bias="bias" in params, param_dtype=dtype, **options), params)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the weights are of {name} layers, which cannot have such options ({error}): give others") from error


def _elman(units: int, **options: Any) -> RNN:
    of_loop = {option: options.pop(option) for option in options.keys() & _LOOP}
    return RNN(ElmanCell(units, **options), **of_loop)


def assemble(layers: Sequence[Sequence[Part]], merge: str | None = "concat") -> tuple[Layer, Params]:
    """A layer from parts: one or two directions of one or more layers, the lowest first."""
    checks.one_of("merge", merge, MERGES)
    return stack([_sides(*parts, merge=merge) for parts in layers])


def stack(layers: Sequence[tuple[Layer, Params]]) -> tuple[Layer, Params]:
    """One layer as it is, more as a Stack, the lowest first."""
    if len(layers) == 1:
        return layers[0]
    return Stack(tuple(layer for layer, _ in layers)), tuple(params for _, params in layers)


def _sides(forward: Part, backward: Part | None = None, *, merge: str | None) -> tuple[Layer, Params]:
    if backward is None:
        return forward
    return Bidirectional(forward.layer, merge), {"forward": forward.params, "backward": backward.params}


def parts(layer: Layer, params: Params) -> list[list[Part]]:
    """Take a layer apart: for each of a Stack's layers, the lowest first, its one or two directions.

    Raises:
        ValueError: parameters that are not the layer's, or a layer that no framework has in one piece.
    """
    checks.instance("layer", layer, Layer, "LSTM(units)")
    features = features_in(layer, params)
    remedy = f"pass what init(key, features={features}) of this layer returns"
    checks.tree("params", params, param_shapes(layer, features), remedy)
    arrays = jax.tree.map(np.asarray, params)
    if isinstance(layer, Stack):
        return [_directions(one, p) for one, p in zip(layer.layers, arrays, strict=True)]
    return [_directions(layer, arrays)]


def _directions(layer: Layer, params: Params) -> list[Part]:
    if isinstance(layer, Bidirectional) and isinstance(layer.layer, RNN):
        return [Part(layer.layer, params["forward"]), Part(layer.layer.flipped(), params["backward"])]
    if not isinstance(layer, RNN):
        raise ValueError(f"a layer must be RNN or Bidirectional of one, or a Stack of these, got {layer!r}: convert its parts")
    return [Part(layer, params)]


def refuse(framework: str, cell: Cell, *, but: Sequence[str] = (), kinds: tuple[type[Cell], ...] = (LSTMCell, GRUCell)) -> None:
    """Refuse a cell with an option that changes what is computed and that the framework does not have.

    Raises:
        ValueError: names the option.
    """
    if not isinstance(cell, kinds):
        raise ValueError(f"{framework} has no {type(cell).__name__}, got {cell!r}: use {' or '.join(k.__name__ for k in kinds)}")
    for field in fields(cast(Any, cell)):
        if field.name in ("units", "use_bias", *_DROPOUT, *_INITIAL, *but):
            continue
        value, plain = getattr(cell, field.name), field.default
        if field.name == "output_activation":  # None stands for `activation`
            value, plain = cast(Any, cell).output_function, cast(Any, cell).activation
        if value != plain:
            raise ValueError(f"{framework} has no {field.name}={value!r}, only {plain!r}: leave the option out")


def uniform(framework: str, layers: Sequence[Sequence[Part]]) -> None:
    """Refuse layers that differ in kind, size, bias or directions where a framework has one setting for all of them."""

    def setting(part: Part) -> tuple[Any, ...]:
        cell: Any = part.layer.cell
        return kind(cell), cell.units, cell.features_out, cell.use_bias

    if len({setting(part) for _, _, part in each(layers)}) > 1 or len({len(sides) for sides in layers}) > 1:
        raise ValueError(f"{framework} has layers of one kind, size, bias and number of directions: convert them one by one")


def concatenated(framework: str, layer: Layer) -> None:
    """Refuse two directions that are merged in another way."""
    for one in layer.layers if isinstance(layer, Stack) else (layer,):
        if isinstance(one, Bidirectional) and one.merge != "concat":
            raise ValueError(f"{framework} has no merge={one.merge!r}, only 'concat': convert both directions one by one")


def only(framework: str, layer: Layer, params: Params) -> Part:
    """The one part of a layer for a framework that has single cells.

    Raises:
        ValueError: there are more, or it runs backwards.
    """
    sides = parts(layer, params)
    if len(sides) > 1 or len(sides[0]) > 1:
        raise ValueError(f"{framework} has single cells, got {layer!r}: convert its layers and directions one by one")
    return sides[0][0]


def each(layers: Sequence[Sequence[Part]]) -> Iterator[tuple[int, int, Part]]:
    """All parts with the number of their layer and direction."""
    for k, sides in enumerate(layers):
        for d, part in enumerate(sides):
            yield k, d, part
