"""Bidirectional: a layer and its mirror image over the same sequence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm import backends, checks
from jlstm.cell import Params, PyTree
from jlstm.layers.layer import Layer
from jlstm.loop import Results, Steps

MERGES: dict[str | None, Callable[[Array, Array], Any]] = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
    None: lambda forward, backward: {"forward": forward, "backward": backward},
}


@dataclass(frozen=True, repr=False)
class Bidirectional(Layer):
    """A layer over the sequence and the same layer, with parameters of its own, over the reversed sequence.

    Parameters, carry and noise are dicts with `"forward"` and `"backward"`.

    Args:
        layer: the forward one.
        merge: what becomes of both outputs: "concat" (along the features), "sum", "mul", "ave" (mean), or None (a dict of both).

    Raises:
        ValueError: an unknown merge, or a layer that does not merge itself.
        TypeError: a layer that is none.

    Reference: Schuster & Paliwal 1997.
    Differs from: PyTorch only concatenates; Keras calls it `merge_mode` and returns a list for None.
    """

    layer: Layer
    merge: str | None = "concat"

    def __post_init__(self) -> None:
        checks.instance("layer", self.layer, Layer, "LSTM(units)")
        if self.layer.unmerged:
            raise ValueError("layer has merge=None, and its two sequences cannot be merged with two more: merge there")
        checks.one_of("merge", self.merge, MERGES)

    @property
    def features_out(self) -> int:
        """Twice the layer's for "concat", else the layer's."""
        return self.layer.features_out * (2 if self.merge == "concat" else 1)

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """The layer's."""
        return self.layer.spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """The layer's."""
        return self.layer.spatial_out

    @property
    def unmerged(self) -> bool:
        """With merge=None."""
        return self.merge is None

    @property
    def stochastic(self) -> bool:
        """The layer's."""
        return self.layer.stochastic

    @property
    def time_major(self) -> bool:
        """The layer's."""
        return self.layer.time_major

    def flipped(self) -> Self:
        """Both directions turned round."""
        return replace(self, layer=self.layer.flipped())

    def draw(self, key: Array, features: int) -> Params:
        """Draw both directions' parameters."""
        return {name: layer.draw(k, features) for (name, layer), k in zip(self._directions(), jax.random.split(key), strict=True)}

    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
        """Both directions' own."""
        checks.instance("params", params, Mapping, "layer.init returns")
        return {name: layer.begin(params[name], batch_shape, dtype) for name, layer in self._directions()}

    def run(self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, noise: PyTree, states: bool) -> Results:
        """Run both directions and merge."""
        if noise is not None and (not isinstance(noise, Mapping) or noise.keys() != {"forward", "backward"}):
            raise ValueError("noise must be a dict with 'forward' and 'backward', each the noise of that direction or None")
        keys = (None, None) if key is None else jax.random.split(key)
        results = {}
        for (name, layer), k in zip(self._directions(), keys, strict=True):
            with backends.part(name):
                results[name] = layer.run(params[name], steps, carry and carry[name], k, noise and noise[name], states)
        ys = MERGES[self.merge](results["forward"].ys, results["backward"].ys)
        carries, all_states = ({name: getattr(r, field) for name, r in results.items()} for field in ("carry", "states"))
        return Results(carries, ys, all_states)

    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:  # noqa: ARG002
        """Refused: the backward direction starts at the end of the sequence."""
        raise ValueError("step runs forwards in time but Bidirectional needs the whole sequence: use apply")

    def output_of(self, carry: PyTree) -> Any:
        """Both directions' own, merged."""
        return MERGES[self.merge](*(layer.output_of(carry[name]) for name, layer in self._directions()))

    def _directions(self) -> tuple[tuple[str, Layer], tuple[str, Layer]]:
        return ("forward", self.layer), ("backward", self.layer.flipped())
