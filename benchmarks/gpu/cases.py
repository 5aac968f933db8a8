"""Layers and sizes for which the kernel is compared with the float64 textbook of `parity`: values, and all gradients.

Sizes are chosen so that all ways of exchange between blocks occur, one launch and several, and rows and units that fill no block.
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.speed.job import relative_error
from jlstm import GRU, LSTM, Bidirectional, Layer, explain
from jlstm.backends import gpu
from jlstm.backends.gpu.plan import Direction
from jlstm.backends.native.columns import attributes
from parity import textbook

TOLERANCE = 2e-6  # relative to the largest value of an array
FEATURES = 5
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
SIZES = (  # sequences and units
    *((1, 1), (7, 3), (5, 17), (128, 32), (1100, 10)),  # a warp for each sequence
    *((5, 33), (256, 64)),  # a block for some sequences
    *((128, 128), (48, 200), (1, 256)),  # clusters
    *((8, 320), (64, 512), (20, 650), (16, 1024)),  # global memory
    *((300, 512), (100, 1024)),  # several launches
)
VARIANTS: dict[str, dict[str, Any]] = {
    "peepholes": {"peephole": True},
    "clips": {"cell_clip": 0.8, "gate_clip": 1.5},
    "coupled gates": {"coupled": "f=1-i"},
    "hard functions": {"recurrent_activation": "hard_sigmoid", "activation": "hard_tanh"},
}


class CheckError(Exception):
    """A check fails. The message is one line with figures."""


class Case(NamedTuple):
    """A layer and the sizes of its inputs.

    Attributes:
        layer: the layer, whose backend is "gpu".
        batch: number of sequences.
        time: number of steps.
        flags: whether there are a mask with holes, and resets.
    """

    layer: Layer
    batch: int
    time: int = 7
    flags: bool = False


class Problem(NamedTuple):
    """The arrays of a case, in NumPy and float32.

    Attributes:
        params: the parameters.
        xs: the inputs, (batch, time, features).
        carry: the initial carry.
        sequence: the mask and the resets, if there are any.
        cotangent: for the last carry and the outputs.
    """

    params: Any
    xs: np.ndarray
    carry: Any
    sequence: dict[str, np.ndarray]
    cotangent: Any


def cases() -> dict[str, Case]:
    """Return the layers, sizes and flags that are compared with the textbook, by name."""
    table = {f"lstm {batch}×{units}": Case(LSTM(units, backend="gpu"), batch) for batch, units in SIZES}
    for batch, units in ((7, 17), (6, 48), (9, 128), (5, 320)):
        table[f"lstm {batch}×{units}, mask, resets, reverse"] = Case(LSTM(units, reverse=True, backend="gpu"), batch, flags=True)
        table[f"gru {batch}×{units}"] = Case(GRU(units, backend="gpu"), batch)
        table[f"gru {batch}×{units}, mask, resets, reverse"] = Case(GRU(units, reverse=True, backend="gpu"), batch, flags=True)
    for units in (17, 128, 320):
        for name, options in VARIANTS.items():
            table[f"lstm 9×{units}, {name}"] = Case(LSTM(units, backend="gpu", **options), 9, flags=True)
    for name, layer in (("lstm", LSTM(96, backend="gpu")), ("gru", GRU(24, backend="gpu"))):
        table[f"bidirectional {name}"] = Case(Bidirectional(layer), 9, flags=True)
    table["one step"] = Case(LSTM(48, backend="gpu"), 3, time=1)
    return table


def problem(case: Case, seed: int = 0) -> Problem:
    """Draw the arrays of a case. Weights are small enough that rounding errors do not grow from step to step."""
    rng = np.random.default_rng(seed)

    def draw(leaf: Any) -> np.ndarray:
        scale = 1 / math.sqrt(leaf.shape[0]) if leaf.ndim == 2 else 0.3
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    params = jax.eval_shape(lambda: case.layer.init(jax.random.key(0), FEATURES))
    carry = jax.eval_shape(lambda params: case.layer.initial_carry(params, (case.batch,)), params)
    xs = rng.standard_normal((case.batch, case.time, FEATURES), np.float32)
    params, carry = jax.tree.map(draw, (params, carry))
    sequence = {}
    if case.flags:
        sequence = {name: rng.random((case.batch, case.time)) < share for name, share in (("mask", 0.7), ("resets", 0.3))}
    results = jax.eval_shape(lambda *arrays: case.layer.apply(*arrays), params, xs, carry)
    return Problem(params, xs, carry, sequence, jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), results))


def differentiate(layer: Layer, arrays: Problem) -> Any:
    """Return the last carry and the outputs, and the gradients for parameters, inputs and the initial carry, from one program."""

    @jax.jit
    def run(params: Any, xs: Any, carry: Any, sequence: Any, cotangent: Any) -> Any:
        results, pullback = jax.vjp(lambda *args: layer.apply(*args, **sequence), params, xs, carry)
        return results, pullback(cotangent)

    return run(*arrays)


def check(case: Case) -> str:
    """Compare a case with the textbook, and return a line with figures.

    Raises:
        CheckError: an error is too large, or the kernel does not run the case.
    """
    arrays = problem(case)
    launched = launches(case, arrays)
    results, gradients = differentiate(case.layer, arrays)
    params, xs, carry, cotangent = (in_double(part) for part in (*arrays[:3], arrays.cotangent))
    last, ys, pullback = textbook.run(case.layer, params, xs, carry, arrays.sequence.get("mask"), arrays.sequence.get("resets"))
    exact_gradients = pullback(*cotangent)
    errors = {"values": error(results, (last, ys)), "gradients": error(gradients, exact_gradients)}
    return verdict(errors, f"; {launched}")


def in_double(tree: Any) -> Any:
    """Return a tree of arrays in float64."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float64), tree)


