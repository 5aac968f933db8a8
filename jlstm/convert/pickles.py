"""Safe parsing of pickles into plain values. Nothing that a pickle names is imported, constructed or called.

A pickle is a program for a stack machine. `pickle.load` runs it, and so executes what the file's author wants. The parser here
runs the same instructions, but an instruction that would import, call or construct something pushes a description of that.

Reference: Python's `pickletools`, which lists all instructions with their operands,
https://docs.python.org/3/library/pickletools.html.
"""

import pickletools
from collections.abc import Callable, Iterator
from functools import partial
from mmap import mmap
from typing import Any, cast

from jlstm.convert.files import RefusalError

# The parts that a tuple may have in all, for each byte of the pickle. A few bytes describe a tuple that holds another one twice,
# so the total grows exponentially with the depth, and so does the time to look at all parts.
_PARTS_PER_BYTE = 64
_GETATTR = ("builtins.getattr", "__builtin__.getattr")  # methods are pickled as calls of getattr
_EXTENDING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS")


class Global(str):
    """The name of a class or function, such as "collections.OrderedDict"."""

    __slots__ = ()


class Value(list[Any]):
    """A list of the parts of a container, an object or a reference.

    Attributes:
        kind: what the parts mean. "list", "tuple" and "set" have their elements as parts. A "dict" has keys and values in turn.
            An "object" has the class or function, its arguments and then, in turn, the keys and values of the items that were
            set on it. A "reference" to data outside the pickle, such as the storage of a tensor, has an identifier.
        size: the number of parts of a tuple, including those of the tuples in it. It is 1 for other kinds.
        state: the argument of the object's `__setstate__`, or None.
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
        """Return the items of a dict, or those that were set on an object."""
        start = 0 if self.kind == "dict" else 2
        return zip(self[start::2], self[start + 1 :: 2], strict=False)


def _object(parts: list[Any]) -> Value:
    """Return a description of the object that a call of a class or function would return.

    Raises:
        RefusalError: the callee is neither a class, a function nor a method. Printing any other callee could take exponential
            time: a list may hold the same list twice, which may hold another list twice, and so on.
    """
    callee, *arguments = parts
    # A reference is allowed, because files from before PyTorch 1.6 refer to the class of a module with its source code.
    is_method = isinstance(callee, Value) and callee.kind == "object" and callee[0] in _GETATTR
    if not is_method and not isinstance(callee, Global) and not (isinstance(callee, Value) and callee.kind == "reference"):
        raise RefusalError("it calls what is neither a class nor a function")
    return Value("object", [callee, *(arguments or [Value("tuple", [])])])


def text(value: Any) -> str:
    """Return a name or number as text.

    Raises:
        RefusalError: the value is a container or an object. Printing it could take exponential time.
    """
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
    """Parse a pickle.

    Args:
        content: the pickle, or a memory map positioned at its beginning. The map is then at the end of the pickle.
        size: the maximum size of the pickle in bytes. The memory that is used is proportional to it.

    Returns:
        The value that the pickle describes, in terms of numbers, text, bytes, None, `Global` and `Value`, and a list of all
        references in it.

    Raises:
        RefusalError: the content is not a complete pickle, or its tuples have too many parts in total. 200 bytes can describe a
            pair that holds the same pair twice, which holds another pair twice, and so on.
    """
    machine = _Machine(_PARTS_PER_BYTE * size)
    try:
        return machine.run(content), machine.references
    except RefusalError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RefusalError(f"it is no whole pickle, {type(error).__name__}") from error


class _Machine:
    """The stack machine that interprets a pickle.

    Attributes:
        max_size: the maximum total number of parts of a tuple.
        stack: the values.
        marks: for each mark, the length of the stack when it was set.
        memo: values that later instructions refer to, by their numbers.
        references: all references so far.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.stack = list[Any]()
        self.marks = list[int]()
        self.memo = dict[Any, Any]()
        self.references = list[Value]()

    def run(self, content: bytes | mmap) -> Any:
        """Interpret the instructions up to STOP, and return the value on top of the stack.

        Raises:
            RefusalError: the tuples have too many parts in total, or something is called that is neither a class nor a function.
            ValueError, LookupError, TypeError or AttributeError: the content is not a complete pickle.
        """
        for code, argument, _ in pickletools.genops(cast(Any, content)):
            if code.name == "STOP":
                return self.stack.pop()
            if code.name == "MARK":
                self.marks.append(len(self.stack))
            elif "PUT" in code.name or code.name == "MEMOIZE":
                # MEMOIZE has no argument, and numbers the values in sequence.
                self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
            elif "GET" in code.name:
                self.stack.append(self.memo[argument])
            elif code.name not in ("PROTO", "FRAME"):
                self.stack += self.results(code.name, argument, self.operands(code))
        raise ValueError

    def operands(self, code: pickletools.OpcodeInfo) -> list[Any]:
        """Pop the operands of an instruction: a fixed number of values, or all values after the last mark.

        Raises:
            IndexError: the operands go beyond the last mark or the bottom of the stack.
        """
        start = len(self.stack) - len(code.stack_before)
        if pickletools.markobject in code.stack_before:
            # Some instructions take values below the mark, too: APPENDS has the list there.
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
        return [] if name in ("POP", "POP_MARK") else [self.create(name, argument, parts)]

    def create(self, name: str, argument: Any, parts: list[Any]) -> Any:
        """Return the new value that an instruction makes of its argument and operands."""
        if name in ("GLOBAL", "INST"):
            global_name = Global(argument.replace(" ", "."))
            return global_name if name == "GLOBAL" else _object([global_name, Value("tuple", parts)])
        if name not in _MAKE:
            return _CONSTANTS.get(name, argument)  # numbers and text
        value = _MAKE[name](parts)
        if isinstance(value, Value) and value.size > self.max_size:
            raise RefusalError("it holds the same tuple too often")
        if name == "BINPERSID":
            self.references.append(value)
        return value


def _extend(name: str, value: Value, *parts: Any) -> None:
    """Append the operands of an instruction such as APPENDS or SETITEMS to a container or object."""
    if value.kind == "tuple":  # tuples are immutable, and `size` was counted when this one was created
        raise RefusalError("it extends a tuple")
    if name.startswith("SETITEM") and len(parts) % 2:
        raise ValueError
    value.extend(parts)
