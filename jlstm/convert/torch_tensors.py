"""Search for tensors in a parsed pickle of PyTorch. Each tensor is a view of a storage, and gets the name of a `state_dict`."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jlstm.convert.files import RefusalError
from jlstm.convert.pickles import Global, Value, text

FLOATS = {"DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"}
# The total length of all names, for each byte of the pickle. A dict that is in several other dicts has several names, and the
# number of names grows exponentially with the depth.
_CHARACTERS_PER_BYTE = 64
_PLAIN = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_DICTS = ("collections.OrderedDict", "collections.defaultdict", "collections.Counter")
METHOD = "a method"  # in the place of a class: a method made the object
_MODULE_DICTS = ("_parameters", "_buffers", "_modules")  # attributes of torch.nn.Module, in the order of `state_dict`


class Storage(NamedTuple):
    """A storage in a file: its key, its type such as "FloatStorage", and its number of elements."""

    key: str
    kind: str
    size: int


class Tensor(NamedTuple):
    """A view of a storage of floats. The offset and the strides are counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Unreadable(NamedTuple):
    """A value that is not a tensor of floats.

    Attributes:
        description: what it is instead, for messages.
        is_tensor: whether it is a tensor in PyTorch.
    """

    description: str
    is_tensor: bool


def find_tensors(root: Any, size: int) -> tuple[dict[str, Tensor | Unreadable], dict[str, str]]:
    """Return the tensors of a pickle by name.

    The keys of dicts, the indices of lists and the names of submodules are joined by dots: the LSTM `rnn` of
    {"state_dict": {"rnn.weight_hh_l0": …}} is "state_dict.rnn". The state of an optimizer is left out.

    Args:
        root: the value that `pickles.described` returned.
        size: the size of the pickle in bytes.

    Returns:
        All tensors and objects by the names that they have in a `state_dict`, and the classes of pickled modules by name.

    Raises:
        RefusalError: two values have the same name, or the names are too long in total for a pickle of this size.
    """
    entries, classes = dict[str, Tensor | Unreadable](), dict[str, str]()
    pending, characters_left, visited = [("", root)], _CHARACTERS_PER_BYTE * size, set[int]()
    while pending:
        name, value = pending.pop()
        characters_left -= len(name) + 1
        if characters_left < 0:
            raise RefusalError("it holds the same thing too often")
        if not isinstance(value, Value):
            continue
        if (state := _module_state(value)) is not None:
            classes[name] = _class(value)
            parts: list[tuple[Any, Any]] = [item for part in _MODULE_DICTS for item in _items(state.get(part))]
        else:
            parts = [] if _is_optimizer_state(value) else list(_items(value))
            if value.kind == "object" and value[0] not in _DICTS and not _is_tensor(value[0]) and id(value) not in visited:
                visited.add(id(value))  # the attributes of objects may refer to each other in cycles
                parts += _items(value.state) if isinstance(value.state, Value) and value.state.kind == "dict" else []
            if value.kind == "object" and value[0] not in _DICTS and not parts:
                if name in entries:
                    raise RefusalError(f"it has two values with the name {name[:80]!r}")
                entries[name] = _entry(value)
        pending += [(f"{name}.{key}" if name else str(key), part) for key, part in reversed(parts)]
    return entries, classes


def _module_state(value: Value) -> dict[Any, Any] | None:
    """Return the attributes of a pickled module, or None if the value is not a module."""
    if value.kind != "object" or not isinstance(value.state, Value) or value.state.kind != "dict":
        return None
    state = {key: part for key, part in value.state.items() if isinstance(key, str)}
    return state if state.keys() >= set(_MODULE_DICTS) else None


