"""Conversion of PyTorch's `LSTM`, `GRU`, `RNN`, `LSTMCell`, `GRUCell` and `RNNCell`.

An LSTM has weight_ih (4·units, features), weight_hh (4·units, size of h), two biases and, with a projection, weight_hr
(projection, units). Its gates are i | f | g | o as in jlstm. A GRU has r | z | n and the same update as jlstm,
h' = (1 - z) n + z h. An RNN has one block.
"""

import os
from collections.abc import Iterable, Mapping
from itertools import count
from math import prod
from typing import Any

import numpy as np
from safetensors.numpy import save

from jlstm._src import checks, serialization
from jlstm.cell import Params
from jlstm.cells import ElmanCell, GRUCell, LSTMCell
from jlstm.convert import arrays, files, layout, torch_files, torch_scopes
from jlstm.convert.layout import Part
from jlstm.convert.result import FileLayers
from jlstm.convert.torch_tensors import Tensor, Unreadable
from jlstm.layers import Layer

GATES = {"LSTM": "ifgo", "GRU": "rzg", "RNN": "h"}
_ANCHOR = "weight_hh"  # its shape (gates·units, size of h) determines the kind and the size of the layer
_ACTIVATIONS = ("tanh", "relu")


def load(weights: Mapping[str, Any], *, prefix: str = "", nonlinearity: str | None = None) -> tuple[Layer, Params]:
    """Return the layer and parameters of a `state_dict` of `LSTM`, `GRU`, `RNN`, `LSTMCell`, `GRUCell` or `RNNCell`.

    Several layers become a Stack, two directions Bidirectional. The two biases are added into one, except for the GRU's b_hn,
    which is `recurrent_bias`. An `RNN` becomes an ElmanCell. `batch_first` and `dropout` are not in the weights.

    Args:
        weights: NumPy arrays, or tensors in CPU memory, by PyTorch's names.
        prefix: the prefix of the names of the layer's weights, which is removed. All other weights are ignored.
        nonlinearity: the `nonlinearity` of the `RNN`, "tanh" or "relu", which its weights do not tell. None for other layers.

    Returns:
        An RNN, a Bidirectional or a Stack, and its parameters as NumPy arrays.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype; or `nonlinearity` is missing for an `RNN`, or
            is given for another layer.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight_ih_l0": np.zeros((16, 3)), "weight_hh_l0": np.zeros((16, 4))}
        >>> layer, params = load(weights)
        >>> layer
        RNN(cell=LSTMCell(units=4, use_bias=False), param_dtype='float64')
    """
    _check(nonlinearity)
    checks.text("prefix", prefix)
    if isinstance(weights, Mapping) and prefix:
        weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if isinstance(weights, Mapping) and (complaint := torch_scopes.foreign_tensors(map(str, weights))):
        raise ValueError(f"weights must be those of one recurrent layer: {complaint}")
    kind, (layer, params) = _load_layers(arrays.floating("weights", weights), nonlinearity)
    if nonlinearity and kind != "RNN":
        raise ValueError(f"nonlinearity is for an RNN, got {nonlinearity!r} and weights of kind {kind}: leave it out")
    return layer, params


def _check(nonlinearity: str | None) -> None:
    if not isinstance(nonlinearity, str | None) or nonlinearity not in (None, *_ACTIVATIONS):
        raise ValueError(
            f"nonlinearity must be 'tanh' or 'relu', got {checks.brief(nonlinearity)}: pass what the RNN was made with"
        )


