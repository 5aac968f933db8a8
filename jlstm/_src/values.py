"""Checks of plain values that users pass. An error message is one sentence in one line of at most 300 characters.

In all of them, `name` is what the message calls the value.
"""

import errno
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

LARGEST = 2**31 - 1  # sizes and tokens are int32


def instance(name: str, value: Any, kind: type, example: str) -> None:
    """Require an instance of `kind`, or raise TypeError. `example` is one, as code, for the message."""
    if not isinstance(value, kind):
        # A module has its layer as the attribute `layer`, for example.
        remedy = f": pass its {name}, .{name}" if isinstance(getattr(value, name, None), kind) else ""
        raise TypeError(f"{name} must be a {kind.__name__} such as {example}, got {brief(value)}{remedy}")


def brief(value: Any) -> str:
    """Describe a value in one line of about 80 characters: an array by its shape and dtype, a long list by its length."""
    if isinstance(size := getattr(value, "shape", None), tuple) and size:
        return f"an array of shape {tuple(size)} and dtype {value.dtype}"
    if isinstance(value, Mapping | tuple | list) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"  # the repr of a large one may take long
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:60]} … ({type(value).__name__})"


def positive(name: str, value: Any, *words: str) -> int:
    """Return a whole number as int; require one from 1 to the largest int32, or raise ValueError. `words` are as in `whole`."""
    return whole(name, value, *words, least=1)


def whole(name: str, value: Any, *words: str, least: int = 0, largest: int = LARGEST) -> int:
    """Return a whole number as int; require one from `least` to `largest`, or raise ValueError, for another type too.

    `words` are other values that the caller allows, such as "None", for the message. They are not allowed here.
    """
    alternatives = "".join(f" or {word}" for word in words)
    # In Python a bool is an int too.
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}{alternatives}, got {brief(value)}")
    if value > largest:
        raise ValueError(f"{name} must be a whole number of at most {largest}{alternatives}, got {brief(value)}")
    return int(value)


def per_axis(name: str, value: Any, axes: int) -> int | tuple[int, ...]:
    """Return whole numbers of at least 1, one for each axis: a single number if all are the same, else a tuple.

    Args:
        name: what the message calls the value.
        value: a whole number, or one for each axis.
        axes: the number of axes.

    Raises:
        ValueError: there are not as many numbers as axes, or one is not a whole number of at least 1.
    """
    values = tuple(value) if isinstance(value, Iterable) else (value,) * axes
    if len(values) != axes:
        raise ValueError(f"{name} must be one whole number or {axes}, one for each spatial axis, got {brief(value)}")
    sizes = tuple(positive(name, size) for size in values)
    # 3 and (3, 3) mean the same, and cells with either must be equal.
    return sizes if len(set(sizes)) > 1 else sizes[0]


def rate(name: str, value: Any) -> float:
    """Return a dropout rate, the share of entries that are zeroed, as float; require one in [0, 1).

    Raises:
        TypeError: it is not a number.
        ValueError: it is out of range or NaN.
    """
    value = number(name, value, nan=True)  # the comparison below refuses NaN, with a message about rates
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be a rate in [0, 1), the share that is zeroed, got {brief(value)}")
    return value


def number(name: str, value: Any, *, nan: bool = False) -> float:
    """Return a number as a Python float. A scalar of NumPy or JAX could promote the dtype of an array in a product.

    Raises:
        TypeError: the value is not a number. A bool, a string and an array with axes are none.
        ValueError: it is too large for a float, or is NaN and `nan` does not allow it.
    """
    try:
        # `float` would take these: True, "3", and arrays with one element.
        if isinstance(value, bool | str | bytes) or getattr(value, "ndim", None):
            raise TypeError
        converted = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number, got {brief(value)}") from error
    except OverflowError as error:
        raise ValueError(f"{name} must be a number that a float can hold, got a larger one") from error
    if math.isnan(converted) and not nan:
        raise ValueError(f"{name} must be a number, got NaN")
    return converted


