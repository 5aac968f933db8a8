"""A fault that a side may have: how it changes the problem, the values and the results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from parity import textbook
from parity.problem import Problem
from parity.quantities import Quantities, in_pieces
from parity.values import Values

Path = tuple[Any, ...]
Before = Callable[[Problem, Values], tuple[Problem, Values]]
After = Callable[[Problem, Values, Quantities], Quantities]
Run = Callable[[Problem, Values], Quantities]
OfCell = Callable[[Any, dict[str, Any]], dict[str, Any] | None]


def outputs(problem: Problem, values: Values) -> Quantities:
    """Return the outputs and the last carry that the textbook computes, without gradients."""

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
        says: the fault, as the end of a sentence that begins with "matches if".
        before: changes the problem and its values.
        after: changes the results.
        run: computes the results in between.
        everywhere: whether the fault is in all cells, rather than in one of several.
    """

    says: str
    before: Before = _same_before
    after: After = _same_after
    run: Run = outputs
    everywhere: bool = True

    def results(self, problem: Problem, values: Values) -> Quantities:
        """Return the outputs and the last carry of a side with this fault."""
        problem, values = self.before(problem, values)
        return self.after(problem, values, self.run(problem, values))

    def and_then(self, other: "Fault") -> "Fault":
        """Return both faults together. The `run` of `other` is used."""
        return Fault(
            f"{self.says} and {other.says}",
            lambda problem, values: other.before(*self.before(problem, values)),
            lambda problem, values, results: other.after(problem, values, self.after(problem, values, results)),
            other.run,
        )


def place(path: Path) -> str:
    """Return a path in words that can end a sentence, such as " in layer 0"."""
    words = [f"layer {part}" if isinstance(part, int) else f"the {part} direction" for part in path]
    return " in " + ", ".join(words) if words else ""


def at(tree: Any, path: Path) -> Any:
    """Return the part of a tree at a path."""
    return at(tree[path[0]], path[1:]) if path else tree


def put(tree: Any, path: Path, part: Any) -> Any:
    """Return a copy of a tree with another part at a path."""
    if not path:
        return part
    inner = put(tree[path[0]], path[1:], part)
    if isinstance(tree, dict):
        return tree | {path[0]: inner}
    return tuple(inner if k == path[0] else child for k, child in enumerate(tree))


def of_cells(says: str, problem: Problem, values: Values, change: OfCell) -> Iterator[Fault]:
    """Yield the fault that changes the parameters of all cells and, if there are several, one fault for each cell.

    `change` takes a cell and its parameters and returns the changed parameters, or None if the change is impossible.
    """
    changes = {}
    for path, layer in problem.layer.leaves():
        changed = change(layer.cell, at(values.params, path))
        if changed is not None:
            changes[path] = changed
    if changes:
        yield Fault(says, _params(changes))
    if len(problem.layer.leaves()) > 1:
        for path, changed in changes.items():
            yield Fault(says + place(path), _params({path: changed}), everywhere=False)


def _params(changed: dict[Path, Any]) -> Before:
    def before(problem: Problem, values: Values) -> tuple[Problem, Values]:
        params = values.params
        for path, part in changed.items():
            params = put(params, path, part)
        return problem, values._replace(params=params)

    return before


def on_cells(layer: Any, change: Callable[[Any], Any]) -> Any:
    """Return the layer with all its cells changed."""
    return layer.map_layers(lambda leaf: replace(leaf, cell=change(leaf.cell)))
