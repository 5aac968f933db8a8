"""The graph of saved objects in a TensorFlow 2 checkpoint.

The graph lists the children of each object by attribute name. For each variable, it states the name of its array and the full
name of the variable, such as "encoder/lstm/lstm_cell/kernel". The graph may have cycles and several paths to one object, but it
lists each object once.

Reference: TensorFlow,
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from jlstm.convert.files import RefusalError

# Limits on untrusted graphs: the letters of a path, and the objects visited below one object.
_MAX_PATH_LENGTH, _MAX_VISITS = 1024, 10_000


class Objects(NamedTuple):
    """The object graph of a checkpoint. Objects are identified by their numbers, and the root is number 0.

    Attributes:
        children: for each object, the numbers of its children by attribute name.
        parents: for each object but the root, its parent on the shortest path from the root, and its name there.
        variables: for each variable, the name of its array in the checkpoint and the full name of the variable.
        shapes: the shapes of the checkpoint's arrays by name.
    """

    children: list[dict[str, int]]
    parents: dict[int, tuple[int, str]]
    variables: dict[int, tuple[str, str]]
    shapes: Mapping[str, tuple[int, ...]]

    def path(self, number: int) -> str:
        """Return the shortest path from the root to an object.

        Raises:
            RefusalError: the path is too long.
        """
        names: list[str] = []
        while number in self.parents:
            number, name = self.parents[number]
            names.append(name)
            if sum(map(len, names)) > _MAX_PATH_LENGTH:
                raise RefusalError("it has paths of more than a thousand letters")
        return "/".join(reversed(names))

    def variables_below(self, number: int, without: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
        """Yield the path and number of each variable below an object, nearest first.

        The search stops after `_MAX_VISITS` objects. Of a long path, only the end is returned.

        Args:
            number: the object.
            without: the names of children of the object that are not searched.
        """
        visited = {number}
        queue = deque((name, child) for name, child in self.children[number].items() if name not in without)
        for _ in range(_MAX_VISITS):
            if not queue:
                return
            name, child = queue.popleft()
            if child in visited:
                continue
            visited.add(child)
            if child in self.variables:
                yield name, child
            # Only the ends of paths are kept: names come from the file and would grow with every level.
            queue.extend((f"{name[-80:]}/{last[-80:]}", grandchild) for last, grandchild in self.children[child].items())

    def variable_names(self, number: int, without: tuple[str, ...] = ()) -> list[str]:
        """Return the paths of the first few variables below an object, without the random state of a dropout.

        The arguments are those of `variables_below`.
        """
        return [name for name, _ in islice(self.variables_below(number, (*without, "seed_generator")), 6)]

    def arrays(self, number: int) -> set[str]:
        """Return the names of the arrays below an object."""
        return {self.variables[child][0] for _, child in self.variables_below(number)}


def parse(description: bytes, message: Any, shapes: Mapping[str, tuple[int, ...]]) -> Objects:
    """Parse `description`, a serialized `TrackableObjectGraph`, with that protobuf class as `message`.

    Raises:
        RefusalError: an object has a child that does not exist.
    """
    nodes = message.FromString(description).nodes
    children: list[dict[str, int]] = []
    variables = {}
    no_children: dict[str, int] = {}  # shared by all leaves, of which a graph has many
    for number, node in enumerate(nodes):
        children.append({child.local_name: child.node_id for child in node.children} or no_children)
        if any(not 0 <= child < len(nodes) for child in children[-1].values()):
            raise RefusalError("the description of its objects has a child that is not there")
        for attribute in node.attributes:
            if attribute.name == "VARIABLE_VALUE":
                variables[number] = attribute.checkpoint_key, attribute.full_name
    return Objects(children, _shortest(children), variables, shapes)


def _shortest(children: list[dict[str, int]]) -> dict[int, tuple[int, str]]:
    """Return the parent of each object on its shortest path from the root, by a breadth-first search."""
    parents: dict[int, tuple[int, str]] = {}
    queue = deque([0][: len(children)])
    while queue:
        number = queue.popleft()
        for name, child in children[number].items():
            if child and child not in parents:
                parents[child] = number, name
                queue.append(child)
    return parents


def model_variables(tree: Objects) -> set[str]:
    """Return the names of the arrays that can be reached from the root without passing through an optimizer."""
    visited, queue, names = {0}, deque([0][: len(tree.children)]), set()
    while queue:
        number = queue.popleft()
        names |= {tree.variables[number][0]} if number in tree.variables else set()
        for name, child in tree.children[number].items():
            if child not in visited and name.strip("_") != "optimizer":
                visited.add(child)
                queue.append(child)
    return names
