"""NumPy: it only multiplies matrices, to measure the machine's peak."""

from collections.abc import Callable
from typing import Any

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.points import Point


def build(point: Point, setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the product of two matrices."""
    if point.form != "matrix":
        return {}
    a, b = point.factors()
    return {"product": lambda: a @ b}