def probability(name: str, value: Any) -> float:
    """Return a number from 0 to 1 as float, or raise TypeError (no number) or ValueError (out of range or NaN)."""
    value = number(name, value, nan=True)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {brief(value)}")
    return value


def forget_bias(value: Any, default: float | None, *, biased: bool) -> float | None:
    """Return the initial bias of the forget gate as float, or None.

    Args:
        value: what the caller passed.
        default: the default of the option.
        biased: whether the forget gate has a bias. Without one, only the default and None are allowed.

    Raises:
        TypeError: the value is not a number.
        ValueError: it is NaN, or another value than the default although there is no bias.
    """
    if value is None:
        return None
    value = number("forget_bias", value)
    if not biased and value != default:
        raise ValueError(f"forget_bias is for a forget gate with a bias, which this cell has none of, got {value}: leave it out")
    return value


def bound(name: str, value: Any, *, zero: bool = False) -> float:
    """Return a number above zero, or with `zero` at least zero, as float.

    Raises:
        TypeError: the value is not a number.
        ValueError: it is below, or NaN.
    """
    value = number(name, value, nan=True)
    if not (value >= 0 if zero else value > 0):
        raise ValueError(f"{name} must be {'at least' if zero else 'above'} 0, got {brief(value)}")
    return value


def needs(name: str, on: Any, **options: Any) -> None:
    """Require that `options`, which only have a meaning with the option `name`, are None or False if that option is None.

    Args:
        name: the option that turns the others on.
        on: its value. None means that it is off.
        **options: the values of the other options by name.

    Raises:
        ValueError: the option is off, and another one has a value.
    """
    for option, value in options.items():
        if on is None and value is not None and value is not False:
            raise ValueError(f"{option} is for {name}, which is off: give {name}, or leave out {option}")


def flag(name: str, value: Any) -> None:
    """Require True or False, or raise TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {brief(value)}")


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Require one of the allowed values, or raise ValueError, for another type too."""
    allowed = list(allowed)
    kinds = tuple({type(choice) for choice in allowed})  # comparing an array with the values would give an array
    if not isinstance(value, kinds) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {brief(value)}")


def path(name: str, value: Any) -> Path:
    """Return a `Path`.

    Raises:
        TypeError: the value is neither a string with characters nor an `os.PathLike`.
        ValueError: the system allows no such name, because it is too long or has a zero character.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise TypeError(f"{name} must be a path such as 'folder/name', got {brief(value)}")
    try:
        Path(value).stat()
    except (OSError, ValueError) as error:
        if getattr(error, "errno", errno.ENAMETOOLONG) == errno.ENAMETOOLONG:
            raise ValueError(f"{name} must be a name that the system allows, got {brief(value)}: give another name") from error
    return Path(value)


def function(name: str, value: Any, example: str) -> None:
    """Require something that can be called, or raise TypeError. `example` follows "must be a function" in the message."""
    if not callable(value):
        raise TypeError(f"{name} must be a function {example}, got {brief(value)}")


def text(name: str, value: Any) -> str:
    """Return a string; raise TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, got {brief(value)}")
    return value


def mapping(name: str, value: Any, example: str, kind: Callable[[Any], bool] = lambda _: True) -> None:
    """Require a dict with strings as keys and values of some kind, or raise TypeError.

    Args:
        name: what the message calls the dict.
        value: what the caller passed.
        example: such a dict, as code, for the message.
        kind: returns whether a value of the dict is of the required kind.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict such as {example}, got {brief(value)}")
    if wrong := [key for key in value if not isinstance(key, str) or not kind(value[key])]:
        raise TypeError(f"{name} must be a dict such as {example}, got {brief(value[wrong[0]])} for {brief(wrong[0])}")


def several(name: str, value: Any, example: str) -> list[Any]:
    """Return a list; require a list, a tuple or another one-dimensional iterable, but no text and no dict, or raise TypeError.

    `example` is such a list, as code, for the message.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
        raise TypeError(f"{name} must be a list such as {example}, got {brief(value)}")
    return list(value)
