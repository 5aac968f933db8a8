"""Search for TensorFlow 1 cells in a checkpoint by the scopes of their variables, and their combination into layers.

The names of variables tell the classes of cells and how the cells are combined:

…/lstm_cell_1/kernel                                                   the second LSTM cell in its scope
…/multi_rnn_cell/cell_0/lstm_cell/kernel                               the lowest cell of a `MultiRNNCell`
…/bidirectional_rnn/fw/lstm_cell/kernel                                the forward direction of a `bidirectional_rnn`
…/stack_bidirectional_rnn/cell_0/bidirectional_rnn/fw/lstm_cell/kernel the lowest of several bidirectional layers
…/lstm_cell/kernel/Adam                                                an optimizer slot of a variable
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

from jlstm.cell import Params
from jlstm.convert import layout, tf1_cells
from jlstm.layers import Bidirectional, Layer
from jlstm.layers.shapes import features_in

LayerAndParams = tuple[Layer, Params]
Result = LayerAndParams | str  # a layer, or the reason why it is skipped


class CombinedLayer(NamedTuple):
    """A layer, or the reason why it is skipped, and the scopes of its cells."""

    layer: Result
    cells: tuple[str, ...]


_CELL = re.compile(r"(?!multi_rnn_cell)(?P<kind>\w*?_cell|[A-Z]\w*Cell)(?:_\d+)?")
_NOT_CELL = re.compile(r"MultiRNNCell")
_RECURRENT = re.compile(r"(?i)lstm|gru|rnn")
_WRAPPER = re.compile(r"(?i)wrapper|attention")
# A scope in a `MultiRNNCell`, a stack of bidirectional layers, or a bidirectional layer. The greedy `outer` finds the innermost.
_JOINT = re.compile(
    r"(?P<outer>(?:.*/)?)(?:(?P<stack>(?:multi_rnn_cell|stack_bidirectional_rnn)(?:_\d+)?)/cell_(?P<depth>\d{1,9})|(?P<side>fw|bw))"
    r"/(?P<inner>.+)",
    re.DOTALL,
)
_OF_LAYER = re.compile(r"(?P<parent>.+)/(?:\w*_cell|stack_bidirectional_rnn)(?:_\d+)?", re.DOTALL)


class Scopes(NamedTuple):
    """The variables of a checkpoint, grouped by their names.

    Attributes:
        cells: for each cell's scope, the full names of its variables by their names within the scope.
        slots: the names of variables of optimizers and moving averages.
        unrecognized: other scopes with names like those of recurrent layers, with the reason why they are skipped.
        wrapped: scopes of cells inside a wrapper that has variables too, with the reason why they are skipped.
    """

    cells: dict[str, dict[str, str]]
    slots: set[str]
    unrecognized: dict[str, str]
    wrapped: dict[str, str]


def scopes(ranks: Mapping[str, int]) -> Scopes:
    """Group the variables of a checkpoint by scope.

    Args:
        ranks: the number of axes of each variable by name.
    """
    slots = {name for name in ranks if _slot(name, ranks)}
    parents = {name.rpartition("/")[0] for name in ranks.keys() - slots}
    cells: dict[str, dict[str, str]] = {}
    outside_cells: list[str] = []
    for name in sorted(ranks.keys() - slots):
        scope = _cell_scope(name, parents)
        if scope is None:
            outside_cells.append(name)
        else:
            cells.setdefault(scope, {})[name[len(scope) + 1 :]] = name
    return Scopes(cells, slots, _unrecognized(outside_cells, ranks), _wrapped(cells, outside_cells))


def _slot(name: str, names: Mapping[str, int]) -> bool:
    """Return whether a variable is an optimizer slot. A slot's name is a variable's name, a slash and the slot's own name."""
    variable, _, last = name.rpartition("/")
    while variable:
        if variable in names:
            # A slot has the shape of its variable. A part of the variable, such as the norm of a weight, has another rank.
            return last[:1].isupper() or names[variable] == names[name]
        if not last[:1].isupper():
            return False
        # The optimizer's scope may come first: "train/rnn/lstm_cell/kernel/Adam" is a slot of "rnn/lstm_cell/kernel".
        variable = variable.partition("/")[2]
    return False