def _load_layers(weights: dict[str, np.ndarray], nonlinearity: str | None) -> tuple[str, tuple[Layer, Params]]:
    """Return the kind and the converted layer of the weights of one module, or raise what `load` raises."""
    # The suffixes of the names: a row for each layer, with one or two directions. The names of a cell have no suffix.
    if _ANCHOR in weights:
        grid = [[""]]
    else:
        # At least one layer, so that the error for missing weights names those of the first layer.
        depth = max(1, next(k for k in count() if f"{_ANCHOR}_l{k}" not in weights))
        ends = ("", "_reverse") if f"{_ANCHOR}_l0_reverse" in weights else ("",)
        grid = [[f"_l{k}{end}" for end in ends] for k in range(depth)]
    kind, shapes = _shapes(weights, grid)
    arrays.fit("weights", weights, shapes)
    options: dict[str, Any] = {}
    if kind == "RNN":
        if nonlinearity is None:
            raise ValueError(
                "nonlinearity must be 'tanh' or 'relu' for an RNN, since its weights do not tell: pass what it was made with, "
                "by default 'tanh'"
            )
        options["activation"] = nonlinearity
    sides = [[_part(kind, weights, suffix, reverse=d > 0, **options) for d, suffix in enumerate(suffixes)] for suffixes in grid]
    return kind, layout.assemble(sides)


def _shapes(weights: dict[str, np.ndarray], grid: list[list[str]]) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Return the kind of the layers, and the shapes that all weights must have according to those of the first layer.

    `grid` has the suffixes of the names, such as "_l0_reverse": a row for each layer, with one or two directions. A weight that
    is missing, or is not that of such a layer, raises ValueError.
    """
    first = grid[0][0]
    recurrent = arrays.matrix("weights", weights, f"{_ANCHOR}{first}", "(gates·units, size of h)")
    features = arrays.matrix("weights", weights, f"weight_ih{first}", "(gates·units, features)").shape[1]
    rows, size = recurrent.shape
    projected = f"weight_hr{first}" in weights
    units = arrays.matrix("weights", weights, f"weight_hr{first}", "(proj_size, units)").shape[1] if projected else size
    # Only an LSTM can have a projection. It makes h smaller than c, so `size` is not the number of units.
    kinds = {4: "LSTM"} if projected else {4: "LSTM", 3: "GRU", 1: "RNN"}
    kind = arrays.kind_of(f"weights['{_ANCHOR}{first}']", rows, units, kinds)
    shapes: dict[str, tuple[int, ...]] = {}
    for k, ends in enumerate(grid):
        for end in ends:
            shapes[f"weight_ih{end}"] = (rows, features if k == 0 else size * len(ends))
            shapes[f"weight_hh{end}"] = (rows, size)
            if projected:
                shapes[f"weight_hr{end}"] = (size, units)
            if f"bias_ih{first}" in weights:
                shapes |= {f"bias_ih{end}": (rows,), f"bias_hh{end}": (rows,)}
    return kind, shapes


def _part(kind: str, weights: dict[str, np.ndarray], suffix: str, **options: Any) -> Part:
    """Return one direction of one layer, whose weights have names that end in `suffix`."""

    def reorder(array: np.ndarray) -> np.ndarray:
        return layout.order(array, GATES[kind], layout.OURS[kind], 0)

    params = {"kernel": reorder(weights[f"weight_ih{suffix}"]).T, "recurrent_kernel": reorder(weights[f"weight_hh{suffix}"]).T}
    if f"bias_ih{suffix}" in weights:
        first, second = reorder(weights[f"bias_ih{suffix}"]), reorder(weights[f"bias_hh{suffix}"])
        params["bias"] = layout.add_biases(first, second)
        # The candidate of a GRU is tanh(W x + b_in + r ⊙ (U h + b_hn)). The product with r contains b_hn, so it stays separate.
        if kind == "GRU":
            candidate = 2 * (len(first) // 3)
            params["bias"][candidate:], params["recurrent_bias"] = first[candidate:], second[candidate:]
    if f"weight_hr{suffix}" in weights:
        params["projection_kernel"] = weights[f"weight_hr{suffix}"].T
        options["projection"] = params["projection_kernel"].shape[1]
    return layout.rnn(kind, len(weights[f"weight_hh{suffix}"]) // len(GATES[kind]), params, **options)


def dump(layer: Layer, params: Params) -> dict[str, np.ndarray]:
    """Return the `state_dict` of the `torch.nn.LSTM`, `GRU` or `RNN` that is equal to this layer.

    `load` restores the same bits. `bias_hh` is zero, except for the GRU's b_hn. Dropout and the RNN's `nonlinearity` are not
    part of the weights.

    Args:
        layer, params: an RNN, a Bidirectional of one, or a Stack of equal ones, and its parameters.

    Returns:
        The arrays by PyTorch's names.

    Raises:
        ValueError: the layer has an option that PyTorch does not have, the layers of a Stack differ, or `params` do not fit it.

    Examples:
        >>> import jax, jlstm
        >>> weights = dump(layer := jlstm.LSTM(4), layer.init(jax.random.key(0), features=3))
        >>> weights["weight_ih_l0"].shape, sorted(weights)
        ((16, 3), ['bias_hh_l0', 'bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0'])
    """
    layers = layout.parts(layer, params)
    activations = set()
    for _, _, part in layout.numbered(layers):
        cell: Any = part.layer.cell
        plain = isinstance(cell, ElmanCell)
        layout.refuse("PyTorch", cell, but=("activation",) if plain else ("projection",), kinds=(LSTMCell, GRUCell, ElmanCell))
        if plain:
            activations.add(cell.activation)
    if len(activations) > 1 or not activations <= set(_ACTIVATIONS):
        listed = " and ".join(sorted(map(repr, activations)))
        raise ValueError(f"PyTorch has one nonlinearity for an RNN, 'tanh' or 'relu', got activation={listed}: convert no other")
    layout.concatenated("PyTorch", layer)
    if any(sides[0].layer.reverse for sides in layers):
        raise ValueError("PyTorch has no reverse=True: convert layer.flipped() and reverse the sequence there")
    layout.uniform("PyTorch", layers)
    weights: dict[str, np.ndarray] = {}
    for k, d, part in layout.numbered(layers):
        weights |= {f"{name}_l{k}{'_reverse' * d}": value for name, value in _dump_direction(part).items()}
    return weights


def _dump_direction(part: Part) -> dict[str, np.ndarray]:
    """Return the arrays of one direction of one layer, by the framework's names."""
    kind, params = layout.kind_of(part.layer.cell), part.params

    def reorder(array: np.ndarray) -> np.ndarray:
        return layout.order(array, layout.OURS[kind], GATES[kind], 0)

    weights = {"weight_ih": reorder(params["kernel"].T), "weight_hh": reorder(params["recurrent_kernel"].T)}
    if "bias" in params:
        second = np.zeros_like(params["bias"])
        if "recurrent_bias" in params:
            second[-len(params["recurrent_bias"]) :] = params["recurrent_bias"]
        weights |= {"bias_ih": reorder(params["bias"]), "bias_hh": reorder(second)}
    if "projection_kernel" in params:
        weights["weight_hr"] = np.ascontiguousarray(params["projection_kernel"].T)
    return weights


