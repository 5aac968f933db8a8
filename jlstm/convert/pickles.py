"""How much a pickle holds, counted before anything reads it; what is in it twice counts twice.

In two hundred bytes a pair may hold the same pair twice, that one another pair twice, and so on: to print it takes for ever.
"""

import pickletools
from graphlib import TopologicalSorter
from typing import Any

from jlstm.convert.files import RefusalError

_GROW = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
_PARTS = 64  # that a value may have for each byte of the pickle

Value = list["Value"]  # no more than the values that it holds


def checked(content: bytes) -> None:
    """Count without building anything.

    Raises:
        RefusalError: it is no pickle, or some value has far more parts than the pickle has bytes.
    """
    try:
        values = {id(value): value for value in _values(content)}
        most, parts = _PARTS * len(content), dict[int, int]()
        for one in TopologicalSorter({one: [id(part) for part in value] for one, value in values.items()}).static_order():
            parts[one] = 1 + sum(parts[id(part)] for part in values[one])
            if parts[one] > most:
                raise RefusalError("it holds the same thing too often")
    except RefusalError:
        raise
    except (ValueError, LookupError) as error:
        raise RefusalError(f"it is no whole pickle, {type(error).__name__}") from error


def _values(content: bytes) -> list[Value]:
    """All values that are made on the way."""
    made, stack, marks, memo = list[Value](), list[Value](), list[int](), dict[Any, Value]()
    for code, argument, _ in pickletools.genops(content):
        if code.name == "MARK":
            marks.append(len(stack))
        elif "PUT" in code.name or code.name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif "GET" in code.name:
            stack.append(memo[argument])
        else:
            taken = len(code.stack_before)
            if pickletools.markobject in code.stack_before:
                taken = code.stack_before.index(pickletools.markobject) + len(stack) - marks.pop()
            if taken > len(stack):
                raise IndexError
            parts = stack[len(stack) - taken :]
            del stack[len(stack) - taken :]
            if code.name in _GROW:
                parts[0].extend(parts[1:])
                stack.append(parts[0])
            else:
                new: list[Value] = [list(parts) for _ in code.stack_after]
                made += new
                stack += new
    return made
