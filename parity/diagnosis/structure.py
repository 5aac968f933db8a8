"""Faults of layers that contain layers: their order, their directions and how these are merged."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

import jlstm
from parity.diagnosis.fault import Fault
from parity.diagnosis.sequence import on_values, on_ys, with_options
from parity.problem import Problem
from parity.quantities import Quantities
from parity.textbook import MERGES
from parity.values import Values


def structures(problem: Problem, values: Values) -> Iterator[Fault]:
    """Yield the mistakes in the order of layers and directions that a side may have made, for the search to try."""
    layer = problem.layer
    if isinstance(layer, jlstm.Stack):
        yield from _stack_faults(values)
    if isinstance(layer, jlstm.Bidirectional):
        yield from _direction_faults(layer)
    if any("backward" in path for path, _ in layer.leaves()):
        yield Fault("the parameters of the directions are swapped", on_values(params=_swap_directions))
    if values.carry is not None and any("backward" in path for path, _ in layer.leaves()):
        yield Fault("the carries of the directions are swapped", on_values(carry=_swap_directions))


def _stack_faults(values: Values) -> Iterator[Fault]:
    if _reversible(values.params):
        yield Fault("the layers are in reverse order", on_values(params=lambda params: params[::-1]))
    if values.carry is not None and _reversible(values.carry):
        yield Fault("the carries of the layers are in reverse order", on_values(carry=lambda carry: carry[::-1]))


def _reversible(trees: Any) -> bool:
    # Layers in reverse order run only if the first and the last have the same shapes, and so on inwards.
    shapes = [jax.tree.map(np.shape, tree) for tree in trees]
    return shapes == shapes[::-1]


def _swap_directions(tree: Any) -> Any:
    """Return the tree with its directions swapped at every depth."""
    if isinstance(tree, dict) and tree.keys() == {"forward", "backward"}:
        return {"forward": tree["backward"], "backward": tree["forward"]}
    if isinstance(tree, tuple) and not hasattr(tree, "h"):  # a stack; a carry is a tuple too, but has no directions inside
        return tuple(map(_swap_directions, tree))
    return tree


def _direction_faults(layer: jlstm.Bidirectional) -> Iterator[Fault]:
    # The layer is run with merge=None, because the backward outputs cannot be recovered from a sum. They are merged here.
    def merge_reversed(_: Problem, __: Values, results: Quantities) -> Quantities:
        without_ys = {name: value for name, value in results.items() if not name.startswith("ys")}
        forward, backward = results["ys.forward"], results["ys.backward"][:, ::-1]
        if layer.merge is None:
            return without_ys | {"ys.forward": forward, "ys.backward": backward}
        return without_ys | {"ys": MERGES[layer.merge][0](forward, backward)}

    yield Fault(
        "the outputs of the backward direction are left in reverse order",
        with_options(layer=replace(layer, merge=None)),
        merge_reversed,
    )
    if layer.merge == "concat":
        yield Fault(
            "the outputs of the directions are joined in the other order",
            change_results=on_ys(lambda ys: np.concatenate(np.split(ys, 2, -1)[::-1], -1)),
        )
    if layer.merge is None:
        yield Fault("the outputs of the directions are swapped", change_results=_swap_names("ys"))
    yield Fault("the carries of the directions are swapped in the results", change_results=_swap_names("carry"))
    for merge in ("concat", "sum", "mul", "ave"):
        if layer.merge not in (merge, None):
            yield Fault(f"the directions are merged by {merge!r}", with_options(layer=replace(layer, merge=merge)))


def _swap_names(kind: str) -> Any:
    """Return a change of the results: quantities whose names begin with `kind` get the names of the other direction."""
    swapped_direction = {"forward": "backward", "backward": "forward"}

    def change_results(_: Problem, __: Values, results: Quantities) -> Quantities:
        return {
            ".".join(swapped_direction.get(part, part) for part in name.split(".")) if name.startswith(kind) else name: value
            for name, value in results.items()
        }

    return change_results
