"""PyTorch.

Layout: weight_ih (4·units, features), weight_hh (4·units, size of h), bias_ih + bias_hh (4·units,); gates i f g o. A projection
has weight_hr (proj_size, units). A GRU has 3·units rows, gates r z n, and b_hn in bias_hh.
"""

import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
import torch

import jlstm
from jlstm.cells import GRUCell
from jlstm.convert import torch as convert
from parity.peers._exchange import carry_of, first_cell, lacking, layers, modules, pulled, states
from parity.problem import Problem
from parity.quantities import Quantities, in_pieces
from parity.values import Values


def version() -> str:
    """Return PyTorch's version."""
    return f"torch {torch.__version__}"


def lacks(problem: Problem) -> str:
    """Return why PyTorch cannot run a problem; "" if it can. Its packed sequences cannot have length 0."""
    if problem.step and any(getattr(part.cell, "projection", None) for (part,) in layers(problem.layer) if hasattr(part, "cell")):
        return "PyTorch has no projection in LSTMCell, only in LSTM"
    parts = layers if problem.step else modules
    return lacking("PyTorch", problem, convert.dump, parts, dtypes=("float64", "float32"), lengths="positive")


def known_bug(_: Problem) -> str:
    """Return "": nothing is known."""
    return ""


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with `torch.nn.LSTM` or `GRU` and autograd, or with their cells for a single step."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections", UserWarning)  # they are only slower
        return in_pieces(problem, values, partial(_run, problem), None)


def _run(problem: Problem, piece: Values) -> tuple[Any, ...]:
    dtype = getattr(torch, problem.dtype)
    xs, carry = jax.tree.map(lambda leaf: torch.tensor(leaf, dtype=dtype, requires_grad=True), (piece.xs, piece.carry))
    ys, last_carries, weights = xs, [], []
    for part, params, state in _parts(problem.layer, piece.params, carry, step=problem.step):
        module = _module(part, params, dtype, step=problem.step)
        weights.append(dict(module.named_parameters()))
        ys, last = _step(module, part, ys, state) if problem.step else _unroll(module, part, ys, state, piece.mask)
        last_carries.append(last)
    last_carry = last_carries[0] if len(last_carries) == 1 else tuple(last_carries)
    if problem.outputs == "last":
        # The last states, not the last outputs: with padding, the output at the end is not the last one that counts.
        ys = torch.cat([state.h for state in states(last_carries[-1])][-_directions(problem.layer) :], -1)[:, None]
    # Gradients for the module's weights, which `pulled` then maps to our parameters.
    leaves, structure = jax.tree.flatten((weights, xs, carry))
    cotangents = [torch.tensor(leaf, dtype=dtype) for leaf in jax.tree.leaves((piece.d_ys, piece.d_carry))]
    gradients = torch.autograd.grad(jax.tree.leaves((ys, last_carry)), leaves, cotangents)
    d_weights, d_xs, d_carry = jax.tree.map(_numpy, jax.tree.unflatten(structure, gradients))
    d_params = pulled(partial(_dump, problem.layer, step=problem.step), piece.params, d_weights)
    return *jax.tree.map(_numpy, (ys, last_carry)), d_params, d_xs, d_carry


def _parts(layer: jlstm.Layer, *trees: Any, step: bool) -> list[tuple[Any, ...]]:
    return layers(layer, *trees) if step else modules(layer, *trees)


def _dump(layer: jlstm.Layer, params: Any, *, step: bool) -> list[dict[str, np.ndarray]]:
    return [convert.dump(*part) for part in _parts(layer, params, step=step)]


def _directions(layer: jlstm.Layer) -> int:
    *_, (top,) = layers(layer)
    return len(top.leaves())


def _module(layer: jlstm.Layer, params: Any, dtype: torch.dtype, *, step: bool) -> torch.nn.Module:
    state_dict = {name: torch.tensor(value, dtype=dtype) for name, value in convert.dump(layer, params).items()}
    depth = len(layers(layer))
    features, rows = state_dict["weight_ih_l0"].shape[1], len(state_dict["weight_ih_l0"])
    cell: Any = first_cell(layer)
    kind = "GRU" if isinstance(cell, GRUCell) else "LSTM"
    # Not the width of weight_hh: with a projection that is the size of h.
    units = rows // (3 if kind == "GRU" else 4)
    options: dict[str, Any] = {"bias": "bias_ih_l0" in state_dict, "dtype": dtype}
    if step:
        module = getattr(torch.nn, f"{kind}Cell")(features, units, **options)
        state_dict = {name.removesuffix("_l0"): value for name, value in state_dict.items()}
    else:
        options |= {"num_layers": depth, "bidirectional": _directions(layer) == 2, "batch_first": True}
        options |= {"proj_size": cell.projection or 0} if kind == "LSTM" else {}
        module = getattr(torch.nn, kind)(features, units, **options)
    module.load_state_dict(state_dict)
    return module


def _step(module: torch.nn.Module, layer: jlstm.Layer, xs: torch.Tensor, carry: Any) -> tuple[torch.Tensor, Any]:
    new_state = module(xs[:, 0], carry and _theirs(carry))
    state = carry_of(layer, iter([_carry_parts(new_state)]))
    return state.h[:, None], state


def _theirs(arrays: Iterable[Any]) -> Any:
    """Return PyTorch's state from the parts of our carry: one tensor for a GRU, a pair for an LSTM."""
    parts = tuple(arrays)
    return parts[0] if len(parts) == 1 else parts


def _carry_parts(state: Any) -> tuple[Any, ...]:
    """Return the parts of our carry from PyTorch's state."""
    return state if isinstance(state, tuple) else (state,)


def _unroll(module: torch.nn.Module, layer: jlstm.Layer, xs: torch.Tensor, carry: Any, mask: Any) -> tuple[torch.Tensor, Any]:
    initial = None if carry is None else _theirs(torch.stack(leaves) for leaves in zip(*states(carry), strict=True))
    options = {"batch_first": True, "enforce_sorted": False}
    # Packing leaves padded steps out, so that the last states are those of the last step that counts.
    inputs = xs if mask is None else torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(mask.sum(1)), **options)
    ys, last = module(inputs, initial)
    if mask is not None:
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, batch_first=True, total_length=mask.shape[1])
    return ys, carry_of(layer, zip(*_carry_parts(last), strict=True))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()
