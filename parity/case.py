"""The problem that is compared, the numbers drawn for it, and the quantities that every side computes from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jlstm
from jlstm import checks
from jlstm.cells import Dropout
from jlstm.description import features_in
from jlstm.layers import param_shapes
from parity import textbook

Arrays = Any
MASKS = ("none", "right", "left", "holes", "row")


@dataclass(frozen=True, eq=False)
class Problem:
    """A layer and the way it is run.

    The default sizes are all different, and different from usual numbers of units, so that a wrong transpose shows.

    Args:
        layer: any layer of `jlstm`.
        dtype: the dtype in which both sides compute.
        batch, time, features: sizes of the inputs, used if `xs` is None. If `params` are passed, they set `features`.
        params: your own parameters; None draws them.
        xs: your own inputs (batch, time, *spatial sizes, features); None draws them.
        weights: how parameters are drawn: "random" (every one) or "initial" (as `layer.init` does).
        mask: which steps count: "none" (no mask: all count), "right" (padding on the right), "left", "holes", "row" (one sequence
            without any step that counts), or a boolean array (batch, time).
        initial_carry: whether an initial carry is passed (and its gradient compared).
        outputs: "all" steps, or only the "last" one, as with Keras's `return_sequences=False`.
        zero_output: Keras's `zero_output_for_mask`: the last output is zero if the last step does not count.
        batches: number of equal pieces that time is cut into; each starts from the last carry of the previous piece, as with
            Keras's `stateful=True`.
        step: whether to run one time step with `layer.step`; `time` is then 1.
        seed: seed of all random numbers.
        lengths: number of steps that count in each sequence, (batch,); an alternative to `mask`.

    Raises:
        TypeError, ValueError: an argument has a wrong type, value or shape, or two arguments contradict each other.
    """

    layer: jlstm.Layer
    dtype: str = "float32"
    batch: int = 2
    time: int = 6
    features: int = 3
    params: Arrays = None
    xs: Any = None
    weights: str = "random"
    mask: Any = "none"
    initial_carry: bool = True
    outputs: str = "all"
    zero_output: bool = False
    batches: int = 1
    step: bool = False
    seed: int = 0
    lengths: Any = None

    def __post_init__(self) -> None:
        checks.instance("layer", self.layer, jlstm.Layer, "LSTM(units)")
        self._check_kinds()
        self._fill_in()
        for name, value, allowed in (
            ("weights", self.weights, ("random", "initial")),
            ("outputs", self.outputs, ("all", "last")),
            ("dtype", self.dtype, ("float64", "float32", "bfloat16", "float16")),
        ):
            checks.one_of(name, value, allowed)
        for dtype in _dtypes(self.layer) - {self.dtype}:
            raise ValueError(f"the layer computes in {dtype} but the problem in {self.dtype}: pass dtype={dtype!r} to Problem")
        for name in ("batch", "time", "features", "batches"):
            checks.positive(name, getattr(self, name))
        if self.step:
            object.__setattr__(self, "time", 1)
        if self.xs is not None and np.ndim(self.xs) != 3 + len(self.layer.spatial_in):
            axes = ("batch", "time", *["size"] * len(self.layer.spatial_in), "features")
            raise ValueError(f"xs must be ({', '.join(axes)}), got shape {np.shape(self.xs)}")
        if isinstance(self.mask, str) and self.mask not in MASKS:
            raise ValueError(f"mask must be a boolean array or one of {', '.join(MASKS)}, got {checks.brief(self.mask)}")
        batch, time = (self.batch, self.time) if self.xs is None else np.shape(self.xs)[:2]
        if time % self.batches:
            raise ValueError(f"time must be a multiple of batches, got {time} and {self.batches}")
        if not isinstance(self.mask, str) and np.shape(self.mask) != (batch, time):
            raise ValueError(f"mask must have shape {(batch, time)}, got {np.shape(self.mask)}")

    def _check_kinds(self) -> None:
        for name in ("initial_carry", "zero_output", "step"):
            checks.flag(name, getattr(self, name))
        checks.whole("seed", self.seed)
        if self.xs is not None:
            checks.real("xs", self.xs, nan=True)
            if not np.size(self.xs):
                raise ValueError(f"xs must hold at least one sequence and step, got shape {np.shape(self.xs)}")
        if self.params is not None:
            checks.arrays("params", self.params, floating=True)

    def _fill_in(self) -> None:
        """Set `features` from the parameters and `mask` from the lengths."""
        if self.params is not None:
            if self.xs is None:
                object.__setattr__(self, "features", features_in(self.layer, self.params))
            expected = param_shapes(self.layer, self.features if self.xs is None else np.shape(self.xs)[-1])
            checks.tree("params", self.params, expected, "pass parameters of this layer for these features")
        if self.lengths is not None:
            object.__setattr__(self, "mask", self._mask_of_lengths())
            object.__setattr__(self, "lengths", None)  # so that a changed copy of the problem may have another mask

    def _mask_of_lengths(self) -> np.ndarray:
        batch, time = (self.batch, self.time) if self.xs is None else np.shape(self.xs)[:2]
        lengths = np.asarray(self.lengths)
        well_formed = lengths.shape == (batch,) and np.issubdtype(lengths.dtype, np.integer)
        if not well_formed or lengths.min(initial=0) < 0 or lengths.max(initial=0) > time:
            raise ValueError(f"lengths must be {batch} whole numbers from 0 to {time}, got shape {lengths.shape}")
        if not isinstance(self.mask, str) or self.mask != "none":
            raise ValueError("lengths and mask say the same: leave one of them out")
        return np.arange(time) < lengths[:, None]


class Values(NamedTuple):
    """The numbers of a problem: float64, but representable in its dtype, so that all sides start from the same numbers."""

    params: Arrays
    xs: np.ndarray
    carry: Arrays
    mask: np.ndarray | None
    noise: Arrays
    d_carry: Arrays
    d_ys: Arrays


Quantities = Mapping[str, np.ndarray]


def draw(problem: Problem) -> Values:
    """Draw, from the problem's seed, what it leaves open: parameters, inputs, carry, masks and the cotangents of all results."""
    rng = np.random.default_rng(problem.seed)

    def normal(shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
        return rounded(scale * rng.standard_normal(shape), problem.dtype)

    layer = problem.layer
    drawn = (problem.batch, problem.time, *layer.spatial_in, problem.features)
    xs = normal(drawn) if problem.xs is None else rounded(problem.xs, problem.dtype)
    batch, time, features = *xs.shape[:2], xs.shape[-1]
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), features))
    if problem.params is not None:
        params = problem.params
        checks.tree("params", params, shapes, f"pass parameters of this layer for xs with {features} features")
    elif problem.weights == "initial":
        params = layer.init(jax.random.key(problem.seed), features)
    else:
        params = jax.tree.map(lambda leaf: normal(leaf.shape, 0.3), shapes)
    params = jax.tree.map(lambda leaf: rounded(leaf, problem.dtype), params)
    carries = jax.eval_shape(lambda: layer.initial_carry(params, (batch,), "float32"))
    carry = jax.tree.map(lambda leaf: normal(leaf.shape, 0.5), carries)
    d_carry = jax.tree.map(lambda leaf: normal(leaf.shape), carry)
    steps = time if problem.outputs == "all" else problem.batches
    first_ys = textbook.run(layer, params, xs[:, :1])[1]
    d_ys = jax.tree.map(lambda leaf: normal((batch, steps, *leaf.shape[2:])), first_ys)
    noise = None
    if layer.stochastic:
        noise = layer.map(lambda leaf, leaf_params: _noise(leaf, leaf_params, batch, rng, problem.dtype), params)
    return Values(params, xs, carry if problem.initial_carry else None, mask_of(problem), noise, d_carry, d_ys)


