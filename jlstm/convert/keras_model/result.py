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

LayerAndParams = tuple[Layer, Params]


class Result:
    """Collects the layers of a file, converted or skipped, and the names of the arrays that they use.

    Args:
        path: the file, for messages.
        content: the contents of the file.

    Attributes:
        converted: the converted layers by name.
        skipped: for each skipped layer, the reason.
        assumed: one sentence for each assumption.
        in_network_order: whether the layers are in the order in which the network runs them.
        used: the names of the arrays of all layers, converted or skipped.
    """

    def __init__(self, path: Path, content: Content) -> None:
        self.path, self.content = path, content
        self.converted: dict[str, LayerAndParams] = {}
        self.skipped: dict[str, str] = {}
        self.assumed: tuple[str, ...] = ()
        self.in_network_order = False
        self.used: set[str] = set()

    def convert(self, name: str, make: Callable[[], LayerAndParams]) -> None:
        """Convert a layer. An UnsupportedError is caught: the layer is then skipped, and the error's message is the reason.

        Args:
            name: the layer's name.
            make: converts the layer. It raises an UnsupportedError to skip the layer.

        Raises:
            ValueError: the weights and the configuration of the layer contradict each other. This is any other ValueError of
                `make`, with the file and the layer in front of its message.
        """
        try:
            self.converted[name] = make()
        except UnsupportedError as error:
            self.skipped[name] = str(error)
        except ValueError as error:
            raise ValueError(f"{self.path}: {quoted(name)}: {error}") from error

    def weight_names(self, layer: str) -> list[str]:
        """Return the names of a layer's arrays in a legacy file, in the order in which Keras lists them.

        Args:
            layer: the layer's group, which is its name, such as "encoder".

        Raises:
            ValueError: a listed array does not exist. The message names the file and the layer.
        """
        try:
            return legacy.weights_of(self.content, layer)
        except ValueError as error:
            raise ValueError(f"{self.path}: {quoted(layer)}: {error}") from error

    def part(self, roles: Mapping[str, str], options: Mapping[str, Any], cell: Cell | None = None) -> layout.Part:
        """Convert one cell of a layer.

        Args:
            roles: the names of the cell's arrays by role, "kernel", "recurrent_kernel" and "bias".
            options: the options of `arrays.load` for a layer of this cell.
            cell: the cell's configuration, which must match the arrays; None if the file has none.

        Raises:
            ValueError: an array is missing or damaged, or contradicts the configuration.
        """
        require_kernels(roles)
        weights = {role: self.content.array(roles[role]) for role in arrays.ROLES if role in roles}
        # Before the conversion, whose errors would not mention the configuration.
        if cell is not None:
            _require_match(cell, weights)
        return arrays.part(weights, options)

    def layers(self) -> FileLayers:
        """Return the result, for the caller of `read`. Call it after all layers were converted.

        Recurrent cells that no layer uses are added to the skipped layers, by the names of their groups.
        """
        for group, names in places.recurrent_groups(self.content).items():
            if self.used.isdisjoint(names):
                layer_group = group.removesuffix("/vars").removesuffix("/cell") or group
                reason = "it has the weights of a recurrent cell, but is no layer of Keras whose options are told"
                self.skipped.setdefault(layer_group, reason)
                self.in_network_order = False  # the place of this cell in the network is not known
                self.used.update(names)
        return FileLayers(
            self.converted,
            in_network_order=self.in_network_order,
            skipped=self.skipped,
            assumed=self.assumed,
            unused=[name for name in self.content.datasets if name not in self.used],
        )


def require_kernels(roles: Mapping[str, str]) -> None:
    """Check that a cell has both kernels.

    Raises:
        ValueError: a kernel is missing.
    """
    missing = [role for role in arrays.ROLES[:2] if role not in roles]
    if missing:
        raise ValueError(f"it has no {missing[0]}, which every recurrent layer has: write or download the file again")


def require_whole(place: Place, expectation: str, directions: int, extra_error: type[ValueError] = ValueError) -> None:
    """Refuse a layer with missing or additional arrays.

    Args:
        place: the layer's arrays.
        expectation: a clause on the expected number of directions, for the message.
        directions: the expected number of directions.
        extra_error: the error for additional arrays. They contradict a configuration. Without one, they may be those of a layer
            that is not read, which is an UnsupportedError.

    Raises:
        ValueError: arrays are missing or cannot be assigned to cells, or the number of directions is not the expected one.
        extra_error: there are additional arrays.
    """
    if place.obstacle:
        raise ValueError(f"it {place.obstacle}: save the model again")
    if not place.sides:
        raise ValueError("it has no weights in the file: write or download it again")
    if len(place.sides) != directions:
        raise ValueError(f"it has weights of {len(place.sides)} directions and {expectation}: write or download the file again")
    if place.extra:
        array = repr(place.extra[0][-80:])
        raise extra_error(f"it has the array {array} besides kernel, recurrent_kernel and bias, which no layer of Keras has")


def _require_match(cell: Cell, weights: Mapping[str, Any]) -> None:
    """Check that the weights match the configuration of the cell.

    Raises:
        ValueError: the kind, the size, the bias, the dtype or the layout differ.
    """
    recurrent, bias = weights["recurrent_kernel"], weights.get("bias")
    kind = arrays.kind(recurrent)
    if kind != cell.kind:
        raise ValueError(f"it is described as {cell.kind}, and its weights are of {kind}: save the model again")
    if recurrent.shape[-2] != cell.units:
        raise ValueError(f"it is described with units={cell.units}, and its weights have {recurrent.shape[-2]}: save it again")
    if (bias is not None) != cell.use_bias:
        stated_bias = "no bias" if bias is None else "a bias"
        raise ValueError(
            f"it is described with use_bias={cell.use_bias}, and its weights have {stated_bias}: save the model again"
        )
    if cell.dtype and recurrent.dtype.name != cell.dtype:
        raise ValueError(f"it is described with dtype {cell.dtype}, and its weights are {recurrent.dtype.name}: save it again")
    if bias is not None and cell.kind in ("LSTM", "GRU") and (bias.shape == (2 * recurrent.shape[1],)) != cell.cudnn:
        weights_layout = "in cuDNN's layout" if not cell.cudnn else "not in cuDNN's layout"
        raise ValueError(f"its weights are {weights_layout}, unlike those of the class that is described: save the model again")
