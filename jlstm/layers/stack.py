"""The layer `Stack`: layers in sequence, each on the outputs of the one before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Self

import jax
from jaxtyping import Array

from jlstm import backends
from jlstm._src import checks
from jlstm._src.loop import Results, Steps
from jlstm.cell import Params, PyTree
from jlstm.layers.composite import REMEDIES, ChildCall, Composite, Key
from jlstm.layers.layer import Layer


@dataclass(frozen=True, repr=False)
class Stack(Composite):
    """Run layers in sequence: the inputs of a layer are the outputs of the layer below it.

    All layers see the same mask and resets. Parameters, carry and dropout masks are tuples with one entry for each layer.

    Args:
        layers: the layers. The first one gets the inputs.

    Raises:
        ValueError: there are no layers, the layers disagree on `time_major`, a layer below another one has merge=None, or the
            outputs of a layer have other spatial sizes than the next layer takes.
        TypeError: an entry is not a Layer.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.Stack((jlstm.LSTM(6), jlstm.GRU(4)))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, carry[0].h.shape, params[1]["kernel"].shape
        ((2, 5, 4), (2, 6), (6, 12))
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
        return self.layers[-1].features_out

    @property
    def spatial_in(self) -> tuple[int, ...]:
        return self.layers[0].spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        return self.layers[-1].spatial_out

    @property
    def unmerged(self) -> bool:
        return self.layers[-1].unmerged

    @property
    def children(self) -> dict[Key, Layer]:
        return dict(enumerate(self.layers))

    def with_children(self, children: Mapping[Any, Layer]) -> Self:
        return type(self)(tuple(children.values()))

    def join(self, entries: Mapping[Any, Any]) -> PyTree:
        return tuple(entries.values())

    def split(self, name: str, tree: PyTree | None) -> dict[Key, Any]:
        """Return the entries of a tuple by the numbers of the layers, or None for each layer if `tree` is None.

        Raises:
            ValueError: `tree` is not a tuple with an entry for each layer.
        """
        count = len(self.layers)
        if tree is None:
            return dict.fromkeys(range(count))
        if not isinstance(tree, tuple) or len(tree) != count:
            received = f"a tuple of {len(tree)}" if isinstance(tree, tuple) else type(tree).__name__
            raise ValueError(f"{name} must be a tuple of {count}, one entry for each layer, got {received}: {REMEDIES[name]}")
        return dict(enumerate(tree))

    @property
    def output_keys(self) -> tuple[Key, ...]:
        return (len(self.layers) - 1,)

    def merge_outputs(self, outputs: Mapping[Any, Any]) -> Any:
        return outputs[len(self.layers) - 1]

    def split_outputs(self, outputs: Any) -> dict[Key, Any]:
        return {len(self.layers) - 1: outputs}

    def unmerge(self) -> Self:
        return replace(self, layers=(*self.layers[:-1], self.layers[-1].unmerge()))

    def calls(self, params: Params, xs: Any, carry: PyTree | None, **sequence: Any) -> Iterator[tuple[Key, ChildCall]]:
        """Yield each layer with the outputs of the layer below it as inputs."""
        carries = self.split("carry", carry)

        def run_from(first: int, xs: Any) -> Any:
            for k, layer in enumerate(self.layers[first:], first):
                _, xs = layer.apply(params[k], xs, carries[k], **sequence)
            return xs

        for k, layer in enumerate(self.layers):
            # `run_from` maps the outputs of this layer to those of the stack: a loss of the stack becomes one of this layer.
            yield k, ChildCall(layer, params[k], xs, carries[k], partial(run_from, k + 1))
            if k + 1 < len(self.layers):
                _, xs = layer.apply(params[k], xs, carries[k], **sequence)

    def draw(self, key: Array, features: int) -> Params:
        sizes = (features, *(layer.features_out for layer in self.layers))  # one more than layers: zip drops it
        return tuple(layer.draw(k, size) for layer, k, size in zip(self.layers, self._keys(key), sizes, strict=False))

    def run(
        self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, dropout_masks: PyTree, states: bool
    ) -> Results:
        """Run each layer over the whole sequence before the next one; see `Layer.run` for the arguments.

        The carry and the states of the results are tuples with an entry for each layer.

        Raises:
            ValueError: `carry` or `dropout_masks` is not such a tuple.
        """
        carries, masks, keys = self.split("carry", carry), self.split("dropout_masks", dropout_masks), self._keys(key)
        results = []
        for k, layer in enumerate(self.layers):
            with backends.part(f"layer {k}"):  # `jlstm.explain` says "layer 0", … in its lines on this layer
                results.append(layer.run(params[k], steps, carries[k], keys[k], masks[k], states))
            steps = steps._replace(xs=results[-1].ys)
        return Results(tuple(result.carry for result in results), steps.xs, tuple(result.states for result in results))

    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:
        carries = self.split("carry", carry)
        for k, layer in enumerate(self.layers):
            carries[k], x = layer.run_step(params[k], carries[k], x, reset)
        return self.join(carries), x

    def _keys(self, key: Array | None) -> Any:
        """Return a random key for each layer, or None for each if there is no key."""
        return (None,) * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
