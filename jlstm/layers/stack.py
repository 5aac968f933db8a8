"""The layer `Stack`: layers in sequence, each on the outputs of the one before."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import jax
from jaxtyping import Array

from jlstm import backends, checks
from jlstm.cell import Params, PyTree
from jlstm.layers.layer import Layer
from jlstm.loop import Results, Steps


@dataclass(frozen=True, repr=False)
class Stack(Layer):
    """Run layers in sequence: the inputs of a layer are the outputs of the layer below it.

    All layers see the same mask and resets. Parameters, carry and noise are tuples with one entry for each layer.

    Args:
        layers: the layers. The first one gets the inputs.

    Raises:
        ValueError: there are no layers, the layers disagree on `time_major`, a layer below another one has merge=None, or the
            outputs of a layer have other spatial sizes than the next layer takes.
        TypeError: an entry is not a Layer.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if isinstance(self.layers, Layer):
            raise TypeError("layers must be a tuple of Layers, got a single one: pass Stack((layer,))")
        self._store(layers=tuple(checks.several("layers", self.layers, "(LSTM(128), LSTM(64))")))
        if not self.layers:
            raise ValueError("layers must hold at least one layer, got none: pass Stack((LSTM(128), LSTM(64))), say")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"layers must be Layers such as LSTM(units), got {checks.brief(layer)}")
        if len({layer.time_major for layer in self.layers}) > 1:
            raise ValueError("layers must agree on time_major, got both: set it on all of them or on none")
        for layer, above in pairwise(self.layers):
            if layer.spatial_out != above.spatial_in:
                raise ValueError(
                    f"a layer must take what the one below it yields, spatial sizes {layer.spatial_out}, but one takes "
                    f"{above.spatial_in}: make it for {layer.spatial_out}"
                )
            if layer.unmerged:
                raise ValueError(
                    "only the last layer may have merge=None, since a layer takes one sequence and not two: merge below it"
                )

    @property
    def features_out(self) -> int:
        """Same as `features_out` of the last layer."""
        return self.layers[-1].features_out

    @property
    def spatial_in(self) -> tuple[int, ...]:
        """Same as `spatial_in` of the first layer."""
        return self.layers[0].spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        """Same as `spatial_out` of the last layer."""
        return self.layers[-1].spatial_out

    @property
    def unmerged(self) -> bool:
        """Whether the last layer returns a dict of two sequences."""
        return self.layers[-1].unmerged

    @property
    def stochastic(self) -> bool:
        """Whether any layer has dropout or other noise."""
        return any(layer.stochastic for layer in self.layers)

    @property
    def time_major(self) -> bool:
        """Whether time is the first axis of inputs and outputs. All layers agree on it."""
        return self.layers[0].time_major

    def flipped(self) -> Self:
        """Return a stack whose layers all run in the other direction."""
        return type(self)(tuple(layer.flipped() for layer in self.layers))

    def draw(self, key: Array, features: int) -> Params:
        """Draw the parameters of all layers."""
        sizes = (features, *(layer.features_out for layer in self.layers))  # one more than layers: zip drops it
        return tuple(layer.draw(k, size) for layer, k, size in zip(self.layers, self._keys(key), sizes, strict=False))

    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
        """Return the initial carries of all layers."""
        if not isinstance(params, tuple) or len(params) != len(self.layers):
            raise ValueError(
                f"params must be a tuple of {len(self.layers)}, the parameters of each layer: pass what init returned"
            )
        return tuple(layer.begin(p, batch_shape, dtype) for layer, p in zip(self.layers, params, strict=True))

    def run(self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, noise: PyTree, states: bool) -> Results:
        """Run each layer over the whole sequence before the next one."""
        if noise is not None and (not isinstance(noise, tuple) or len(noise) != len(self.layers)):
            raise ValueError(f"noise must be a tuple of {len(self.layers)}, each the noise of that layer or None")
        entries = (params, carry or self._nothing(), self._keys(key), noise or self._nothing())
        carries: list[PyTree] = []
        all_states: list[PyTree] = []
        for layer, p, c, k, n in zip(self.layers, *entries, strict=True):
            with backends.part(f"layer {len(carries)}"):
                result = layer.run(p, steps, c, k, n, states)
            steps = steps._replace(xs=result.ys)
            carries.append(result.carry)
            all_states.append(result.states)
        return Results(tuple(carries), steps.xs, tuple(all_states))

    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:
        """Run one step of each layer."""
        carries = []
        for layer, p, c in zip(self.layers, params, carry or self._nothing(), strict=True):
            layer_carry, x = layer.run_step(p, c, x, reset)
            carries.append(layer_carry)
        return tuple(carries), x

    def output_of(self, carry: PyTree) -> Any:
        """Return the last output of the last layer."""
        if not isinstance(carry, tuple) or len(carry) != len(self.layers):
            raise TypeError
        return self.layers[-1].output_of(carry[-1])

    def _keys(self, key: Array | None) -> Any:
        return self._nothing() if key is None else jax.random.split(key, len(self.layers))

    def _nothing(self) -> tuple[None, ...]:
        return (None,) * len(self.layers)