def _class(value: Value) -> str:
    """Return the name of an object's class.

    In the format before PyTorch 1.6, the class of a module is a reference to ("module", class, file, source).
    """
    callee = value[0]
    if isinstance(callee, Value) and callee.kind == "object":
        return METHOD
    if isinstance(callee, Value):
        identifier = callee[0]
        callee = identifier[1] if isinstance(identifier, Value) and len(identifier) > 1 else "unknown"
    # Pickle protocols 0 and 1 call a helper function, whose first argument is the class.
    arguments = value[1] if isinstance(value[1], Value) else []
    return text(arguments[0] if callee in ("copyreg._reconstructor", "copy_reg._reconstructor") and arguments else callee)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the keys and values of a dict or of the items of an object, or the indices and elements of a list or tuple."""
    if isinstance(value, Value) and value.kind in ("list", "tuple"):
        yield from enumerate(value)
    elif isinstance(value, Value) and value.kind in ("dict", "object"):
        yield from ((key, part) for key, part in value.items() if isinstance(key, str | int))


def _is_optimizer_state(value: Value) -> bool:
    """Return whether a value is the `state_dict` of an optimizer."""
    return value.kind == "dict" and {"state", "param_groups"} <= {key for key, _ in value.items() if isinstance(key, str)}


def _is_tensor(callee: Any) -> bool:
    """Return whether a call of this function rebuilds a tensor."""
    return isinstance(callee, Global) and callee.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_"))


def _entry(value: Value) -> Tensor | Unreadable:
    """Return the tensor that an object describes, or a description of any other object."""
    callee = value[0]
    if not _is_tensor(callee):
        name = _class(value)
        description = "what a method returned" if name == METHOD else f"an object of class {name}"
        return Unreadable(description[:120], is_tensor=False)
    try:
        return _tensor(value)
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise RefusalError(f"it has a damaged tensor, {type(error).__name__}") from error


def _tensor(value: Value) -> Tensor | Unreadable:
    """Return the tensor that a call of a function of PyTorch rebuilds.

    Calls may be nested: a Parameter is rebuilt from a tensor, and a subclass of Tensor from a call of another function. Only
    subclasses that add nothing to a tensor are read.
    """
    function, arguments = value[0], value[1]
    while function != "torch._utils._rebuild_tensor_v2":
        if function in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            function, arguments = arguments[0]
        elif function == "torch._tensor._rebuild_from_type_v2" and arguments[1] in _PLAIN:
            function, arguments = arguments[0], arguments[2]
        elif function == "torch._utils._rebuild_tensor":  # an older function with the same first four arguments
            break
        elif function == "torch._utils._rebuild_tensor_v3":  # for dtypes without a storage class
            return Unreadable(f"a tensor of type {text(arguments[6])[:40].removeprefix('torch.')}", is_tensor=True)
        else:
            return Unreadable(f"a tensor that {text(function)[:80]} makes", is_tensor=True)
    storage = _storage(arguments[0])
    if isinstance(storage, Unreadable):
        return storage
    if storage.kind not in FLOATS:
        return Unreadable(f"a tensor of type {storage.kind[:40].removesuffix('Storage')}", is_tensor=True)
    # The seventh argument is metadata, which may set a bit that negates the elements when they are read.
    if len(arguments) > 6 and arguments[6] and any(is_set for _, is_set in arguments[6].items()):
        return Unreadable("a tensor that is negated when it is read", is_tensor=True)
    shape, strides = _sizes(arguments[2]), _sizes(arguments[3])
    if len(shape) != len(strides) or len(shape) > 32:
        raise ValueError
    return Tensor(storage, _whole(arguments[1]), shape, strides)


def _storage(reference: Value) -> Storage | Unreadable:
    """Return the storage that a reference names: ("storage", type, key, device, size).

    Files from before PyTorch 1.6 have a sixth field. It is not None if the storage is a view of another storage.
    """
    _, kind, key, _, size, *view = reference[0]
    if view and view[0] is not None:
        return Unreadable("a tensor in a view of a storage", is_tensor=True)
    return Storage(text(key), text(kind).rpartition(".")[2], _whole(size))


def _sizes(values: Any) -> tuple[int, ...]:
    """Return non-negative integers from a tuple or a torch.Size."""
    if isinstance(values, Value) and values.kind == "object":
        values = values[1][0]
    return tuple(map(_whole, values))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError
    return value


def storage_of(reference: Value) -> Storage | None:
    """Return the storage of a reference, or None if it refers to something else, such as the source code of a module.

    Raises:
        RefusalError: the reference is damaged.
    """
    try:
        if not isinstance(reference[0], Value) or reference[0][0] != "storage":
            return None
        _, kind, key, _, size, *_ = reference[0]
        return Storage(text(key), text(kind).rpartition(".")[2], _whole(size))
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise RefusalError(f"it has a damaged storage, {type(error).__name__}") from error
