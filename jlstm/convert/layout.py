"""Helpers that all converters share: reorder gates, take a layer apart into its directions, and build a layer from them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jlstm._src import checks
from jlstm.cell import Cell, Params
from jlstm.cells import ElmanCell, GRUCell, LSTMCell
from jlstm.cells.lstm import GATE_NAMES
from jlstm.layers import GRU, LSTM, RNN, Bidirectional, Layer, Stack, param_shapes
from jlstm.layers.bidirectional import MERGES
from jlstm.layers.shapes import features_in

OURS = {"LSTM": "ifgo", "GRU": "zrg", "RNN": "h"}  # RNN: the plain recurrent network, an ElmanCell
_LOOP = {field.name for field in fields(RNN)} - {"cell"}
_DROPOUT = ("dropout", "recurrent_dropout", "recurrent_dropout_on")
_INITIAL = ("forget_bias", "kernel_init", "recurrent_init", "bias_init")


class Part(NamedTuple):
    """One direction of one layer: its RNN and its parameters as NumPy arrays."""

    layer: RNN
    params: dict[str, np.ndarray]


def order(columns: Any, names: str, new_names: str, axis: int = -1) -> Any:
    """Return the gates' blocks of an array in another order.

    Args:
        columns: an array with one block of equal size per gate along `axis`: a NumPy array, or a JAX array, which may be traced.
        names: the gates of `columns`, one letter each.
        new_names: the gates of the result. The block of a gate that is not in `names` is zero.
        axis: the axis of the gates.

    Examples:
        >>> order(np.array([1, 2, 3, 4]), "iofg", "ifgo").tolist()
        [1, 3, 4, 2]
    """
    numpy = columns.__array_namespace__()
    blocks = dict(zip(names, numpy.split(columns, len(names), axis), strict=True))
    return numpy.concatenate([blocks.get(gate, numpy.zeros_like(blocks[names[0]])) for gate in new_names], axis)


def concatenate(blocks: Sequence[Any], axis: int = -1) -> Any:
    """Return one array made of several NumPy arrays, or of several JAX arrays, which may be traced."""
    return blocks[0].__array_namespace__().concatenate(blocks, axis)


def add_biases(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the sum of two biases. Where `second` is zero, `first` stays as it is, to the bit: -0.0 + 0.0 would be 0.0."""
    return np.where(second == 0, first, first + second)


def kind_of(cell: Cell) -> str:
    """Return "LSTM", "GRU" or, for an ElmanCell, "RNN". Call `refuse` first: any other cell would be called an "LSTM" here."""
    return "GRU" if isinstance(cell, GRUCell) else "RNN" if isinstance(cell, ElmanCell) else "LSTM"


def gates(kind: str, coupled: str | None = None) -> str:
    """Return the gates that have weights, one letter each, in the order of jlstm.

    Args:
        kind: "LSTM", "GRU" or "RNN".
        coupled: the option `coupled` of an LSTM, in which one gate serves as i and f and the other has no weights.

    Examples:
        >>> gates("LSTM"), gates("LSTM", coupled="f=1-i")
        ('ifgo', 'igo')
    """
    return GATE_NAMES[coupled] if kind == "LSTM" else OURS[kind]


def rnn(kind: str, units: int, params: dict[str, np.ndarray], **options: Any) -> Part:
    """Return an RNN of the named kind of cell, together with its parameters.

    Args:
        kind: "LSTM", "GRU" or "RNN".
        units: the number of units.
        params: the parameters, which determine `use_bias` and the dtype.
        **options: other options of the layer, which the arrays do not determine.

    Raises:
        ValueError: the layer does not have such an option, or the option does not allow this value.
    """
    makers: dict[str, Callable[..., RNN]] = {"LSTM": LSTM, "GRU": GRU, "RNN": _elman}
    dtype = params["recurrent_kernel"].dtype
    try:
        return Part(makers[kind](units, use_bias="bias" in params, param_dtype=dtype, **options), params)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the weights are of {kind} layers, which cannot have such options ({error}): give others") from error


def _elman(units: int, **options: Any) -> RNN:
    of_loop = {option: options.pop(option) for option in options.keys() & _LOOP}
    return RNN(ElmanCell(units, **options), **of_loop)


