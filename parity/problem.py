"""The problem that is compared: a layer, and the sequences that it runs over."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import jlstm
from jlstm._src import checks
from jlstm.layers import param_shapes
from jlstm.layers.shapes import features_in

Arrays = Any
MASKS = ("none", "right", "left", "holes", "row")


# eq=False: fields may be arrays, which == does not compare to one truth value. It also makes a problem hashable by identity, as a
# static argument of `jit` must be.
@dataclass(frozen=True, eq=False)
class Problem:
    """A layer and how it is run.

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


def mask_of(problem: Problem) -> np.ndarray | None:
    """Return which steps count, bool (batch, time); None if all do."""
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


def _dtypes(layer: jlstm.Layer) -> set[str]:
    """Return the names of the dtypes that the layers are set to compute in."""
    dtypes = [getattr(leaf, "dtype", None) for _, leaf in layer.leaves()]
    return {dtype.name for dtype in dtypes if dtype is not None}
