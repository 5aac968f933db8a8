"""Keras 3 and tf-keras: kernel (features, 4·units), recurrent_kernel (units, 4·units), one bias; i f c o and z r h, as ours.

With reset_after, the bias of a GRU is (2, 3·units): one for the inputs and one for h.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jlstm.cell import Params
from jlstm.convert import arrays, files, hdf5, keras_config, layout
from jlstm.convert.layout import Part
from jlstm.layers import Layer

_NAMES = ("kernel", "recurrent_kernel", "bias")
_NUMBER = re.compile(r"(_\d+)?$")


def load(weights: Sequence[Any], *, merge: str | None = "concat", **options: Any) -> tuple[Layer, Params]:
    """Return the layer and parameters of `layer.get_weights()` of an LSTM, a GRU, or Bidirectional of one.

    The two biases of a GRU with `reset_after` are added into one, but for the candidate's second, which is `recurrent_bias`.

    Args:
        weights: kernel, recurrent kernel and perhaps bias, twice for two directions; or a list of such lists, which is a Stack.
        merge: of two directions, Keras' `merge_mode`.
        **options: of `jlstm.LSTM` or `jlstm.GRU`, which no array tells: `activation`, `reverse` for `go_backwards`, … For a GRU
            without bias, `reset_after`.

    Raises:
        ValueError: a weight is missing, not part of such a layer, or of another shape or dtype; or an option does not fit.

    Differs from: Keras' go_backwards gives outputs in the order of processing, `reverse` in that of the inputs.

    Examples:
        >>> import numpy as np
        >>> layer, params = load([np.zeros((3, 16)), np.zeros((4, 16)), np.zeros(16)])
        >>> layer
        RNN(cell=LSTMCell(units=4), param_dtype='float64')
    """
    nested = isinstance(weights, list | tuple) and weights and all(isinstance(one, list | tuple) for one in weights)
    layers = weights if nested else [weights]
    return layout.assemble([_directions(one, options) for one in layers], merge)


def _directions(weights: Sequence[Any], options: dict[str, Any]) -> list[Part]:
    if not isinstance(weights, list | tuple) or len(weights) not in (2, 3, 4, 6):
        got = len(weights) if isinstance(weights, list | tuple) else type(weights).__name__
        raise ValueError(
            f"weights must be kernel, recurrent_kernel and perhaps bias, of one or two directions, got {got}: pass get_weights()"
        )
    count = len(weights) // (1 if len(weights) < 4 else 2)
    sides = [_part(weights[:count], options)]
    if len(weights) > count:
        sides.append(_part(weights[count:], options | {"reverse": not options.get("reverse", False)}))
        if sides[0].layer.flipped() != sides[1].layer:
            raise ValueError("weights must have two directions of one kind and size, got different ones: load them one by one")
    return sides


def _part(weights: Sequence[Any], options: dict[str, Any]) -> Part:
    given = arrays.floating("weights", dict(zip(_NAMES, weights, strict=False)))
    units, columns = arrays.matrix("weights", given, "recurrent_kernel", "(units, gates·units)").shape
    features = arrays.matrix("weights", given, "kernel", "(features, gates·units)").shape[0]
    name = arrays.gates("weights['recurrent_kernel']", columns, units, {4: "LSTM", 3: "GRU"})
    shapes: dict[str, tuple[int, ...]] = {"kernel": (features, columns), "recurrent_kernel": (units, columns)}
    if "bias" in given:
        two = name == "GRU" and given["bias"].ndim == 2
        shapes["bias"] = (2, columns) if two else (columns,)
        options = options | ({"reset_after": options.get("reset_after", two)} if name == "GRU" else {})
        if name == "GRU" and options["reset_after"] != two:
            raise ValueError(
                f"weights have a bias of shape {given['bias'].shape}, not that of reset_after={not two}: leave it out"
            )
    arrays.fit("weights", given, shapes)
    if given.get("bias", given["kernel"][0]).ndim == 2:
        first, second = given["bias"]
        given["bias"] = np.concatenate([layout.merge(first, second)[: 2 * units], first[2 * units :]])
        given["recurrent_bias"] = second[2 * units :]
    return layout.rnn(name, units, given, **options)


def dump(layer: Layer, params: Params) -> list[Any]:
    """Return what `set_weights` of the Keras layer takes; of a Stack, a list of these. `load` takes it back to the same bits.

    Activations, directions and `reset_after` are given to Keras' own layer, and dropout too.

    Raises:
        ValueError: an option that Keras does not have, or parameters that are not the layer's.
    """
    layers = layout.parts(layer, params)
    for _, _, part in layout.each(layers):
        layout.refuse("Keras", part.layer.cell, but=("activation", "recurrent_activation", "reset_after"))
    weights = [[array for part in sides for array in _theirs(part)] for sides in layers]
    return weights if len(weights) > 1 else weights[0]


def _theirs(part: Part) -> list[np.ndarray]:
    bias, params = part.params.get("bias"), part.params
    if bias is not None and "recurrent_bias" in params:
        second = np.zeros_like(bias)
        second[-len(params["recurrent_bias"]) :] = params["recurrent_bias"]
        bias = np.stack([bias, second])
    return [params["kernel"], params["recurrent_kernel"]] + ([] if bias is None else [bias])


def read(path: str | os.PathLike[str], **options: Any) -> dict[str, tuple[Layer, Params]]:
    """Return all LSTM and GRU layers in a `.keras`, `.weights.h5` or `.h5` file, by their names, "outer/inner" in nested models.

    A file with a description of the model tells the options too; in one of weights alone, layers whose names are not their own
    alone, or not in it, go by their paths. Layers inside layers that are no models (`TimeDistributed`, your
    own classes) are not in that description. Neither Keras nor the HDF5 library is imported.

    Args:
        path: the file.
        **options: as for `load`, for all layers of a file that has weights only.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, holds no such layer, or one with an option that we do not have.
    """
    path = files.existing(path)
    content = _archive(path) if path.suffix == ".keras" else hdf5.read(path, files.mapped(path))
    if content.config is None:
        names = [content.names.get(base, base) for base in content.layers]
        found = {
            base if names.count(name) > 1 else name: _weights(path, base, one, None, options)
            for name, (base, one) in zip(names, content.layers.items(), strict=True)
        }
    elif options:
        raise ValueError(f"{path} describes its layers, got {', '.join(options)} besides: leave the options out")
    else:
        found = _by_description(path, keras_config.described(path, content.config, content.version), content)
    if not found:
        raise ValueError(f"{path} has no LSTM or GRU layer: read the file of a model that has one")
    return found


def _archive(path: Path) -> hdf5.Content:
    with files.members(path) as archive:
        held = {name: files.member(path, archive, name) for name in ("config.json", "metadata.json", "model.weights.h5")}
    config, metadata, weights = held.values()
    try:
        version = str(json.loads(metadata)["keras_version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} has a metadata.json without Keras' version: save the model again") from error
    content = hdf5.read(path, weights)
    return content._replace(config=config, version=version)


def _by_description(path: Path, layers: list[keras_config.Described], content: hdf5.Content) -> dict[str, tuple[Layer, Params]]:
    found = {}
    numbered = any(base.startswith("layers/") for base in content.layers)
    for one in layers:
        last = one.name.split("/")[-1]
        at = [base for base in content.layers if base == (one.path if numbered else one.name)]
        at = at or [base for base in content.layers if not numbered and base.split("/")[-1] == last]
        if len(at) != 1:
            raise ValueError(f"{path} has weights of {one.name!r} in {len(at)} places, expected 1: save the model again")
        if one.name in found:
            raise ValueError(f"{path} has two layers of the name {one.name!r}: rename one")
        found[one.name] = _weights(path, one.name, content.layers[at[0]], one, {})
    return found


def _weights(path: Path, name: str, found: hdf5.Found, one: keras_config.Described | None, options: dict[str, Any]) -> Any:
    sides = [side for side in found if side]
    names = sorted(found.forward, key=lambda cell: (len(cell), cell))  # cell, cell_1, … cell_10
    each = [options] * len(names)
    if one is None and len({_NUMBER.sub("", cell) for cell in names}) > 1:
        raise ValueError(
            f"{path} has cells of several names in {name!r}, {names}, and does not tell their order: read the file of "
            "the whole model"
        )
    if one is not None:
        each = [options for _, _, options in one.cells]
        known = [[cell for cell, _, _ in one.cells], [cell for _, cell, _ in one.cells]]
        names = next((given for given in known if set(given) == set(names)), names)
    if not all(side.keys() == set(names) for side in sides) or len(each) != len(names) or not names:
        raise ValueError(f"{path} has other cells in {name!r} than it describes, {names}: save the model again")
    merge = "concat" if one is None else one.merge
    try:
        return layout.stack(
            [
                load([array for side in sides for array in side[cell]], merge=merge, **options)
                for cell, options in zip(names, each, strict=True)
            ]
        )
    except ValueError as error:
        raise ValueError(f"{path}: {name!r}: {error}") from error
