"""PyTorch. Layout: weight_ih (4·units, features), weight_hh (4·units, size of h), bias_ih + bias_hh (4·units,); gates i f g o.

Of a projection weight_hr (proj_size, units); of a GRU three times units, gates r z n, with b_hn in bias_hh.
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
from parity.case import Problem, Quantities, Values, in_pieces
from parity.exchange import carry_of, first_cell, lacking, layers, modules, pulled, states


def version() -> str:
    """PyTorch's version."""
    return f"torch {torch.__version__}"


def lacks(problem: Problem) -> str:
    """Why PyTorch cannot be asked for a problem; "" if it can. Its packed sequences take no length 0."""
    if problem.step and any(getattr(part.cell, "projection", None) for (part,) in layers(problem.layer) if hasattr(part, "cell")):
        return "PyTorch has no projection in LSTMCell, only in LSTM"
    return lacking("PyTorch", problem, partial(_dump, step=problem.step), dtypes=("float64", "float32"), lengths="positive")


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities of the problem by `torch.nn.LSTM` or `GRU`, of a single step by their cells, with autograd."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections", UserWarning)  # they are only slower
        return in_pieces(problem, values, partial(_run, problem), None)


def _run(problem: Problem, piece: Values) -> tuple[Any, ...]:
    dtype = getattr(torch, problem.dtype)
    xs, carry = jax.tree.map(lambda leaf: torch.tensor(leaf, dtype=dtype, requires_grad=True), (piece.xs, piece.carry))
    ys, after, weights = xs, [], []
    for part, params, state in _parts(problem.layer, piece.params, carry, step=problem.step):
        module = _module(part, params, dtype, step=problem.step)
        weights.append(dict(module.named_parameters()))
        ys, last = _step(module, part, ys, state) if problem.step else _unroll(module, part, ys, state, piece.mask)
        after.append(last)
    last_carry = after[0] if len(after) == 1 else tuple(after)
    if problem.outputs == "last":
        ys = torch.cat([state.h for state in states(after[-1])][-_directions(problem.layer) :], -1)[:, None]
    leaves, structure = jax.tree.flatten((weights, xs, carry))
    cotangents = [torch.tensor(leaf, dtype=dtype) for leaf in jax.tree.leaves((piece.d_ys, piece.d_carry))]
    found = torch.autograd.grad(jax.tree.leaves((ys, last_carry)), leaves, cotangents)
    d_weights, d_xs, d_carry = jax.tree.map(_numpy, jax.tree.unflatten(structure, found))
    d_params = pulled(partial(_dump, problem.layer, step=problem.step), piece.params, d_weights)
    return *jax.tree.map(_numpy, (ys, last_carry)), d_params, d_xs, d_carry


def _parts(layer: jlstm.Layer, *trees: Any, step: bool) -> list[tuple[Any, ...]]:
    return layers(layer, *trees) if step else modules(layer, *trees)


def _dump(layer: jlstm.Layer, params: Any, *, step: bool) -> list[dict[str, np.ndarray]]:
    return [convert.dump(*part) for part in _parts(layer, params, step=step)]


def _directions(layer: jlstm.Layer) -> int:
    top = layer.layers[-1] if isinstance(layer, jlstm.Stack) else layer
    return 1 + isinstance(top, jlstm.Bidirectional)


def _module(layer: jlstm.Layer, params: Any, dtype: torch.dtype, *, step: bool) -> torch.nn.Module:
    given = {name: torch.tensor(value, dtype=dtype) for name, value in convert.dump(layer, params).items()}
    depth = len(layer.layers) if isinstance(layer, jlstm.Stack) else 1
    features, rows = given["weight_ih_l0"].shape[1], len(given["weight_ih_l0"])
    cell: Any = first_cell(layer)
    kind = "GRU" if isinstance(cell, GRUCell) else "LSTM"
    units = rows // (3 if kind == "GRU" else 4)
    options: dict[str, Any] = {"bias": "bias_ih_l0" in given, "dtype": dtype}
    if step:
        module = getattr(torch.nn, f"{kind}Cell")(features, units, **options)
        given = {name.removesuffix("_l0"): value for name, value in given.items()}
    else:
        options |= {"num_layers": depth, "bidirectional": _directions(layer) == 2, "batch_first": True}
        options |= {"proj_size": cell.projection or 0} if kind == "LSTM" else {}
        module = getattr(torch.nn, kind)(features, units, **options)
    module.load_state_dict(given)
    return module


def _step(module: torch.nn.Module, layer: jlstm.Layer, xs: torch.Tensor, carry: Any) -> tuple[torch.Tensor, Any]:
    after = module(xs[:, 0], carry and _theirs(carry))
    state = carry_of(layer, iter([_row(after)]))
    return state.h[:, None], state


def _theirs(arrays: Iterable[Any]) -> Any:
    """PyTorch's state of our carry's parts: a GRU's is one tensor, an LSTM's a pair."""
    parts = tuple(arrays)
    return parts[0] if len(parts) == 1 else parts


def _row(state: Any) -> tuple[Any, ...]:
    """Our carry's parts of PyTorch's state."""
    return state if isinstance(state, tuple) else (state,)


def _unroll(module: torch.nn.Module, layer: jlstm.Layer, xs: torch.Tensor, carry: Any, mask: Any) -> tuple[torch.Tensor, Any]:
    before = None if carry is None else _theirs(torch.stack(leaves) for leaves in zip(*states(carry), strict=True))
    options = {"batch_first": True, "enforce_sorted": False}
    given = xs if mask is None else torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(mask.sum(1)), **options)
    ys, last = module(given, before)
    if mask is not None:
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, batch_first=True, total_length=mask.shape[1])
    return ys, carry_of(layer, zip(*_row(last), strict=True))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()
