"""A fault that a side may have: how it changes the problem, the values and the results."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from parity import textbook
from parity.problem import Problem
from parity.quantities import Quantities, in_pieces
from parity.values import Values

Path = tuple[Any, ...]  # of a cell among the layers, as in `layer.leaves()`
Before = Callable[[Problem, Values], tuple[Problem, Values]]
After = Callable[[Problem, Values, Quantities], Quantities]
Run = Callable[[Problem, Values], Quantities]
OfCell = Callable[[Any, dict[str, Any]], dict[str, Any] | None]


def outputs(problem: Problem, values: Values) -> Quantities:
    """Return the outputs and the last carry that the textbook computes, without gradients."""

    def run(piece: Values) -> Any:
        options = {"last": problem.outputs == "last", "zero_output": problem.zero_output}
        carry, ys, _ = textbook.run(
            problem.layer, piece.params, piece.xs, piece.carry, piece.mask, None, piece.dropout_masks, **options
        )
        return ys, carry, None, None, None

    return in_pieces(problem, values, run, None)


def _same_problem(problem: Problem, values: Values) -> tuple[Problem, Values]:
    return problem, values


def _same_results(_: Problem, __: Values, results: Quantities) -> Quantities:
    return results


@dataclass(frozen=True)
class Fault:
    """Something that may have gone wrong on a side.

    Args:
        description: the fault, as the end of a sentence that begins with "matches if".
        change_problem: changes the problem and its values, ahead of `run`.
        change_results: changes the results of `run`.
        run: computes the results of the changed problem.
        everywhere: whether the fault is in all cells, rather than in one of several.
    """

    description: str
    change_problem: Before = _same_problem
    change_results: After = _same_results
    run: Run = outputs
    everywhere: bool = True

    def results(self, problem: Problem, values: Values) -> Quantities:
        """Return the outputs and the last carry of a side with this fault."""
        problem, values = self.change_problem(problem, values)
        return self.change_results(problem, values, self.run(problem, values))

    def and_then(self, second: "Fault") -> "Fault":
        """Return both faults together: this one, then `second`. The `run` of `second` is used, not that of this fault."""
        # A fault with a `run` of its own must come second, because the `run` of the first one is dropped.
        return Fault(
            f"{self.description} and {second.description}",
            lambda problem, values: second.change_problem(*self.change_problem(problem, values)),
            lambda problem, values, results: second.change_results(
                problem, values, self.change_results(problem, values, results)
            ),
            second.run,
        )


def place(path: Path) -> str:
    """Return a path as the end of a sentence, such as " in layer 0"; "" for the only cell."""
    words = [f"layer {part}" if isinstance(part, int) else f"the {part} direction" for part in path]
    return " in " + ", ".join(words) if words else ""


def part_at(tree: Any, path: Path) -> Any:
    """Return the part of a tree at a path."""
    return part_at(tree[path[0]], path[1:]) if path else tree


def put(tree: Any, path: Path, part: Any) -> Any:
    """Return a copy of a tree with another part at a path."""
    if not path:
        return part
    inner = put(tree[path[0]], path[1:], part)
    # Dicts hold directions, tuples hold the layers of a stack.
    if isinstance(tree, dict):
        return tree | {path[0]: inner}
    return tuple(inner if k == path[0] else child for k, child in enumerate(tree))


def of_cells(description: str, problem: Problem, values: Values, change: OfCell) -> Iterator[Fault]:
    """Yield the fault that changes the parameters of all cells and, if there are several, one fault for each cell.

    Args:
        description: the fault, without the place.
        problem: what was run.
        values: its numbers.
        change: `(cell, params of the cell) -> changed params`, or None if the change is impossible.
    """
    changes = {}
    for path, layer in problem.layer.leaves():
        changed = change(layer.cell, part_at(values.params, path))
        if changed is not None:
            changes[path] = changed
    if changes:
        yield Fault(description, _params(changes))
    # A fault of a single cell finds a port that got one layer or one direction wrong.
    if len(problem.layer.leaves()) > 1:
        for path, changed in changes.items():
            yield Fault(description + place(path), _params({path: changed}), everywhere=False)


def _params(changed: dict[Path, Any]) -> Before:
    """Return a change of the problem that replaces the parameters of the cells at these paths."""

    def change_problem(problem: Problem, values: Values) -> tuple[Problem, Values]:
        params = values.params
        for path, part in changed.items():
            params = put(params, path, part)
        return problem, values._replace(params=params)

    return change_problem


def on_cells(layer: Any, change: Callable[[Any], Any]) -> Any:
    """Return the layer with all its cells changed."""
    return layer.map_layers(lambda leaf: replace(leaf, cell=change(leaf.cell)))
