"""The result of reading a Keras file while it is built, and checks that all readers of Keras files share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jlstm.cell import Params
from jlstm.convert import layout
from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_model import arrays, legacy, places
from jlstm.convert.keras_model.options import Cell, UnsupportedError, quoted
from jlstm.convert.keras_model.places import Place
from jlstm.convert.result import FileLayers
from jlstm.layers import Layer

Converted = tuple[Layer, Params]


class Result:
    """Layers by name, converted or skipped, and the arrays that they take.

    Args:
        path: the file, for messages.
        content: its arrays.
    """

    def __init__(self, path: Path, content: Content) -> None:
        self.path, self.content = path, content
        self.converted: dict[str, Converted] = {}
        self.skipped: dict[str, str] = {}
        self.assumed: tuple[str, ...] = ()
        self.in_network_order = False
        self.used: set[str] = set()

    def convert(self, name: str, make: Callable[[], Converted]) -> None:
        """Convert a layer, or skip it with the reason.

        Raises:
            ValueError: its weights or its description contradict each other.
        """
        try:
            self.converted[name] = make()
        except UnsupportedError as error:
            self.skipped[name] = str(error)
        except ValueError as error:
            raise ValueError(f"{self.path}: {quoted(name)}: {error}") from error

    def listed(self, layer: str) -> list[str]:
        """The arrays of a layer in an old file, in the order in which Keras lists them.

        Raises:
            ValueError: an array is listed that is not there.
        """
        try:
            return legacy.weights_of(self.content, layer)
        except ValueError as error:
            raise ValueError(f"{self.path}: {quoted(layer)}: {error}") from error

    def part(self, roles: Mapping[str, str], options: Mapping[str, Any], cell: Cell | None = None) -> layout.Part:
        """Convert one cell of a layer.

        Args:
            roles: the names of its arrays by role.
            options: of the cell.
            cell: its description, if the file has one.

        Raises:
            ValueError: an array is missing, damaged, or not what the description says.
        """
        require_kernels(roles)
        weights = {role: self.content.array(roles[role]) for role in arrays.ROLES if role in roles}
        if cell is not None:
            _same(cell, weights)
        return arrays.part(weights, options)

    def layers(self) -> FileLayers:
        """Return the result. Recurrent cells that no layer uses are listed as skipped, under the names of their groups."""
        for group, names in places.recurrent_groups(self.content).items():
            if self.used.isdisjoint(names):
                base = group.removesuffix("/vars").removesuffix("/cell") or group
                reason = "it has the weights of a recurrent cell, but is no layer of Keras whose options are told"
                self.skipped.setdefault(base, reason)
                self.in_network_order = False
                self.used.update(names)
        return FileLayers(
            self.converted,
            in_network_order=self.in_network_order,
            skipped=self.skipped,
            assumed=self.assumed,
            unused=[name for name in self.content.datasets if name not in self.used],
        )


def require_kernels(roles: Mapping[str, str]) -> None:
    """Check that a cell has both kernels."""
    missing = [role for role in arrays.ROLES[:2] if role not in roles]
    if missing:
        raise ValueError(f"it has no {missing[0]}, which every recurrent layer has: write or download the file again")


def require_whole(place: Place, told: str, directions: int, extra_error: type[ValueError] = ValueError) -> None:
    """Refuse a layer of which arrays are missing or left over.

    Args:
        place: its arrays.
        told: where the number of directions comes from, for the message.
        directions: how many it has.
        extra_error: for arrays that no cell of Keras has: they contradict a description, or tell of a layer that is not read.
    """
    if place.obstacle:
        raise ValueError(f"it {place.obstacle}: save the model again")
    if not place.sides:
        raise ValueError("it has no weights in the file: write or download it again")
    if len(place.sides) != directions:
        raise ValueError(f"it has weights of {len(place.sides)} directions and {told}: write or download the file again")
    if place.extra:
        array = repr(place.extra[0][-80:])
        raise extra_error(f"it has the array {array} besides kernel, recurrent_kernel and bias, which no layer of Keras has")


def _same(cell: Cell, weights: Mapping[str, Any]) -> None:
    """Check that the weights match the configuration of the cell."""
    recurrent, bias = weights["recurrent_kernel"], weights.get("bias")
    kind = arrays.kind(recurrent)
    if kind != cell.kind:
        raise ValueError(f"it is described as {cell.kind}, and its weights are of {kind}: save the model again")
    if recurrent.shape[-2] != cell.units:
        raise ValueError(f"it is described with units={cell.units}, and its weights have {recurrent.shape[-2]}: save it again")
    if (bias is not None) != cell.use_bias:
        held = "no bias" if bias is None else "a bias"
        raise ValueError(f"it is described with use_bias={cell.use_bias}, and its weights have {held}: save the model again")
    if cell.dtype and recurrent.dtype.name != cell.dtype:
        raise ValueError(f"it is described with dtype {cell.dtype}, and its weights are {recurrent.dtype.name}: save it again")
    if bias is not None and cell.kind in ("LSTM", "GRU") and (bias.shape == (2 * recurrent.shape[1],)) != cell.cudnn:
        of_cudnn = "in cuDNN's layout" if not cell.cudnn else "not in cuDNN's layout"
        raise ValueError(f"its weights are {of_cudnn}, unlike those of the class that is described: save the model again")
