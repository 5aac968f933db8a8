"""The layer `Bidirectional`: run a layer over a sequence in both directions."""

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
    """Run a layer over the sequence and a second copy of it over the reversed sequence, and merge both outputs.

    The two directions have the same options and separate parameters. Parameters, carry and noise are dicts with the keys
    `"forward"` and `"backward"`. Outputs of both directions are in the order of the inputs.

    Args:
        layer: the layer of the forward direction. The backward direction is the same layer with `reverse` inverted.
        merge: how the outputs are merged: "concat" (along the features), "sum", "mul", "ave" (the mean), or None, which
            returns a dict with the outputs of each direction.

    Raises:
        ValueError: `merge` is unknown, or `layer` itself returns two sequences because it has merge=None.
        TypeError: `layer` is not a Layer.

    Reference: Schuster & Paliwal, 1997, "Bidirectional recurrent neural networks", https://doi.org/10.1109/78.650093.
    Differs from: PyTorch only concatenates; Keras calls the option `merge_mode` and returns a list for None.
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
        """The size of the last axis of the outputs: twice `layer.features_out` for "concat", else `layer.features_out`."""
        return self.layer.features_out * (2 if self.merge == "concat" else 1)

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """Same as `layer.spatial_in`."""
        return self.layer.spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """Same as `layer.spatial_out`."""
        return self.layer.spatial_out

    @property
    def unmerged(self) -> bool:
        """Whether the outputs are a dict of two sequences, which is so with merge=None."""
        return self.merge is None

    @property
    def stochastic(self) -> bool:
        """Same as `layer.stochastic`."""
        return self.layer.stochastic

    @property
    def time_major(self) -> bool:
        """Same as `layer.time_major`."""
        return self.layer.time_major

    def flipped(self) -> Self:
        """Return this layer with both directions reversed."""
        return replace(self, layer=self.layer.flipped())

    def draw(self, key: Array, features: int) -> Params:
        """Draw the parameters of both directions."""
        return {name: layer.draw(k, features) for (name, layer), k in zip(self._directions(), jax.random.split(key), strict=True)}

    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
        """Return the initial carries of both directions."""
        checks.instance("params", params, Mapping, "layer.init returns")
        return {name: layer.begin(params[name], batch_shape, dtype) for name, layer in self._directions()}

    def run(self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, noise: PyTree, states: bool) -> Results:
        """Run both directions and merge their outputs."""
        if noise is not None and (not isinstance(noise, Mapping) or noise.keys() != {"forward", "backward"}):
            raise ValueError("noise must be a dict with 'forward' and 'backward', each the noise of that direction or None")
        keys = (None, None) if key is None else jax.random.split(key)
        results = {}
        # `carry and carry[name]` is None where the carry is None: each direction then starts from its own initial carry
        for (name, layer), k in zip(self._directions(), keys, strict=True):
            with backends.part(name):
                results[name] = layer.run(params[name], steps, carry and carry[name], k, noise and noise[name], states)
        ys = MERGES[self.merge](results["forward"].ys, results["backward"].ys)
        carries, all_states = (
            {name: getattr(result, field) for name, result in results.items()} for field in ("carry", "states")
        )
        return Results(carries, ys, all_states)

    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:  # noqa: ARG002
        """Raise ValueError: the backward direction starts at the end of the sequence, so there is no single step."""
        raise ValueError("step runs forwards in time but Bidirectional needs the whole sequence: use apply")

    def output_of(self, carry: PyTree) -> Any:
        """Return the last outputs of both directions, merged."""
        return MERGES[self.merge](*(layer.output_of(carry[name]) for name, layer in self._directions()))

    def _directions(self) -> tuple[tuple[str, Layer], tuple[str, Layer]]:
        return ("forward", self.layer), ("backward", self.layer.flipped())
