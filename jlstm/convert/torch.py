"""PyTorch: weight_ih (4·units, features), weight_hh (4·units, size of h), weight_hr (projection, units), two biases.

Gates i | f | g | o, as ours, and r | z | n for the GRU, whose h' = (1 - z) n + z h is ours too.
"""

import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from jlstm import io
from jlstm.cell import Params
from jlstm.convert import arrays, files, layout, pickles
from jlstm.convert.layout import Part
from jlstm.layers import Layer

GATES = {"LSTM": "ifgo", "GRU": "rzg"}
_ANCHOR = "weight_hh"


def load(weights: Mapping[str, Any], *, prefix: str = "") -> tuple[Layer, Params]:
    """Return the layer and parameters of a `state_dict` of `LSTM`, `GRU`, `LSTMCell` or `GRUCell`.

    Several layers become a Stack, two directions Bidirectional. The two biases are added into one, but for the GRU's b_hn, which
    is `recurrent_bias`. `batch_first` and `dropout` are not in the weights.

    Args:
        weights: NumPy arrays, or tensors in the processor's memory, by PyTorch's names.
        prefix: take the weights whose names begin so, without it, and leave all others.

    Raises:
        ValueError: a weight is missing, not part of such a layer, or of another shape or dtype.

    Examples:
        >>> import numpy as np
        >>> weights = {"weight_ih_l0": np.zeros((16, 3)), "weight_hh_l0": np.zeros((16, 4))}
        >>> layer, params = load(weights)
        >>> layer
        RNN(cell=LSTMCell(units=4, use_bias=False), param_dtype='float64')
    """
    if isinstance(weights, Mapping) and prefix:
        weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    given = arrays.floating("weights", weights)
    if _ANCHOR in given:
        grid = [[""]]
    else:
        depth = max(1, next(k for k in count() if f"{_ANCHOR}_l{k}" not in given))
        ends = ("", "_reverse") if f"{_ANCHOR}_l0_reverse" in given else ("",)
        grid = [[f"_l{k}{end}" for end in ends] for k in range(depth)]
    name, shapes = _shapes(given, grid)
    arrays.fit("weights", given, shapes)
    return layout.assemble([[_part(name, given, suffix, backward=d > 0) for d, suffix in enumerate(ends)] for ends in grid])


def _shapes(given: dict[str, np.ndarray], grid: list[list[str]]) -> tuple[str, dict[str, tuple[int, ...]]]:
    first = grid[0][0]
    recurrent = arrays.matrix("weights", given, f"{_ANCHOR}{first}", "(gates·units, size of h)")
    features = arrays.matrix("weights", given, f"weight_ih{first}", "(gates·units, features)").shape[1]
    rows, size = recurrent.shape
    projected = f"weight_hr{first}" in given
    units = arrays.matrix("weights", given, f"weight_hr{first}", "(proj_size, units)").shape[1] if projected else size
    known = {4: "LSTM"} if projected else {4: "LSTM", 3: "GRU"}
    name = arrays.gates(f"weights['{_ANCHOR}{first}']", rows, units, known)
    shapes: dict[str, tuple[int, ...]] = {}
    for k, ends in enumerate(grid):
        for end in ends:
            shapes[f"weight_ih{end}"] = (rows, features if k == 0 else size * len(ends))
            shapes[f"weight_hh{end}"] = (rows, size)
            if projected:
                shapes[f"weight_hr{end}"] = (size, units)
            if f"bias_ih{first}" in given:
                shapes |= {f"bias_ih{end}": (rows,), f"bias_hh{end}": (rows,)}
    return name, shapes