def read(path: str | os.PathLike[str], *, nonlinearity: str | None = None) -> FileLayers:
    """Return all recurrent layers in a file of `torch.save`, `torch.export.save` or safetensors, by the names of their modules.

    The file may hold a `state_dict`, a whole module, or a checkpoint with several of these at any depth. A name begins with the
    keys that lead to the `state_dict`: "rnn" in {"state_dict": …} is "state_dict.rnn", so that a copy, such as that of an
    average of the weights, has another name. Suffixes do not matter. Files from before PyTorch 1.6 are read too.

    PyTorch is not needed, and nothing in the file is executed: what is pickled beside tensors is not made.

    A module is skipped if it, or a child of it, has tensors that PyTorch's own layers do not have, such as those of a layer
    normalization, or if it is a whole module of another class. Modules stand in the order in which they were registered, which
    is often but not always the network's; in a safetensors file they are sorted by name.

    Args:
        path: the file.
        nonlinearity: the `nonlinearity` of the file's `RNN` layers, "tanh" or "relu", which their weights do not determine. If
            None, they are skipped.

    Returns:
        Layers and parameters by name. `assumed` says so if the file has only the weights of a module, and not its class.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, damaged, or one of several of a model, or it has no layer that can be converted.

    Examples:
        >>> import jax, jlstm, tempfile
        >>> layer = jlstm.LSTM(4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(f"{folder}/lstm.safetensors", layer, layer.init(jax.random.key(0), features=3))
        ...     layers = read(f"{folder}/lstm.safetensors")
        >>> print(layers[""][0])  # the name is empty, since this file has no module around the layer
        RNN(cell=LSTMCell(units=4))
    """
    _check(nonlinearity)
    path = files.existing_file(path)
    with torch_files.open_file(path) as file:
        prefixes = torch_scopes.scopes(file.entries)
        layers, skipped = dict[str, tuple[Layer, Params]](), dict[str, str]()
        converted = dict[tuple[tuple[str, Any], ...], tuple[Layer, Params]]()  # tied layers share their parameters
        for prefix, names in prefixes.items():
            label, entries = prefix.removesuffix("."), {name.removeprefix(prefix): file.entries[name] for name in names}
            if reason := _obstacle(prefix, prefixes, entries, file.classes.get(label)):
                skipped[label] = reason
                continue
            tensors = tuple(entries.items())
            if tensors not in converted:
                weights = {name: file.fetch(entry) for name, entry in tensors}
                try:
                    _, converted[tensors] = _load_layers(arrays.floating("weights", weights), nonlinearity)
                except ValueError as error:
                    skipped[label] = str(error)
                    continue
            layers[label] = converted[tensors]
        used = {name for names in prefixes.values() for name in names}
        unused = [name for name, entry in file.entries.items() if name not in used and getattr(entry, "is_tensor", True)]
        listed = ", ".join(repr(name[:40]) for name in list(file.entries)[:3]) or "no tensors"
    # A pickle lists modules as registered, which need not be the order in which they run. One module has only one order.
    assumed = [torch_scopes.CLASS_ASSUMPTION] if layers.keys() - file.classes.keys() else []
    file_layers = FileLayers(layers, in_network_order=len(prefixes) == 1, skipped=skipped, assumed=assumed, unused=unused)
    kinds = "tensors with the names of PyTorch's LSTM, GRU and RNN, weight_ih and weight_hh"
    remedy = f"it has {listed}; pass the weights of such a layer to load by these names"
    return file_layers.warn_about_skipped(path, kinds, remedy)


