"""ONNX Runtime. Layout: W (directions, 4·units, features), R (…, 4·units, units), B (…, 8·units), P (…, 3·units); gates i o f c.

Of a GRU W and R with 3·units rows, gates z r h, and B (directions, 6·units).
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
import onnxruntime

from jlstm.convert import onnx as convert
from parity.case import Problem, Quantities, Values, in_pieces
from parity.exchange import carry_of, lacking, layers, shortest, states
from parity.ours import last_output

NOT_GIVEN = ("d_",)  # it does not differentiate


def version() -> str:
    """ONNX Runtime's version."""
    return f"onnxruntime {onnxruntime.__version__}"


def lacks(problem: Problem) -> str:
    """Why ONNX Runtime cannot be asked for a problem; "" if it can."""
    return lacking("ONNX Runtime", problem, convert.dump, dtypes=("float32",))


def known_bug(problem: Problem) -> str:
    """ONNX Runtime returns zeros as the last states of a sequence of length 0, whatever it started from."""
    bug = "ONNX Runtime forgets the initial states at length 0 (https://github.com/onnx/onnx/issues/1674)"
    return "" if shortest(problem) else bug


def run(problem: Problem, values: Values) -> Quantities:
    """Compute the outputs and last states of the problem by a model with LSTM or GRU nodes."""
    cast = jax.tree.map(np.float32, values.params)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        convert.write(path, problem.layer, cast)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return in_pieces(problem, values, partial(_run, problem, session), None)


def _run(problem: Problem, session: Any, piece: Values) -> tuple[Any, ...]:
    layer, xs, mask = problem.layer, piece.xs.astype(np.float32), piece.mask
    batch, time, _ = xs.shape
    before = layer.initial_carry(piece.params, (batch,), "float32") if piece.carry is None else piece.carry
    lengths = np.full(batch, time) if mask is None else mask.sum(1)
    feeds = {"xs": xs.swapaxes(0, 1) if layer.time_major else xs, "lengths": lengths.astype(np.int32)}
    parts = layers(layer, before)
    for k, (_, carry) in enumerate(parts):
        for name in states(carry)[0]._fields:
            feeds[f"{name}_{k}"] = np.stack([np.asarray(getattr(state, name), np.float32) for state in states(carry)])
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, feeds), strict=True))
    fields = [[found[f"last_{name}_{k}"] for name in states(carry)[0]._fields] for k, (_, carry) in enumerate(parts)]
    row = [state for lasts in fields for state in zip(*lasts, strict=True)]
    carry, ys = carry_of(layer, iter(row)), found["ys"].swapaxes(0, 1) if layer.time_major else found["ys"]
    if problem.outputs == "last":
        ys = last_output(layer, carry, mask, False)
    return ys, carry, None, None, None
