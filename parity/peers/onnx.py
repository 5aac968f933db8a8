"""ONNX Runtime.

Layout: W (directions, 4·units, features), R (…, 4·units, units), B (…, 8·units), P (…, 3·units); gates i o f c. A GRU has W and R
with 3·units rows, gates z r h, and B (directions, 6·units).
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
import onnxruntime

from jlstm.convert import onnx as convert
from parity.ours import last_output
from parity.peers._exchange import carry_of, lacking, layers, shortest, states
from parity.problem import Problem
from parity.quantities import Quantities, in_pieces
from parity.values import Values

NOT_GIVEN = ("d_",)  # it does not differentiate


def version() -> str:
    """Return ONNX Runtime's version."""
    return f"onnxruntime {onnxruntime.__version__}"


def lacks(problem: Problem) -> str:
    """Return why ONNX Runtime cannot run a problem; "" if it can."""
    return lacking("ONNX Runtime", problem, convert.dump, dtypes=("float32",))


def known_bug(problem: Problem) -> str:
    """Return the bug at length 0, where ONNX Runtime returns zeros instead of the initial states; "" if no length is 0."""
    bug = "ONNX Runtime forgets the initial states at length 0 (https://github.com/onnx/onnx/issues/1674)"
    return "" if shortest(problem) else bug


def run(problem: Problem, values: Values) -> Quantities:
    """Compute the outputs and the last states with a model of LSTM or GRU nodes. Gradients are not given."""
    params = jax.tree.map(np.float32, values.params)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        convert.write(path, problem.layer, params)
        # The session reads the file once, so the folder may go. One session serves all pieces.
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return in_pieces(problem, values, partial(_run, problem, session), None)


def _run(problem: Problem, session: Any, piece: Values) -> tuple[Any, ...]:
    layer, xs, mask = problem.layer, piece.xs.astype(np.float32), piece.mask
    batch, time, _ = xs.shape
    initial = layer.initial_carry(piece.params, (batch,), "float32") if piece.carry is None else piece.carry
    lengths = np.full(batch, time) if mask is None else mask.sum(1)
    feeds = {"xs": xs.swapaxes(0, 1) if layer.time_major else xs, "lengths": lengths.astype(np.int32)}
    parts = layers(layer, initial)
    for k, (_, carry) in enumerate(parts):
        for name in states(carry)[0]._fields:
            feeds[f"{name}_{k}"] = np.stack([np.asarray(getattr(state, name), np.float32) for state in states(carry)])
    names = [output.name for output in session.get_outputs()]
    by_name = dict(zip(names, session.run(names, feeds), strict=True))
    # A node returns the states of its directions in one array, (directions, batch, units). They are taken apart here.
    fields = [[by_name[f"last_{name}_{k}"] for name in states(carry)[0]._fields] for k, (_, carry) in enumerate(parts)]
    row = [state for lasts in fields for state in zip(*lasts, strict=True)]
    carry, ys = carry_of(layer, iter(row)), by_name["ys"].swapaxes(0, 1) if layer.time_major else by_name["ys"]
    if problem.outputs == "last":
        ys = last_output(layer, carry, mask, False)
    return ys, carry, None, None, None
