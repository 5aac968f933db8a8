"""How to go through the layers inside a layer. A layer without children answers for itself."""

from collections.abc import Callable, Mapping
from typing import Any

from jlstm.cell import PyTree


class Tree:
    """The methods of every `Layer` that go through the layers inside it. `Composite` has those of layers with children."""

    @property
    def children(self) -> Mapping[Any, Any]:
        """The layers that this one is made of, by the keys of their parameters. Empty, unless this is a `Composite`."""
        return {}

    def map(self, function: Callable[..., Any], *trees: PyTree | None) -> PyTree:
        """Apply a function to this layer or, if it is made of other layers, to each layer inside it that has no children.

        Args:
            function: Called as `function(layer, *entries)`, with the layer's entry in each tree.
            *trees: Trees such as the parameters or the carry. None gives None to every layer.

        Returns:
            The results, in a tree like the parameters.
        """
        return function(self, *trees)

    def map_layers(self, function: Callable[[Any], Any]) -> Any:
        """Return this layer with each layer inside it that has no children replaced by `function(layer)`."""
        return function(self)

    def leaves(self) -> list[tuple[tuple[Any, ...], Any]]:
        """Return the layers inside this one that have no children, each with the path of its parameters. In order of use."""
        return [((), self)]

    def unmerge(self) -> Any:
        """Return this layer with the outputs of its two directions kept apart, if they are merged.

        Raises:
            ValueError: The directions are themselves merged from two, so that no step is the last.
        """
        return self