def _obstacle(prefix: str, prefixes: Iterable[str], entries: Mapping[str, Any], kind: str | None) -> str:
    """Return why a module is skipped, as far as this is known before its tensors are read; "" if nothing speaks against it."""
    if (outer := torch_scopes.outermost(prefix, prefixes)) is not None:
        return f"it is a child of {outer.removesuffix('.')!r}, which has recurrent weights too: pass its own weights to load"
    if kind and not kind.startswith("torch.nn.modules.rnn."):
        return f"its class is {kind[:80]}, which may compute something else: pass its weights to load if it does not"
    if complaint := torch_scopes.foreign_tensors(entries):
        return complaint
    for name, entry in entries.items():
        if isinstance(entry, Unreadable):
            return f"its {name} is {entry.description}, expected a tensor of floats in memory: convert it with PyTorch first"
        # A tensor made by `expand` repeats elements, by strides of 0. Reading it would take more memory than the file has bytes.
        if isinstance(entry, Tensor) and prod(entry.shape) > entry.storage.size:
            return f"its {name} repeats {entry.storage.size} numbers over a larger shape: save a copy of it, made by contiguous()"
    return ""


def write(path: str | os.PathLike[str], layer: Layer, params: Params) -> None:
    """Write what `dump` returns to a safetensors file, for `module.load_state_dict(safetensors.torch.load_file(path))`.

    Args:
        path, layer, params: the file, and the arguments of `dump`.

    Raises:
        OSError: the file cannot be written.
        ValueError: as for `dump`.
    """
    serialization.write(path, save({name: np.ascontiguousarray(value) for name, value in dump(layer, params).items()}))