def _cell_scope(name: str, parents: set[str]) -> str | None:
    """Return the scope of a variable's cell, or None if it has none.

    This is the outermost scope with a cell's name that directly contains a variable. If there is none, it is the innermost.
    """
    *components, _ = name.split("/")
    innermost = None
    for k, component in enumerate(components[:64]):  # a limit on untrusted names: each level copies the prefix
        if _CELL.fullmatch(component) and not _NOT_CELL.fullmatch(component):
            innermost = "/".join(components[: k + 1])
            if innermost in parents:
                break
    return innermost


def _unrecognized(names: Iterable[str], ranks: Mapping[str, int]) -> dict[str, str]:
    """Return the scopes of variables outside cells that look recurrent, with the reason why they are skipped."""
    reasons: dict[str, str] = {}
    for name in names:
        scope, _, last = name.rpartition("/")
        if "opaque" in last:
            reasons[scope or name] = (
                f"its {last[:80]!r} is in a layout that only CuDNN knows: save it by the saveable of CudnnLSTM, which "
                "writes kernels and biases"
            )
        elif ranks[name] > 1 and _RECURRENT.search(scope.rpartition("/")[2]):
            reasons.setdefault(scope, f"its variables, such as {last[:80]!r}, do not tell its class: pass them to load")
    return reasons


def _wrapped(cells: Iterable[str], outside_cells: Iterable[str]) -> dict[str, str]:
    """Return the cells inside a wrapper with variables, which change their inputs or outputs, with the reason to skip them.

    Args:
        cells: the scopes of all cells.
        outside_cells: the names of all variables outside cells.
    """
    wrapper_variables: dict[str, str] = {}
    for name in outside_cells:
        components = name.split("/")[:64]
        for k, component in enumerate(components[:-1]):
            if _WRAPPER.search(component):
                wrapper_variables.setdefault("/".join(components[: k + 1]), name)
    reasons = {}
    for scope in cells:
        components = scope.split("/")[:64]
        outer = next((prefix for k in range(len(components)) if (prefix := "/".join(components[:k])) in wrapper_variables), None)
        if outer is not None:
            name = wrapper_variables[outer][len(outer) + 1 :]
            reasons[scope] = f"it is a part of {outer[-80:]!r}, which has {name[:80]!r} too: pass its variables to load"
    return reasons


def sounds_recurrent(scope: str) -> bool:
    """Return whether a scope has a name like that of a cell or a recurrent network."""
    last = scope.rpartition("/")[2]
    return bool(_CELL.fullmatch(last) or _RECURRENT.search(last))


def kind(scope: str) -> str:
    """Return the class of the cell at a scope, as the scope's name states it: that of "rnn/lstm_cell_1" is "lstm_cell".

    Return "" if the scope is not that of a cell.
    """
    match = _CELL.fullmatch(scope.rpartition("/")[2])
    return match["kind"] if match else ""


def unsupported_reason(scope: str, names: Iterable[str]) -> str:
    """Return why a cell cannot be converted, according to its class and the names of its variables; "" if it can."""
    cell, names = kind(scope), list(names)
    if "recurrent_kernel" in names:
        return "it is Keras's, saved by the names of its variables, which do not tell its options: pass them to keras.load"
    if cell not in tf1_cells.CELLS:
        old = " of before TensorFlow 1.0" if cell[:1].isupper() else ""
        return f"jlstm does not read a {cell[:80]!r}{old}: make a layer of your own, or pass its variables to load if it is alike"
    extra = [name for name in names if tf1_cells.current_name(name) not in tf1_cells.CELLS[cell].names]
    if extra:
        listed = ", ".join(repr(name[:80]) for name in sorted(extra)[:3])
        return f"it has {listed}, which a {cell!r} that jlstm reads has not: make a layer of your own"
    return ""