def mask_of(problem: Problem) -> np.ndarray | None:
    """Return which steps count, (batch, time) of bool; None if all do."""
    kind = problem.mask
    batch, time = (problem.batch, problem.time) if problem.xs is None else np.shape(problem.xs)[:2]
    if not isinstance(kind, str):
        return np.asarray(kind, bool)
    if kind == "none":
        return None
    mask, t = np.ones((batch, time), bool), np.arange(time)
    if kind == "right":
        mask[0] = t < max(1, time - 2)
    elif kind == "left":
        mask[0] = t >= min(2, time - 1)
    elif kind == "holes":
        mask[0], mask[-1] = t % 3 != 1, t % 2 == 0
    else:
        mask[-1] = False
    return mask


def rounded(values: Any, dtype: str) -> np.ndarray:
    """Round to `dtype` and return as float64."""
    return np.asarray(values).astype(jnp.dtype(dtype)).astype(np.float64)


def truth(problem: Problem, values: Values) -> Quantities:
    """Return what the float64 textbook computes for the problem."""

    def run(piece: Values) -> Any:
        options = {"last": problem.outputs == "last", "zero_output": problem.zero_output}
        carry, ys, pullback = textbook.run(
            problem.layer, piece.params, piece.xs, piece.carry, piece.mask, None, piece.noise, **options
        )
        return ys, carry, *pullback(piece.d_carry, piece.d_ys)

    initial = textbook.initial_bias(problem.layer) if problem.weights == "initial" else None
    return in_pieces(problem, values, run, initial)