def error(results: Any, exact: Any) -> float:
    """Return the largest error of two trees of arrays, see `relative_error`.

    Raises:
        CheckError: the trees differ in structure or in shapes.
    """
    shapes = [jax.tree.map(np.shape, tree) for tree in (results, exact)]
    if shapes[0] != shapes[1]:
        raise CheckError(f"results have the shapes {shapes[0]}, expected {shapes[1]}")
    return relative_error(jax.tree.leaves(results), jax.tree.leaves(exact))


def verdict(errors: dict[str, float], more: str = "", tolerance: float = TOLERANCE) -> str:
    """Return a line with errors.

    Raises:
        CheckError: one of them is above the tolerance, or not a number.
    """
    line = ", ".join(f"{name} off by {figure:.1e}" for name, figure in errors.items()) + more
    if not all(figure <= tolerance for figure in errors.values()):
        raise CheckError(f"{line}; at most {tolerance:.0e} is right")
    return line


def launches(case: Case, arrays: Problem) -> str:
    """Return how the kernel runs a case, forwards and backwards, or that it is too large for this GPU.

    Raises:
        CheckError: XLA runs it, although the kernel could.
    """
    explanation = str(explain(case.layer, arrays.params, arrays.xs, **arrays.sequence))
    cell = next(leaf.cell for _, leaf in case.layer.leaves())
    sizes = attributes(cell, reverse=False)["cell"], cell.features_out, case.batch
    words = []
    for direction in DIRECTIONS:
        plan = gpu.kernel.plan.plan(direction, *sizes, gpu.library.gpu())
        if isinstance(plan, str):
            words.append(f"{direction} by XLA ({plan})")
            continue
        kernel = gpu.kernel.compiled(direction, *sizes)
        if isinstance(kernel, str) or not all(line.endswith("is run by gpu") for line in explanation.splitlines()):
            raise CheckError(f"the kernel does not run {direction}: {kernel if isinstance(kernel, str) else explanation}")
        exchange, count = plan.macros.get("JLSTM_EXCHANGE", "kWarp")[1:].lower(), -(-case.batch // plan.rows)
        words.append(f"{direction} {exchange} {plan.blocks}×{plan.threads}" + (f" in {count} launches" if count > 1 else ""))
    return ", ".join(words)
