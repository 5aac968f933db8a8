"""Layers that are made of other layers: what `Stack` and `Bidirectional` have in common."""

import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from jlstm.cell import Params, PyTree
from jlstm.layers.layer import Layer

Key = str | int
REMEDIES = {
    "params": "pass what init of this layer returned",
    "carry": "pass what apply of this layer returned",
    "dropout_masks": "pass the masks of each layer, or None where there are none",
}


class ChildCall(NamedTuple):
    """How a composite layer calls one of its children.

    Attributes:
        child: The layer that is called.
        params: Its parameters.
        xs: Its inputs.
        carry: Its initial carry, or None.
        outputs: Maps its outputs to the outputs of the composite layer.
    """

    child: Layer
    params: Params
    xs: Any
    carry: PyTree | None
    outputs: Callable[[Any], Any]


class Composite(Layer):
    """A layer made of other layers, its children. A new kind defines the abstract methods that it inherits.

    Parameters, carry and dropout masks are trees with one entry for each child: `tree[key]` belongs to `children[key]`.
    """

    @property
    @abc.abstractmethod
    def children(self) -> dict[Key, Layer]:
        """The layers that this one is made of, by the keys of their parameters."""

    @abc.abstractmethod
    def with_children(self, children: Mapping[Any, Layer]) -> Self:
        """Return this layer with other children. The keys are those of `children`."""

    @abc.abstractmethod
    def join(self, entries: Mapping[Any, Any]) -> PyTree:
        """Return a tree like the parameters, with an entry for each child."""

    @abc.abstractmethod
    def split(self, name: str, tree: PyTree | None) -> dict[Key, Any]:
        """Return the entry of each child in a tree, or None for each child if the tree is None.

        Args:
            name: What the tree is, "params", "carry" or "dropout_masks".
            tree: A tree that a caller passed.

        Raises:
            ValueError: The tree does not have one entry for each child.
        """

    @property
    @abc.abstractmethod
    def output_keys(self) -> tuple[Key, ...]:
        """The keys of the children whose outputs the output of this layer is made of."""

    @abc.abstractmethod
    def merge_outputs(self, outputs: Mapping[Any, Any]) -> Any:
        """Return the outputs of this layer from those of the children in `output_keys`, of all steps or of the last one."""

    @abc.abstractmethod
    def split_outputs(self, outputs: Any) -> dict[Key, Any]:
        """Return the outputs of each child that `merge_outputs` needs, from the outputs of `unmerge()`."""

    @abc.abstractmethod
    def calls(self, params: Params, xs: Any, carry: PyTree | None, **sequence: Any) -> Iterator[tuple[Key, ChildCall]]:
        """Yield how `apply` calls each child. `sequence` has the other arguments of `apply`, which all children get."""

    @property
    def stochastic(self) -> bool:
        return any(child.stochastic for child in self.children.values())

    @property
    def time_major(self) -> bool:
        """Whether time is the first axis of inputs and outputs. All children agree on it."""
        return next(iter(self.children.values())).time_major

    def flipped(self) -> Self:
        return self.with_children({key: child.flipped() for key, child in self.children.items()})

    def map(self, function: Callable[..., Any], *trees: PyTree | None) -> PyTree:
        return self.join(
            {
                key: child.map(function, *(None if tree is None else tree[key] for tree in trees))
                for key, child in self.children.items()
            }
        )

    def map_layers(self, function: Callable[[Layer], Layer]) -> Self:
        return self.with_children({key: child.map_layers(function) for key, child in self.children.items()})

    def leaves(self) -> list[tuple[tuple[Any, ...], Any]]:
        """Return the layers inside this one that have no children, with their paths, see `Layer.leaves`."""
        return [((key, *path), leaf) for key, child in self.children.items() for path, leaf in child.leaves()]

    def features_in(self, params: Params) -> int:
        """Return the number of features of the inputs that the first child's parameters are for.

        This is right for a Stack, whose first layer gets the inputs, and for a Bidirectional, whose directions both do.
        """
        key, child = next(iter(self.children.items()))
        return child.features_in(params[key])

    def begin(self, params: Params, batch_shape: tuple[int, ...], dtype: Any) -> PyTree:
        """Return the initial carries of all children, in a tree like the parameters.

        Raises:
            ValueError: `params` does not have one entry for each child.
        """
        if params is None:
            raise ValueError(f"params must be what init of this layer returned, got None: {REMEDIES['params']}")
        entries = self.split("params", params)
        return self.join({key: child.begin(entries[key], batch_shape, dtype) for key, child in self.children.items()})

    def output_of(self, carry: PyTree) -> Any:
        """Return the last outputs of the children that the output is made of, merged as their outputs are.

        Raises:
            TypeError: `carry` is None.
            ValueError: `carry` does not have one entry for each child.
        """
        if carry is None:
            raise TypeError
        entries = self.split("carry", carry)
        return self.merge_outputs({key: self.children[key].output_of(entries[key]) for key in self.output_keys})
