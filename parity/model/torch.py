"""PyTorch: a `state_dict`'s modules as `torch.nn.LSTM` and `torch.nn.GRU`, built from the shapes of their weights."""

import os
import warnings
from collections.abc import Collection, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from parity.model.original import Original, Results


def originals(path: str | os.PathLike[str], names: Collection[str]) -> dict[str, Original]:
    """Read a file with PyTorch, nothing of which is executed, and return the modules of these names.

    Raises:
        ValueError: PyTorch cannot make a module of such weights.
    """
    path = Path(path)
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError) as error:  # several lines, and with terminal codes
        raise ValueError(
            f"{path} is not a file that PyTorch reads with weights_only=True: save its state_dict() alone"
        ) from error
    return {name: _original(path, name, weights) for name in names}


def _original(path: Path, name: str, weights: Mapping[str, Any]) -> Original:
    prefix = f"{name}." if name else ""
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    own = {key: value for key, value in own.items() if key.startswith(("weight_", "bias_")) and "." not in key}
    if "weight_hh" in own:  # a cell is a layer of one
        own = {f"{key}_l0": value for key, value in own.items()}
    return Original("torch", str(own["weight_hh_l0"].dtype).removeprefix("torch."), "float64", partial(_run, path, name, own))


def _run(path: Path, name: str, weights: Mapping[str, Any], xs: np.ndarray, dtype: str, weights_as: str) -> Results:
    computed, rounding = getattr(torch, dtype), getattr(torch, weights_as)
    try:
        module = _module(weights).to(computed)
        given = _added(module, weights) if weights_as == "float64" else weights
        module.load_state_dict({key: value.to(rounding).to(computed) for key, value in given.items()})
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "LSTM with projections", UserWarning)  # they are only slower
            ys, states = module(torch.from_numpy(xs).to(computed))
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(
            f"PyTorch cannot run {name or 'the module'} of {path} in {dtype} ({reason}): save it in float32"
        ) from error
    last = zip(*(states if isinstance(states, tuple) else (states,)), strict=True)
    return Results([_numpy(ys)], [_numpy(state) for layer in last for state in layer])


def _module(weights: Mapping[str, Any]) -> Any:
    rows, size = weights["weight_hh_l0"].shape
    projected = "weight_hr_l0" in weights
    units = weights["weight_hr_l0"].shape[1] if projected else size
    kind = torch.nn.LSTM if projected or rows == 4 * units else torch.nn.GRU
    return kind(
        weights["weight_ih_l0"].shape[1],
        units,
        num_layers=next(k for k in count() if f"weight_hh_l{k}" not in weights),
        bias="bias_ih_l0" in weights,
        batch_first=True,
        bidirectional="weight_hh_l0_reverse" in weights,
        **({"proj_size": size} if projected else {}),
    )


def _added(module: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights with the two biases of a gate added into one, but for a GRU's candidate, in their own precision.

    A converter does that too; what it rounds is then not taken for a difference of formulas, in float64.
    """
    added = dict(weights)
    for key in weights:
        if key.startswith("bias_ih"):
            other = key.replace("_ih", "_hh")
            rows = len(weights[key]) if isinstance(module, torch.nn.LSTM) else 2 * module.hidden_size
            sums = weights[key][:rows] + weights[other][:rows]
            added[key] = torch.cat([sums, weights[key][rows:]])
            added[other] = torch.cat([torch.zeros_like(sums), weights[other][rows:]])
    return added


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.to(torch.float64).numpy()
