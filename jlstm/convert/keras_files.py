"""Keras's files: `.keras`, `.h5` and `.weights.h5`, with a model's description or with weights alone."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jlstm.cell import Params
from jlstm.convert import files, hdf5, keras_arrays, keras_config, keras_options, keras_places, layout
from jlstm.convert.hdf5 import Content
from jlstm.convert.keras_config import Described
from jlstm.convert.keras_defaults import Defaults
from jlstm.convert.keras_options import Cell, UnsupportedError, quoted
from jlstm.convert.keras_places import Cells, Place
from jlstm.convert.result import FileLayers
from jlstm.layers import Layer

Converted = tuple[Layer, Params]


def read(path: str | os.PathLike[str], **options: Any) -> FileLayers:
    """Return the recurrent layers of a `.keras`, `.h5` or `.weights.h5` file by name, "outer/inner" in nested models.

    A `.keras` file and a whole model's `.h5` describe their layers. In a file with weights alone, names are the layers' own or,
    where the file has none or several are alike, their paths; what it does not state is Keras's default, which `assumed` lists.
    A default that was changed between versions is decided by the version that the file states, else asked for.

    Layers are in the order in which Keras lists those of a Sequential or functional model, and in which they run. A file with
    weights alone tells this order for layers of one class in one model; else `in_network_order` is False.

    Args:
        path: the file.
        **options: as for `load`, `merge` included, for all layers that have them, of a file with weights alone. `spatial` is for
            any file: the spatial sizes of a ConvLSTM's inputs, where it does not tell them.

    Returns:
        Layers and parameters by name. `skipped` lists recurrent layers that are not converted, and `unused` all other arrays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, is damaged, contradicts itself, or has no recurrent layer that can be converted.
    """
    path = files.existing(path)
    content, text = _archive(path) if path.suffix == ".keras" else _plain(path)
    result = _Result(path, content)
    if text is None:
        result.read_weights(Defaults(content, options))
    else:
        spatial = options.pop("spatial", None)
        if options:
            raise ValueError(f"{path} describes its layers, got {', '.join(options)} besides: leave the options out")
        result.read_described(text, spatial)
    return result.layers().checked(path, "LSTM, GRU, SimpleRNN or ConvLSTM layer", "read the file of a model that has one")


def _plain(path: Path) -> tuple[Content, str | bytes | None]:
    content = hdf5.read(path, files.mapped(path))
    return content, content.config


def _archive(path: Path) -> tuple[Content, bytes]:
    with files.members(path) as archive:
        held = {name: files.member(path, archive, name) for name in ("config.json", "metadata.json", "model.weights.h5")}
    config, metadata, weights = held.values()
    try:
        version = json.loads(metadata)["keras_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has a metadata.json without Keras's version: save the model again") from error
    content = hdf5.read(path, weights)
    content.version = version if isinstance(version, str) else ""
    return content, config


class _Result:
    """What has been read of a file so far."""

    def __init__(self, path: Path, content: Content) -> None:
        self.path, self.content = path, content
        self.converted: dict[str, Converted] = {}
        self.skipped: dict[str, str] = {}
        self.assumed: tuple[str, ...] = ()
        self.in_network_order = False
        self.used: set[str] = set()

    def layers(self) -> FileLayers:
        """The result; recurrent cells that no layer has taken are skipped by the names of their groups."""
        for group, names in keras_places.recurrent_groups(self.content).items():
            if not self.used & set(names):
                base = group.removesuffix("/vars").removesuffix("/cell") or group
                self.skipped.setdefault(
                    base, "it has the weights of a recurrent cell, but is no layer of Keras whose options are told"
                )
                self.in_network_order = False
                self.used.update(names)
        unused = [name for name in self.content.datasets if name not in self.used]
        return FileLayers(
            self.converted,
            in_network_order=self.in_network_order,
            skipped=self.skipped,
            assumed=self.assumed,
            unused=unused,
        )

    def read_described(self, text: str | bytes, spatial: Any) -> None:
        """Convert the layers that a description names."""
        version = keras_options.version(self.content.version)
        if version is None:
            raise ValueError(
                f"{self.path} states keras_version {quoted(self.content.version)}, expected one such as 2.15.0 or 3.4.1, which "
                "says what hard_sigmoid means: save the model again"
            )
        model = keras_config.described(self.path, text, version)
        self.in_network_order = model.listed
        recurrent = {name for names in keras_places.recurrent_groups(self.content).values() for name in names}
        for layer in model.layers:
            names = self._scope(layer)
            if layer.name in self.converted or layer.name in self.skipped:
                raise ValueError(f"{self.path} has two layers of the name {quoted(layer.name)}: rename one")
            if not layer.recurrent and recurrent.isdisjoint(names):
                continue
            if not layer.reason:
                self._agrees(layer, version.major)
            self.used.update(names)
            self._convert(layer.name, lambda layer=layer, names=names: self._described(layer, names, spatial), layer.reason)

    def _scope(self, layer: Described) -> list[str]:
        """The names of a layer's arrays."""
        if self.content.numbered:
            return self.content.under(layer.path)
        top, *inner = layer.name.split("/")
        weights = self._listed(top)
        if not inner:
            return weights
        chain = layer.name.split("/")
        return [name for name in weights if _belongs(name, chain)]

    def _listed(self, top: str) -> list[str]:
        try:
            return keras_places.legacy_weights(self.content, top)
        except ValueError as error:
            raise ValueError(f"{self.path}: {quoted(top)}: {error}") from error

    def _agrees(self, layer: Described, major: int) -> None:
        """Require that a numbered layer's group has the layer's name, where Keras writes it."""
        name = self.content.own_name(layer.path) if self.content.numbered else None
        if name is None:
            return
        if major < 3:
            raise ValueError(
                f"{self.path} states keras_version {major}, but its weights are named as Keras 3 does: save it again"
            )
        if name != layer.name.rpartition("/")[2]:
            raise ValueError(
                f"{self.path} describes {quoted(layer.name)}, but its weights are of {quoted(name)}: save the model again"
            )

    def _convert(self, name: str, convert: Any, reason: str = "") -> None:
        """Convert a layer, or skip it with the reason."""
        try:
            if reason:
                raise UnsupportedError(reason)
            self.converted[name] = convert()
        except UnsupportedError as error:
            self.skipped[name] = str(error)
        except ValueError as error:
            raise ValueError(f"{self.path}: {quoted(name)}: {error}") from error

    def _described(self, layer: Described, names: list[str], spatial: Any) -> Converted:
        cells = layer.sides[0].cells
        if self.content.numbered:
            place = keras_places.numbered(self.content, layer.path, cudnn=cells[0].cudnn)
        else:
            place = keras_places.legacy_described(names, layer)
        _whole(place, f"is described with {len(layer.sides)}", len(layer.sides))
        sides = []
        for side, found in zip(layer.sides, place.sides, strict=True):
            arrays = [found[name] for name in _in_order(side.cells, list(found))]
            options = [_with_spatial(cell, spatial, layer.spatial) for cell in side.cells]
            parts = [self._part(roles, given, cell) for roles, given, cell in zip(arrays, options, side.cells, strict=True)]
            sides.append(keras_arrays.stacked(parts))
        return sides[0] if len(sides) == 1 else keras_arrays.both(sides[0], sides[1], layer.merge)

    def _part(self, roles: Mapping[str, str], options: Mapping[str, Any], cell: Cell | None = None) -> layout.Part:
        missing = [role for role in keras_arrays.ROLES[:2] if role not in roles]
        if missing:
            raise ValueError(f"it has no {missing[0]}, which every recurrent layer has: write or download the file again")
        weights = {role: self.content.array(roles[role]) for role in keras_arrays.ROLES if role in roles}
        if cell is not None:
            _same(cell, weights)
        return keras_arrays.part(weights, options)

    def read_weights(self, defaults: Defaults) -> None:
        """Convert the layers of a file with weights alone."""
        places = self._numbered_places() if self.content.numbered else self._legacy_places()
        short = [name for _, name, _ in places]
        for base, name, place in places:
            for side in place.sides:
                self.used.update(array for roles in side.values() for array in roles.values())
            self.used.update(self.content.under(base))
            full = base if short.count(name) > 1 else name
            self._convert(full, lambda place=place, base=base, full=full: self._undescribed(place, base, full, defaults))
        self.assumed = defaults.sentences()
        self.in_network_order = _ordered([base for base, _, _ in places], numbered=self.content.numbered)
        if self.in_network_order and len(places) > 1:
            self.assumed += (
                "the layers run in the order in which Keras lists them, as those of a Sequential or functional model do",
            )

    def _numbered_places(self) -> list[tuple[str, str, Place]]:
        places = []
        for base in keras_places.numbered_bases(self.content):
            place = keras_places.numbered(self.content, base, cudnn=keras_places.is_cudnn(self.content, base))
            places.append((base, self.content.own_name(base) or base, place))
        return places

    def _legacy_places(self) -> list[tuple[str, str, Place]]:
        listed = self.content.listed("", "layer_names")
        tops = list(dict.fromkeys([*(listed or []), *(name.split("/")[0] for name in self.content.datasets)]))
        places = []
        for top in tops:
            inside = list(keras_places.legacy_bases(self._listed(top)))
            for base, place in inside:
                places.append(
                    (base, top if len(inside) == 1 and base.endswith(f"/{top}") else base.partition("/")[2] or base, place)
                )
        return places

    def _undescribed(self, place: Place, base: str, name: str, defaults: Defaults) -> Converted:
        if place.obstacle:
            raise UnsupportedError(place.obstacle)
        kind = defaults.kind_of_class(base) if self.content.numbered else None
        _whole(place, f"has the group of {place.directions or 1}", place.directions or 1, extra_is_unsupported=True)
        sides = []
        for k, found in enumerate(place.sides):
            cells = _by_number(found)
            options = []
            for cell in cells:
                self._part_is_whole(found[cell])
                shape = self.content.datasets[found[cell]["recurrent_kernel"]].shape
                options.append(defaults.of(name, kind, shape, found[cell], k))
            sides.append(
                keras_arrays.stacked([self._part(found[cell], given) for cell, given in zip(cells, options, strict=True)])
            )
        if len(sides) == 1:
            return sides[0]
        if sides[0][0].flipped() != sides[1][0]:
            raise UnsupportedError(
                "its two directions differ in kind, size or bias, and ours are mirror images: load them one by one"
            )
        return keras_arrays.both(sides[0], sides[1], defaults.merge(name))

    def _part_is_whole(self, roles: Mapping[str, str]) -> None:
        if "recurrent_kernel" not in roles:
            raise ValueError("it has no recurrent_kernel, which every recurrent layer has: write or download the file again")


