"""Safe parsing of pickles into plain values. Nothing that a pickle names is imported, constructed or called."""

import pickletools
from collections.abc import Callable, Iterator
from functools import partial
from mmap import mmap
from typing import Any, cast

from jlstm.convert.files import RefusalError

_PARTS = 64  # that a tuple may have for each byte of the pickle
_GETATTR = ("builtins.getattr", "__builtin__.getattr")  # makes a method
_EXTENDING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS")


class Global(str):
    """The name of a class or function, such as "collections.OrderedDict"."""

    __slots__ = ()


class Value(list[Any]):
    """A value that has parts, as the list of these.

    Attributes:
        kind: "list", "tuple" or "set"; "dict", whose parts are keys and values by turns; "object", whose parts are the class
            or function, its arguments and, by turns, the keys and values that it was filled with; "reference", to what the
            pickle does not hold itself, whose part is its identifier.
        size: of a tuple, how many parts it has in all, those of tuples in it included.
        state: what an object's state was set to, or None.
    """

    __slots__ = ("kind", "size", "state")

    def __init__(self, kind: str, parts: list[Any]) -> None:
        super().__init__(parts)
        self.kind = kind
        self.state = None
        self.size = 1
        if kind == "tuple":
            self.size += sum(part.size if isinstance(part, Value) else 1 for part in parts)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Keys and values that a dict holds, or that an object was filled with."""
        start = 0 if self.kind == "dict" else 2
        return zip(self[start::2], self[start + 1 :: 2], strict=False)


def _object(parts: list[Any]) -> Value:
    """Return a description of the object that a call of a class or function would return.

    A callee of any other type is refused: PyTorch would print it, and a list may hold the same list twice, that one another
    list twice, and so on.
    """
    callee, *arguments = parts
    method = isinstance(callee, Value) and callee.kind == "object" and callee[0] in _GETATTR
    if not method and not isinstance(callee, Global) and not (isinstance(callee, Value) and callee.kind == "reference"):
        raise RefusalError("it calls what is neither a class nor a function")
    return Value("object", [callee, *(arguments or [Value("tuple", [])])])


def text(value: Any) -> str:
    """Return a name or number as text. Lists are refused: one may hold another so often that to print it takes for ever."""
    if isinstance(value, Value):
        raise RefusalError(f"it has a {value.kind} where a name belongs")
    return str(value)


def _global(parts: list[Any]) -> Global:
    return Global(".".join(map(text, parts)))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MAKE: dict[str, Callable[[list[Any]], Any]] = {
    **{name: partial(Value, "list") for name in ("EMPTY_LIST", "LIST")},
    **{name: partial(Value, "dict") for name in ("EMPTY_DICT", "DICT")},
    **{name: partial(Value, "set") for name in ("EMPTY_SET", "FROZENSET")},
    **{name: partial(Value, "tuple") for name in ("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")},
    "STACK_GLOBAL": _global,
    "REDUCE": _object,
    "NEWOBJ": _object,
    "NEWOBJ_EX": lambda parts: _object(parts[:2]),
    "OBJ": lambda parts: _object([parts[0], Value("tuple", parts[1:])]),
    "BINPERSID": partial(Value, "reference"),
}


def described(content: bytes | mmap, size: int) -> tuple[Any, list[Value]]:
    """Return what a pickle describes, as numbers, text, bytes, None, `Global` and `Value`, and all references in it.

    Args:
        content: the pickle, or a file at its beginning, which is then read up to the pickle's end.
        size: how many bytes it has at most. The memory taken is in proportion to it.

    Raises:
        RefusalError: it is no whole pickle, or one that it would take for ever to look at all parts of: in two hundred bytes a
            pair may hold the same pair twice, that one another pair twice, and so on.
    """
    machine = _Machine(_PARTS * size)
    try:
        return machine.run(content), machine.references
    except RefusalError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RefusalError(f"it is no whole pickle, {type(error).__name__}") from error


class _Machine:
    """The stack machine that interprets a pickle: its stack, the marks on the stack, and the memo."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.stack = list[Any]()
        self.marks = list[int]()
        self.memo = dict[Any, Any]()
        self.references = list[Value]()

    def run(self, content: bytes | mmap) -> Any:
        for code, argument, _ in pickletools.genops(cast(Any, content)):
            if code.name == "STOP":
                return self.stack.pop()
            if code.name == "MARK":
                self.marks.append(len(self.stack))
            elif "PUT" in code.name or code.name == "MEMOIZE":
                self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
            elif "GET" in code.name:
                self.stack.append(self.memo[argument])
            elif code.name not in ("PROTO", "FRAME"):
                self.stack += self.results(code.name, argument, self.taken(code))
        raise ValueError

    def taken(self, code: pickletools.OpcodeInfo) -> list[Any]:
        """Pop the operands of an instruction: a fixed number of values, or all values after the last mark."""
        start = len(self.stack) - len(code.stack_before)
        if pickletools.markobject in code.stack_before:
            start = self.marks.pop() - code.stack_before.index(pickletools.markobject)
        if start < (self.marks[-1] if self.marks else 0):
            raise IndexError
        parts = self.stack[start:]
        del self.stack[start:]
        return parts

    def results(self, name: str, argument: Any, parts: list[Any]) -> list[Any]:
        """Return the values that an instruction pushes onto the stack."""
        if name in _EXTENDING:
            _extend(name, *parts)
            return parts[:1]
        if name == "BUILD":
            parts[0].state = parts[1]
            return parts[:1]
        if name == "DUP":
            return parts * 2
        return [] if name in ("POP", "POP_MARK") else [self.made(name, argument, parts)]

    def made(self, name: str, argument: Any, parts: list[Any]) -> Any:
        if name in ("GLOBAL", "INST"):
            named = Global(argument.replace(" ", "."))
            return named if name == "GLOBAL" else _object([named, Value("tuple", parts)])
        if name not in _MAKE:
            return _CONSTANTS.get(name, argument)  # numbers and text
        made = _MAKE[name](parts)
        if isinstance(made, Value) and made.size > self.most:
            raise RefusalError("it holds the same tuple too often")
        if name == "BINPERSID":
            self.references.append(made)
        return made


def _extend(name: str, value: Value, *parts: Any) -> None:
    if value.kind == "tuple":  # its size is told by now
        raise RefusalError("it extends a tuple")
    if name.startswith("SETITEM") and len(parts) % 2:
        raise ValueError
    value.extend(parts)
