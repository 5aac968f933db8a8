"""A fault that one side may have, as something to try: what it does to the problem, to its values and to the results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jlstm
from parity import textbook
from parity.case import Problem, Quantities, Values, in_pieces

Path = tuple[Any, ...]
Before = Callable[[Problem, Values], tuple[Problem, Values]]
After = Callable[[Problem, Values, Quantities], Quantities]
Run = Callable[[Problem, Values], Quantities]
OfCell = Callable[[Any, dict[str, Any]], dict[str, Any] | None]


def outputs(problem: Problem, values: Values) -> Quantities:
    """The outputs and the last carry as the textbook computes them, without gradients."""

    def run(piece: Values) -> Any:
        options = {"last": problem.outputs == "last", "zero_output": problem.zero_output}
        carry, ys, _ = textbook.run(problem.layer, piece.params, piece.xs, piece.carry, piece.mask, None, piece.noise, **options)
        return ys, carry, None, None, None

    return in_pieces(problem, values, run, None)


def _same_before(problem: Problem, values: Values) -> tuple[Problem, Values]:
    return problem, values


def _same_after(_: Problem, __: Values, results: Quantities) -> Quantities:
    return results


@dataclass(frozen=True)
class Fault:
    """Something that may have gone wrong on a side.

    Args:
        says: what, as the end of a sentence that begins with "matches if".
        before: what it does to the problem and its values.
        after: what it does to the results.
        run: what computes the results in between.
        everywhere: whether it is in all cells, not in one of several.
    """

    says: str
    before: Before = _same_before
    after: After = _same_after
    run: Run = outputs
    everywhere: bool = True

    def results(self, problem: Problem, values: Values) -> Quantities:
        """The outputs and the last carry that a side with this fault has."""
        problem, values = self.before(problem, values)
        return self.after(problem, values, self.run(problem, values))

    def and_then(self, other: "Fault") -> "Fault":
        """Both faults together; `other` is the one whose way to run counts."""
        return Fault(
            f"{self.says} and {other.says}",
            lambda problem, values: other.before(*self.before(problem, values)),
            lambda problem, values, results: other.after(problem, values, self.after(problem, values, results)),
            other.run,
        )


def cells(layer: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The runs of cells inside a layer, each with where its parameters are in the layer's tree."""
    if isinstance(layer, jlstm.Stack):
        for k, one in enumerate(layer.layers):
            yield from cells(one, (*path, k))
    elif isinstance(layer, jlstm.Bidirectional):
        yield from cells(layer.layer, (*path, "forward"))
        yield from cells(layer.layer, (*path, "backward"))
    else:
        yield path, layer


def place(path: Path) -> str:
    """Where that is, in words that follow a sentence."""
    words = [f"layer {part}" if isinstance(part, int) else f"the {part} direction" for part in path]
    return " in " + ", ".join(words) if words else ""


def at(tree: Any, path: Path) -> Any:
    """The part of a tree that is at a path."""
    return at(tree[path[0]], path[1:]) if path else tree


def put(tree: Any, path: Path, part: Any) -> Any:
    """The tree with another part at a path."""
    if not path:
        return part
    inner = put(tree[path[0]], path[1:], part)
    if isinstance(tree, dict):
        return tree | {path[0]: inner}
    return tuple(inner if k == path[0] else one for k, one in enumerate(tree))


def of_cells(says: str, problem: Problem, values: Values, change: OfCell) -> Iterator[Fault]:
    """The fault that changes the parameters of all cells and, where there are several, those that change one cell's.

    `change` takes a cell and its parameters and returns them changed, or None where that cannot be.
    """
    found = {}
    for path, layer in cells(problem.layer):
        changed = change(layer.cell, at(values.params, path))
        if changed is not None:
            found[path] = changed
    if found:
        yield Fault(says, _params(found))
    if len(list(cells(problem.layer))) > 1:
        for path, changed in found.items():
            yield Fault(says + place(path), _params({path: changed}), everywhere=False)


def _params(changed: dict[Path, Any]) -> Before:
    def before(problem: Problem, values: Values) -> tuple[Problem, Values]:
        params = values.params
        for path, part in changed.items():
            params = put(params, path, part)
        return problem, values._replace(params=params)

    return before


def on_cells(layer: Any, change: Callable[[Any], Any]) -> Any:
    """The layer with all its cells changed."""
    if isinstance(layer, jlstm.Stack):
        return replace(layer, layers=tuple(on_cells(one, change) for one in layer.layers))
    if isinstance(layer, jlstm.Bidirectional):
        return replace(layer, layer=on_cells(layer.layer, change))
    return replace(layer, cell=change(layer.cell))