def _belongs(name: str, chain: list[str]) -> bool:
    """Whether an array of an old file is that of a nested layer: the names of some of the models around it, then its own."""
    parts = name.split("/")[1:]
    if chain[-1] not in parts:
        return False
    before = parts[: parts.index(chain[-1])]
    around = iter([*chain[:-1]])
    return all(any(part == model for model in around) for part in before)


def _whole(place: Place, told: str, directions: int, *, extra_is_unsupported: bool = False) -> None:
    """Refuse a layer of which arrays are missing or left over."""
    if place.obstacle:
        raise ValueError(f"it {place.obstacle}: save the model again")
    if not place.sides:
        raise ValueError("it has no weights in the file: write or download it again")
    if len(place.sides) != directions:
        raise ValueError(f"it has weights of {len(place.sides)} directions and {told}: write or download the file again")
    if place.extra:
        sentence = f"it has the array {place.extra[0][-80:]!r} besides kernel, recurrent_kernel and bias"
        raise UnsupportedError(sentence) if extra_is_unsupported else ValueError(f"{sentence}: save the model again")


def _in_order(cells: tuple[Cell, ...], names: list[str]) -> list[str]:
    """The names of groups in the order of the cells."""
    if len(cells) == 1 and len(names) == 1:
        return names
    for known in ([cell.number for cell in cells], [cell.name for cell in cells]):
        if set(known) == set(names) and len(known) == len(names):
            return known
    if len(names) != len(cells):
        raise ValueError(f"it has {len(names)} cells and is described with {len(cells)}: save the model again")
    return names