def _part(name: str, given: dict[str, np.ndarray], suffix: str, *, backward: bool) -> Part:
    def ours(array: np.ndarray) -> np.ndarray:
        return layout.order(array, GATES[name], layout.OURS[name], 0)

    params = {"kernel": ours(given[f"weight_ih{suffix}"]).T, "recurrent_kernel": ours(given[f"weight_hh{suffix}"]).T}
    options: dict[str, Any] = {"reverse": backward}
    if f"bias_ih{suffix}" in given:
        first, second = ours(given[f"bias_ih{suffix}"]), ours(given[f"bias_hh{suffix}"])
        params["bias"] = layout.merge(first, second)
        if name == "GRU":
            apart = 2 * (len(first) // 3)
            params["bias"][apart:], params["recurrent_bias"] = first[apart:], second[apart:]
    if f"weight_hr{suffix}" in given:
        params["projection_kernel"] = given[f"weight_hr{suffix}"].T
        options["projection"] = params["projection_kernel"].shape[1]
    return layout.rnn(name, len(given[f"weight_hh{suffix}"]) // len(GATES[name]), params, **options)


def dump(layer: Layer, params: Params) -> dict[str, np.ndarray]:
    """Return the `state_dict` of the `torch.nn.LSTM` or `GRU` that is this layer; `load` takes it back to the same bits.

    `bias_hh` is zero, but for the GRU's b_hn. Dropout is not in the weights.

    Raises:
        ValueError: an option that PyTorch does not have, layers that differ, or parameters that are not the layer's.
    """
    layers = layout.parts(layer, params)
    for _, _, part in layout.each(layers):
        layout.refuse("PyTorch", part.layer.cell, but=("projection",))
    layout.concatenated("PyTorch", layer)
    if any(sides[0].layer.reverse for sides in layers):
        raise ValueError("PyTorch has no reverse=True: convert layer.flipped() and reverse the sequence there")
    layout.uniform("PyTorch", layers)
    weights: dict[str, np.ndarray] = {}
    for k, d, part in layout.each(layers):
        weights |= {f"{name}_l{k}{'_reverse' * d}": value for name, value in _theirs(part).items()}
    return weights


def _theirs(part: Part) -> dict[str, np.ndarray]:
    name, params = layout.kind(part.layer.cell), part.params

    def theirs(array: np.ndarray) -> np.ndarray:
        return layout.order(array, layout.OURS[name], GATES[name], 0)

    weights = {"weight_ih": theirs(params["kernel"].T), "weight_hh": theirs(params["recurrent_kernel"].T)}
    if "bias" in params:
        second = np.zeros_like(params["bias"])
        if "recurrent_bias" in params:
            second[-len(params["recurrent_bias"]) :] = params["recurrent_bias"]
        weights |= {"bias_ih": theirs(params["bias"]), "bias_hh": theirs(second)}
    if "projection_kernel" in params:
        weights["weight_hr"] = np.ascontiguousarray(params["projection_kernel"].T)
    return weights


def read(path: str | os.PathLike[str]) -> dict[str, tuple[Layer, Params]]:
    """Return all layers in a `.safetensors` file, or a `.pt` file with a `state_dict`, by the names of their modules.

    A `.pt` file is read by PyTorch, with `weights_only=True`: nothing in it is executed.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: PyTorch is not installed and the file needs it.
        ValueError: it is no such file, holds no LSTM or GRU, or one that `load` refuses.
    """
    path = files.existing(path)
    weights = files.safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    prefixes = sorted({name[: name.index(_ANCHOR)] for name in weights if _ANCHOR in name})
    if not prefixes:
        raise ValueError(f"{path} has no {_ANCHOR}…, the weights of an LSTM or GRU: read the file of a model with such a layer")
    found = {}
    for prefix in prefixes:
        try:
            found[prefix.removesuffix(".")] = load(_of_module(weights, prefix))
        except ValueError as error:
            raise ValueError(f"{path}: {prefix!r}: {error}") from error
    return found


def _of_module(weights: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The weights of one module, without those of its children."""
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    return {name: value for name, value in own.items() if "." not in name and name.startswith(("weight_", "bias_"))}


def _pickled(path: Path) -> dict[str, np.ndarray]:
    with files.members(path) as archive:  # checked before PyTorch sees it
        pickled = [files.member(path, archive, name) for name in archive.namelist() if name.endswith(".pkl")]
    torch = files.needed("torch", path)
    try:  # mapped, so that a storage cannot be larger than the file
        for content in pickled:
            pickles.checked(content)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of a damaged file it may be any
        reason = files.reason(error)
        raise ValueError(f"{path} is not a state_dict that PyTorch reads with weights_only=True ({reason}): save one") from error
    if not isinstance(weights, Mapping):
        raise ValueError(f"{path} must hold a state_dict, got {type(weights).__name__}: save module.state_dict()")
    named = {name: value for name, value in weights.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
    tensors = {name: value for name, value in named.items() if _readable(torch, value)}
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > path.stat().st_size:
        raise ValueError(f"{path} declares more numbers than it holds: save module.state_dict() again")
    return {name: _numpy(torch, tensor) for name, tensor in tensors.items()}


def _readable(torch: Any, tensor: Any) -> bool:
    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_neg())
    return plain and tensor.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def _numpy(torch: Any, tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return tensor.view(torch.int16).numpy().view(jnp.bfloat16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def write(path: str | os.PathLike[str], layer: Layer, params: Params) -> None:
    """Write what `dump` returns to a safetensors file, for `module.load_state_dict(safetensors.torch.load_file(path))`.

    Raises:
        OSError: the file cannot be written.
        ValueError: as `dump`.
    """
    io.write(path, save({name: np.ascontiguousarray(value) for name, value in dump(layer, params).items()}))