def combine(cells: Mapping[str, Result], merge: str | None = "concat") -> dict[str, CombinedLayer]:
    """Combine the cells of each `MultiRNNCell` and of each pair of directions into layers.

    Args:
        cells: the converted cells by scope, or the reasons why they are skipped.
        merge: how the outputs of two directions are merged.

    Returns:
        All layers by scope, including cells that are not part of a combination.
    """
    layers: dict[str, CombinedLayer] = {}
    # Groups that wait for all of their members: by the depth of the outer scope, then by outer scope and stack.
    pending: dict[int, dict[tuple[str, str], dict[str, CombinedLayer]]] = {}

    def add(scope: str, layer: Result, members: tuple[str, ...]) -> None:
        """Add a layer to the group that it is a member of or, without one, to the result."""
        joint = _JOINT.fullmatch(scope)
        group = layers
        if joint is not None:
            group = pending.setdefault(joint["outer"].count("/"), {}).setdefault((joint["outer"], joint["stack"] or ""), {})
        if scope in group:
            layer, members = "it is in one scope with another layer: pass their variables to load", members + group[scope].cells
        group[scope] = CombinedLayer(layer, members)

    for scope, layer in cells.items():
        add(scope, layer, (scope,))
    # The innermost groups come first: a bidirectional layer must be complete before it joins the stack around it.
    while pending:
        for (outer, stack), parts in pending.pop(max(pending)).items():
            results = {scope: part.layer for scope, part in parts.items()}
            members = tuple(cell for part in parts.values() for cell in part.cells)
            if stack:
                add(outer + stack, _stack(results), members)
            else:
                add(outer.rstrip("/"), _directions(results, merge), members)
    return layers


def _by_position(members: Mapping[str, Result], position: str) -> dict[str, LayerAndParams] | str:
    """Return the members by number or direction, or the reason why they cannot be combined.

    Args:
        members: the layers by scope, such as "…/multi_rnn_cell/cell_0/lstm_cell" or "…/bidirectional_rnn/fw/lstm_cell".
        position: which part of the scope is the key of the result: "depth" for the number, "0", or "side" for "fw" and "bw".
    """
    by_position: dict[str, LayerAndParams] = {}
    for scope, layer in members.items():
        joint = cast(re.Match[str], _JOINT.fullmatch(scope))
        label = f"cell_{joint['depth']}" if position == "depth" else joint["side"]
        if isinstance(layer, str):
            return f"in {label}, {layer}"
        if joint[position] in by_position:
            return f"its {label} has two cells: pass their variables to load one by one"
        by_position[joint[position]] = layer
    return by_position


def _stack(members: Mapping[str, Result]) -> Result:
    """Return a Stack of the cells of a `MultiRNNCell`, or the reason why they cannot be combined."""
    layers = _by_position(members, "depth")
    if isinstance(layers, str):
        return layers
    missing = next((k for k in range(len(layers)) if str(k) not in layers), None)
    if missing is not None:
        return f"its cell_{missing} is not in the checkpoint: pass the variables of the others to load"
    return stacked([layers[str(k)] for k in range(len(layers))])


def _directions(members: Mapping[str, Result], merge: str | None) -> Result:
    """Return a Bidirectional of the members fw and bw, or the reason why they cannot be combined."""
    sides = _by_position(members, "side")
    if isinstance(sides, str):
        return sides
    for name in ("fw", "bw"):
        if name not in sides:
            return f"its direction {name!r} is not in the checkpoint: pass the variables of the other to load"
    return bidirectional(sides["fw"], sides["bw"], merge)


def stacked(layers: Sequence[LayerAndParams]) -> Result:
    """Return several layers, the lowest first, as a Stack, and a single layer unchanged.

    If the sizes of the layers do not fit, return the reason as a string.
    """
    for k, ((below, _), (layer, params)) in enumerate(pairwise(layers)):
        if below.features_out != (features := features_in(layer, params)):
            return f"its cell {k + 1} takes {features} features and cell {k} gives {below.features_out}: load them one by one"
    return layout.stack(layers)


def bidirectional(forward: LayerAndParams, backward: LayerAndParams, merge: str | None) -> Result:
    """Return a Bidirectional of two layers. If they differ in kind or size, return the reason as a string."""
    # Both were converted as forward layers. Bidirectional itself runs the second one backwards.
    if forward[0] != backward[0] or features_in(*forward) != features_in(*backward):
        return "its two directions differ in kind or size: load them one by one"
    return Bidirectional(forward[0], merge), {"forward": forward[1], "backward": backward[1]}


def layer_names(layers: Iterable[str]) -> dict[str, str]:
    """Return a name for the layer at each scope: the parent scope if it contains no other layer, else the scope itself.

    A layer without any scope around it, "lstm_cell", is named by its own scope. The empty scope becomes "rnn".
    """
    parents = {scope: match["parent"] if (match := _OF_LAYER.fullmatch(scope)) else scope for scope in layers}
    counts = Counter([*parents.values(), *(scope for scope, parent in parents.items() if parent != scope)])
    return {scope: (parent if counts[parent] == 1 else scope) or "rnn" for scope, parent in parents.items()}