def in_pieces(problem: Problem, values: Values, run: Callable[[Values], Any], initial_bias: Arrays) -> Quantities:
    """Run the problem's batches in turn, each from the last carry of the previous one. No gradient flows between them.

    `run` returns the outputs, the last carry, and the gradients for parameters, inputs and the initial carry of its piece. The
    outputs and the input gradients are joined along time; the parameter gradients are summed.
    """
    carry, results = values.carry, []
    for piece in pieces(problem, values):
        result = run(piece._replace(carry=carry))
        carry = result[1]
        results.append(jax.tree.map(np.asarray, result))
    all_ys, carries, d_params, d_xs, d_carries = zip(*results, strict=True)
    joined = [jax.tree.map(lambda *leaves: np.concatenate(leaves, 1), *trees) for trees in (all_ys, d_xs)]
    summed = jax.tree.map(lambda *leaves: sum(np.asarray(leaf, np.float64) for leaf in leaves), *d_params)
    return named(joined[0], carries[-1], summed, joined[1], None if values.carry is None else d_carries[0], initial_bias)


def pieces(problem: Problem, values: Values) -> list[Values]:
    """Split the values into the problem's batches. Only the last one has the carry's cotangent; the others have zeros."""
    parts = problem.batches

    def split(tree: Arrays) -> list[Arrays]:
        leaves, structure = jax.tree.flatten(tree)
        return [jax.tree.unflatten(structure, [np.split(leaf, parts, 1)[k] for leaf in leaves]) for k in range(parts)]

    d_carries = [jax.tree.map(np.zeros_like, values.d_carry)] * (parts - 1) + [values.d_carry]
    splits = zip(split(values.xs), split(values.mask), split(values.d_ys), d_carries, strict=True)
    return [values._replace(xs=xs, mask=mask, d_ys=d_ys, d_carry=d_carry) for xs, mask, d_ys, d_carry in splits]


def named(
    ys: Arrays, carry: Arrays, d_params: Arrays, d_xs: Any, d_carry: Arrays, initial_bias: Arrays = None, dtype: Any = np.float64
) -> Quantities:
    """Return all quantities by name: `ys`, `carry.h`, `d_params.kernel`, …. `d_carry` and `initial_bias` may be None."""
    tree = {"ys": ys, "carry": carry, "d_params": d_params, "d_xs": d_xs, "d_carry": d_carry, "initial_bias": initial_bias}
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf, dtype) for path, leaf in leaves}


def biases(params: Arrays) -> list[Any]:
    """Return all biases among the parameters, in the order of the layers."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [leaf for path, leaf in leaves if jax.tree_util.keystr(path[-1:], simple=True) == "bias"]


def _dtypes(layer: jlstm.Layer) -> set[str]:
    """Return the names of the dtypes that the layers are set to compute in."""
    dtypes = [getattr(leaf, "dtype", None) for _, leaf in layer.leaves()]
    return {dtype.name for dtype in dtypes if dtype is not None}


def _noise(layer: Any, params: Arrays, batch: int, rng: np.random.Generator, dtype: str) -> Arrays:
    """Draw the dropout masks of an RNN."""
    if isinstance(layer.cell, Dropout):
        cell, carry = layer.cell, jax.eval_shape(lambda: layer.initial_carry(params, (batch,), "float32"))
        sizes = {"inputs": cell.features_in(params), "outputs": cell.features_out, "state": carry.h.shape[-1]}
        rates = {name: getattr(cell, name) for name in sizes}
        shapes = {name: (batch, size) for name, size in sizes.items()}
        return _masks(rates, shapes, rng, dtype)
    context = jax.eval_shape(lambda: layer.cell.begin(params, (batch,), "float32", key=jax.random.key(0))[1])
    rates = {"inputs": layer.cell.dropout, "recurrent": layer.cell.recurrent_dropout}
    return _masks(rates, {name: mask.shape for name, mask in context.items()}, rng, dtype)


def _masks(rates: Mapping[str, float], shapes: Mapping[str, Any], rng: np.random.Generator, dtype: str) -> Arrays:
    return {name: rounded((rng.random(shapes[name]) >= rate) / (1 - rate), dtype) for name, rate in rates.items() if rate}
