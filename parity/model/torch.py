"""PyTorch: modules rebuilt from a file's tensors as `torch.nn.LSTM`, `GRU` and `RNN`."""

import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from parity.model.leftovers import Contents, inside, sort_out
from parity.model.original import Original, Results

_CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_CLASS_ASSUMPTION = "the file names no classes: modules with weights of the names and shapes of torch.nn's are taken to be those"


def originals(
    path: str | os.PathLike[str], names: Collection[str], options: Mapping[str, Any]
) -> tuple[dict[str, Original], Contents]:
    """Read a file with PyTorch, without executing code from it.

    Args:
        path: the file.
        names: names of the modules, as the converter gives them.
        options: what the file does not state: `nonlinearity` of a plain RNN.

    Returns:
        The modules by name, and what else the file holds.

    Raises:
        ValueError: PyTorch cannot build a module from the weights.
    """
    path = Path(path)
    tensors = dict(_tensors(_content(path), ""))
    nonlinearity = options.get("nonlinearity", "tanh")
    modules = {name: _original(path, name, _in_scope(tensors, name), nonlinearity) for name in names}
    return modules, sort_out(tensors, {name: original.arrays for name, original in modules.items()}, [_CLASS_ASSUMPTION])


def _content(path: Path) -> Any:
    with path.open("rb") as file:
        is_safetensors = file.read(9)[8:] == b"{"  # the header, a JSON object, is after its length in 8 bytes
    try:
        if is_safetensors:
            return load_file(path)
        with path.open("rb") as file:  # of a path, PyTorch takes the ending for the format
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's unpickler lets any through, and its messages have several lines with terminal codes
        raise ValueError(
            f"{path} is not a file that PyTorch reads with weights_only=True: save its state_dict() alone"
        ) from error


def _tensors(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield all floating-point tensors in nested dicts and lists, with their keys and indices joined by dots."""
    if isinstance(tree, torch.Tensor):
        if tree.is_floating_point():
            yield name, tree
    elif isinstance(tree, Mapping | list | tuple):
        for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from _tensors(value, f"{name}.{key}" if name else str(key))


def _in_scope(tensors: Mapping[str, Any], scope: str) -> dict[str, Any]:
    return {name.removeprefix(scope).removeprefix("."): tensor for name, tensor in tensors.items() if inside(name, scope)}


def _original(path: Path, name: str, tensors: Mapping[str, Any], nonlinearity: str) -> Original:
    # A cell is run as a layer, whose names end in the number of the layer.
    layer_tensors = {f"{key}_l0" if key in _CELL_WEIGHTS else key: tensor for key, tensor in tensors.items()}
    if "weight_hh_l0" not in layer_tensors or "weight_ih_l0" not in layer_tensors:
        raise ValueError(f"{path} has no weights of a torch.nn module in {name or 'the file'!r}: compare it by hand")
    with torch.device("meta"):  # its names, and no memory
        expected = _module(layer_tensors, nonlinearity).state_dict().keys()
    weights = {key: tensor for key, tensor in layer_tensors.items() if key in expected}
    dtype = str(weights["weight_hh_l0"].dtype).removeprefix("torch.")
    prefix = f"{name}." if name else ""
    used = frozenset(prefix + key for key in tensors if key in expected or f"{key}_l0" in expected)
    return Original("torch", dtype, "float64", partial(_run, path, name, weights, nonlinearity), used)


def _run(
    path: Path,
    name: str,
    weights: Mapping[str, Any],
    nonlinearity: str,
    xs: np.ndarray,
    lengths: np.ndarray | None,
    dtype: str,
    weights_dtype: str,
) -> Results:
    compute_type, weights_type = getattr(torch, dtype), getattr(torch, weights_dtype)
    try:
        module = _module(weights, nonlinearity).to(compute_type)
        summed = _with_summed_biases(module, weights) if weights_dtype == "float64" else weights
        module.load_state_dict({key: value.to(weights_type).to(compute_type) for key, value in summed.items()})  # strictly
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LSTM with projections", UserWarning)  # they are only slower
            ys, states = _forward(module, torch.from_numpy(xs).to(compute_type), lengths)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"PyTorch cannot run {name or 'the module'} of {path} in {dtype} ({reason}): save it in float32"
        ) from error
    last = zip(*(states if isinstance(states, tuple) else (states,)), strict=True)
    return Results([_numpy(ys)], [_numpy(state) for layer in last for state in layer])


def _forward(module: Any, xs: Any, lengths: np.ndarray | None) -> Any:
    if lengths is None:
        return module(xs)
    rnn_utils = torch.nn.utils.rnn
    ys, states = module(rnn_utils.pack_padded_sequence(xs, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False))
    return rnn_utils.pad_packed_sequence(ys, batch_first=True, total_length=xs.shape[1])[0], states


def _module(weights: Mapping[str, Any], nonlinearity: str) -> Any:
    rows, size = weights["weight_hh_l0"].shape
    projected = "weight_hr_l0" in weights
    units = weights["weight_hr_l0"].shape[1] if projected else size
    kinds = {4: torch.nn.LSTM, 3: torch.nn.GRU, 1: torch.nn.RNN}
    # Only LSTM has a projection. A quotient that is not whole is none of the keys.
    kind = torch.nn.LSTM if projected else kinds.get(rows / units)
    if kind is None:
        raise ValueError(f"weight_hh is {rows} by {size}, which is no torch.nn module's: compare it by hand")
    return kind(
        weights["weight_ih_l0"].shape[1],
        units,
        num_layers=next(k for k in count() if f"weight_hh_l{k}" not in weights),
        bias="bias_ih_l0" in weights,
        batch_first=True,
        bidirectional="weight_hh_l0_reverse" in weights,
        **({"proj_size": size} if projected else {}),
        **({"nonlinearity": nonlinearity} if kind is torch.nn.RNN else {}),
    )


def _with_summed_biases(module: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights with both biases of each gate summed in their own precision, except for a GRU's candidate.

    A converter sums them too. In float64 its rounding must not count as a difference between formulas.
    """
    summed = dict(weights)
    for key in weights:
        hidden_bias = key.replace("_ih", "_hh")
        if key.startswith("bias_ih") and hidden_bias in weights:
            # A GRU's reset gate multiplies the candidate's hidden bias, which therefore stays apart.
            rows = 2 * module.hidden_size if isinstance(module, torch.nn.GRU) else len(weights[key])
            sums = weights[key][:rows] + weights[hidden_bias][:rows]
            summed[key] = torch.cat([sums, weights[key][rows:]])
            summed[hidden_bias] = torch.cat([torch.zeros_like(sums), weights[hidden_bias][rows:]])
    return summed


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.to(torch.float64).numpy()
