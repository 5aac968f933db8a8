"""The layer `Bidirectional`: run a layer over a sequence in both directions."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm import backends
from jlstm._src import checks
from jlstm._src.loop import Results, Steps
from jlstm.cell import Params, PyTree
from jlstm.layers.composite import REMEDIES, ChildCall, Composite, Key
from jlstm.layers.layer import Layer

MERGES: dict[str | None, Callable[[Array, Array], Any]] = {
    "concat": lambda forward, backward: jnp.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
    None: lambda forward, backward: {"forward": forward, "backward": backward},
}


@dataclass(frozen=True, repr=False)
class Bidirectional(Composite):
    """Run a layer over the sequence and a second copy of it over the reversed sequence, and merge both outputs.

    The two directions have the same options and separate parameters. Parameters, carry and dropout masks are dicts with the keys
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

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.Bidirectional(jlstm.LSTM(4))
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, carry["backward"].h.shape
        ((2, 5, 8), (2, 4))
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
        return self.layer.spatial_in

    @property
    def spatial_out(self) -> tuple[int, ...]:
        return self.layer.spatial_out

    @property
    def unmerged(self) -> bool:
        return self.merge is None

    @property
    def children(self) -> dict[Key, Layer]:
        return {"forward": self.layer, "backward": self.layer.flipped()}

    def with_children(self, children: Mapping[Any, Layer]) -> Self:
        """Return this layer around another one, the forward direction. The backward direction must be its mirror image."""
        return replace(self, layer=children["forward"])

    def join(self, entries: Mapping[Any, Any]) -> PyTree:
        return dict(entries)

    def split(self, name: str, tree: PyTree | None) -> dict[Key, Any]:
        """Return the entries of a dict by direction, or None for each direction if `tree` is None.

        Raises:
            ValueError: `tree` is not a dict with the keys "forward" and "backward".
        """
        if tree is None:
            return dict.fromkeys(("forward", "backward"))
        if not isinstance(tree, Mapping) or tree.keys() != {"forward", "backward"}:
            entries = (", ".join(map(repr, tree)) or "an empty dict") if isinstance(tree, Mapping) else type(tree).__name__
            raise ValueError(f"{name} must be a dict with 'forward' and 'backward', got {entries}: {REMEDIES[name]}")
        return dict(tree)

    @property
    def output_keys(self) -> tuple[Key, ...]:
        return "forward", "backward"

    def merge_outputs(self, outputs: Mapping[Any, Any]) -> Any:
        return MERGES[self.merge](outputs["forward"], outputs["backward"])

    def split_outputs(self, outputs: Any) -> dict[Key, Any]:
        return dict(outputs)

    def unmerge(self) -> Self:
        """Return this layer with merge=None. Raise ValueError for a Bidirectional around another one."""
        if self.layer.unmerge() != self.layer:
            raise ValueError("a Bidirectional around another has no last step: pool with 'mean' or 'max', or put them in a tuple")
        return replace(self, merge=None)

    def calls(self, params: Params, xs: Any, carry: PyTree | None, **sequence: Any) -> Iterator[tuple[Key, ChildCall]]:
        carries = self.split("carry", carry)

        # The outputs of this layer as a function of those of one direction: a loss of this layer becomes one of the direction.
        def merge_with(key: Key, ys: Any) -> Any:
            other = "backward" if key == "forward" else "forward"
            _, other_ys = self.children[other].apply(params[other], xs, carries[other], **sequence)
            return self.merge_outputs({key: ys, other: other_ys})

        for key, child in self.children.items():
            yield key, ChildCall(child, params[key], xs, carries[key], partial(merge_with, key))

    def draw(self, key: Array, features: int) -> Params:
        return {
            name: layer.draw(k, features) for (name, layer), k in zip(self.children.items(), jax.random.split(key), strict=True)
        }

    def run(
        self, params: Params, steps: Steps, carry: PyTree | None, key: Array | None, dropout_masks: PyTree, states: bool
    ) -> Results:
        """Run both directions and merge their outputs; see `Layer.run` for the arguments.

        The carry and the states of the results are dicts with the keys "forward" and "backward".

        Raises:
            ValueError: `carry` or `dropout_masks` is not such a dict.
        """
        carries, masks = self.split("carry", carry), self.split("dropout_masks", dropout_masks)
        keys = (None, None) if key is None else jax.random.split(key)
        results = {}
        for (name, layer), k in zip(self.children.items(), keys, strict=True):
            with backends.part(str(name)):  # `jlstm.explain` says "forward" or "backward" in its lines on this direction
                results[name] = layer.run(params[name], steps, carries[name], k, masks[name], states)
        ys = self.merge_outputs({name: result.ys for name, result in results.items()})
        all_carries, all_states = (
            {name: getattr(result, field) for name, result in results.items()} for field in ("carry", "states")
        )
        return Results(all_carries, ys, all_states)

    def run_step(self, params: Params, carry: PyTree | None, x: Array, reset: Array | None) -> tuple[PyTree, Array]:  # noqa: ARG002
        """Raise ValueError: the backward direction starts at the end of the sequence, so there is no single step."""
        raise ValueError("step runs forwards in time but Bidirectional needs the whole sequence: use apply")