def assemble(layers: Sequence[Sequence[Part]], merge: str | None = "concat") -> tuple[Layer, Params]:
    """Return the layer and parameters made of one or more layers, the lowest first, with one or two directions each.

    Args:
        layers: the one or two directions of each layer, forward before backward.
        merge: how the outputs of two directions are merged.

    Raises:
        ValueError: `merge` is unknown, or is None although there is a layer above that would get two sequences.
    """
    checks.one_of("merge", merge, MERGES)
    return stack([_sides(*parts, merge=merge) for parts in layers])


def stack(layers: Sequence[tuple[Layer, Params]]) -> tuple[Layer, Params]:
    """Return a single layer unchanged, and several layers as a Stack, the lowest first."""
    if len(layers) == 1:
        return layers[0]
    return Stack(tuple(layer for layer, _ in layers)), tuple(params for _, params in layers)


def _sides(forward: Part, backward: Part | None = None, *, merge: str | None) -> tuple[Layer, Params]:
    if backward is None:
        return forward
    return Bidirectional(forward.layer, merge), {"forward": forward.params, "backward": backward.params}


def parts(layer: Layer, params: Params) -> list[list[Part]]:
    """Return the one or two directions of each layer of a Stack, the lowest layer first.

    Raises:
        ValueError: `params` do not fit the layer, or a layer is neither an RNN nor a Bidirectional of one.
    """
    checks.instance("layer", layer, Layer, "LSTM(units)")
    features = features_in(layer, params)
    remedy = f"pass what init(key, features={features}) of this layer returns"
    checks.tree("params", params, param_shapes(layer, features), remedy)
    arrays = jax.tree.map(np.asarray, params)
    if isinstance(layer, Stack):
        return [_directions(child, arrays[key]) for key, child in layer.children.items()]
    return [_directions(layer, arrays)]


def _directions(layer: Layer, params: Params) -> list[Part]:
    directions = layer.map(Part, params)
    sides = list(directions.values()) if isinstance(layer, Bidirectional) else [directions]
    if not all(isinstance(part, Part) and isinstance(part.layer, RNN) for part in sides):
        raise ValueError(f"a layer must be RNN or Bidirectional of one, or a Stack of these, got {layer!r}: convert its parts")
    return sides


def refuse(framework: str, cell: Cell, *, but: Sequence[str] = (), kinds: tuple[type[Cell], ...] = (LSTMCell, GRUCell)) -> None:
    """Require that the framework has each option of a cell, if it changes the result and differs from its default.

    Options of training, such as dropout and initializers, are ignored.

    Args:
        framework: the name of the framework, for error messages.
        cell: the cell.
        but: the options that the framework does have.
        kinds: the cells that the framework has.

    Raises:
        ValueError: the cell has such an option, or is not one of `kinds`.
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
    """Require that layers agree in kind, size, bias and directions, for a framework with one setting for all layers.

    Raises:
        ValueError: they differ.
    """

    def setting(part: Part) -> tuple[Any, ...]:
        cell: Any = part.layer.cell
        return kind_of(cell), cell.units, cell.features_out, cell.use_bias

    if len({setting(part) for _, _, part in numbered(layers)}) > 1 or len({len(sides) for sides in layers}) > 1:
        raise ValueError(f"{framework} has layers of one kind, size, bias and number of directions: convert them one by one")


def concatenated(framework: str, layer: Layer) -> None:
    """Require that a layer, and each layer of a Stack, concatenates the outputs of its two directions, if it has two.

    Raises:
        ValueError: one has another `merge`.
    """
    for part in (layer, *layer.children.values()):
        if (merge := getattr(part, "merge", "concat")) != "concat":
            raise ValueError(f"{framework} has no merge={merge!r}, only 'concat': convert both directions one by one")


def only(framework: str, layer: Layer, params: Params) -> Part:
    """Return the only direction of a single layer, for a framework that has single cells.

    Raises:
        ValueError: there is more than one layer or direction, or `params` do not fit the layer.
    """
    sides = parts(layer, params)
    if len(sides) > 1 or len(sides[0]) > 1:
        raise ValueError(f"{framework} has single cells, got {layer!r}: convert its layers and directions one by one")
    return sides[0][0]


def numbered(layers: Sequence[Sequence[Part]]) -> Iterator[tuple[int, int, Part]]:
    """Yield each part with the numbers of its layer and its direction."""
    for k, sides in enumerate(layers):
        for d, part in enumerate(sides):
            yield k, d, part
