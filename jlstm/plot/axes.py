"""Helpers for all plots: axes, colors and word labels."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jlstm._src import checks
from jlstm._src.packages import needed_by

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe & Ito, whose colors stay apart for people who are color-blind.
BLUE, ORANGE, GREEN, PINK, BLACK, SKY = COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9")
GRAY = "#777777"


def axes(ax: "Axes | None", width: float, height: float) -> "Axes":
    """Return `ax`, or the axes of a new figure if it is None.

    Args:
        ax: Axes of matplotlib, or None.
        width: Width of a new figure in inches.
        height: Height of a new figure in inches.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `ax` is not an axes object of matplotlib.
    """
    if ax is not None:
        if not hasattr(ax, "set_xlabel"):
            raise TypeError(f"ax must be axes of matplotlib, got {checks.brief(ax)}: pass plt.gca(), or leave it out")
        return ax
    with needed_by("drawing", "jlstm[plot]"):
        from jlstm.plot.figure import NotebookFigure
    # Not `plt.subplots`: pyplot would keep the figure until it is closed.
    return NotebookFigure(figsize=(width, height), layout="constrained").subplots()


def plain(ax: "Axes") -> None:
    """Hide the upper and right spines and add a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)


def size_in_points(ax: "Axes") -> np.ndarray:
    """Return the width and height of axes in points (1/72 inch)."""
    return np.asarray(ax.get_window_extent().size) * 72 / ax.figure.dpi


def label_steps(ax: "Axes", labels: Sequence[str]) -> None:
    """Write a word under each step, or under every n-th step if the axes are too narrow."""
    room = max(1, int(size_in_points(ax)[0] / 11))  # a rotated label of 9 points takes about 11 points
    steps = range(0, len(labels), math.ceil(len(labels) / room) or 1)
    ax.set_xticks(list(steps), [labels[step] for step in steps], rotation=90, fontsize=9)


def check_single(name: str, value: object, kind: type) -> None:
    """Check that `value` is the result for a single layer.

    Raises:
        TypeError: `value` is not of the type `kind`.
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be the {kind.__name__} of one layer, got a {type(value).__name__}: draw one layer at a time"
        )