def _by_number(cells: Cells) -> list[str]:
    """The names of cells in order: cell, cell_1, … cell_10."""
    if len({keras_places.number(cell)[0] for cell in cells}) > 1:
        raise UnsupportedError(f"it has cells of several names, {quoted(sorted(cells))}, whose order weights alone do not tell")
    return sorted(cells, key=keras_places.number)


def _with_spatial(cell: Cell, spatial: Any, described: Any) -> dict[str, Any]:
    if cell.kind != "ConvLSTM":
        return cell.options
    if described is None and spatial is None:
        raise UnsupportedError(
            "the file does not tell the spatial sizes of its inputs: pass them as spatial=(rows, columns), say"
        )
    return {**cell.options, "spatial": spatial if described is None else described}


def _same(cell: Cell, weights: Mapping[str, Any]) -> None:
    """Require that the weights are those of the cell that is described."""
    recurrent, bias = weights["recurrent_kernel"], weights.get("bias")
    kind = keras_arrays.kind(recurrent)
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


def _ordered(bases: list[str], *, numbered: bool) -> bool:
    """Whether layers of weights alone are in the order that Keras lists them in."""
    if len(bases) < 2:
        return True
    if not numbered:
        tops = [base.split("/")[0] for base in bases]
        return len(set(tops)) == len(tops)
    containers = {base.rpartition("/")[0] for base in bases}
    classes = {keras_places.number(base.rpartition("/")[2])[0] for base in bases}
    return len(containers) == len(classes) == 1 and containers.pop().rpartition("/")[2] == "layers"
