"""Curves: of training, of gradients through time, and of a score along a text."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jlstm.plot.axes import BLUE, COLOURS, GREY, ORANGE, axes, plain, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = {  # of a record: the line's style and colour, and what it is called
    "train": ("-", BLUE, "training, mean since the point before"),
    "validation": ("--", ORANGE, "validation"),
}


def curves(history: Sequence[Any], name: str = "loss", *, ax: "Axes | None" = None) -> "Axes":
    """Draw how something changed during training, and beside it in validation where that was measured.

    Args:
        history: records as `jlstm.train.fit` makes them, with `step`, `train` and `validation`.
        name: of what to draw.
        ax: where to draw.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no record has something of this name.
    """
    points = {part: [(r.step, getattr(r, part)[name]) for r in history if name in getattr(r, part)] for part in PARTS}
    if not any(points.values()):
        known = sorted({key for record in history for part in PARTS for key in getattr(record, part)})
        raise ValueError(f"name must be of something that was recorded, {', '.join(known) or 'but nothing was'}, got {name!r}")
    ax = axes(ax, 6.4, 4)
    for part, (style, colour, label) in PARTS.items():
        if points[part]:
            steps, values = zip(*points[part], strict=True)
            marker = "o" if len(steps) <= 50 else ""
            ax.plot(steps, values, style, color=colour, marker=marker, markersize=4, linewidth=2, label=label)
    ax.set_xlabel("training step")
    ax.set_ylabel(name.replace("_", " "))
    ax.legend()
    plain(ax)
    return ax


def flow(
    norms: Mapping[str, Float[np.ndarray, " time"]], *, floor: float = 1e-12, label: str = "norm", ax: "Axes | None" = None
) -> "Axes":
    """Draw norms of derivatives by step, on a logarithmic axis.

    Args:
        norms: by label, the fields of what `jlstm.inspect.gradient_flow` returns, say.
        floor: where the axis ends at the latest; smaller norms lie below the picture.
        label: of the axis of norms.
        ax: where to draw.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no norms.
    """
    if not norms:
        raise ValueError("norms must hold at least one line, got none: pass {'LSTM': gradient_flow(…).state}, say")
    ax = axes(ax, 7, 4)
    for (name, values), colour, style in zip(norms.items(), cycle(COLOURS), cycle(["-", "--", "-.", ":"]), strict=False):
        values = np.asarray(values, float)
        ax.plot(np.where(values > 0, values, np.nan), style, color=colour, linewidth=2, label=name)
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(floor, ax.get_ylim()[0]))
    ax.set_xlabel("step t")
    ax.set_ylabel(label)
    ax.legend()
    plain(ax)
    return ax


def scores(
    text: Sequence[str],
    values: Float[np.ndarray, " time"],
    *,
    threshold: float = 0.5,
    label: str = "score",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw a classifier's score after each word of a text, blue above the threshold and orange below.

    Args:
        text: the words.
        values: the score in [0, 1] after each of them.
        threshold: between the two verdicts.
        label: of the axis of scores, what 1 means, say.
        ax: where to draw.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: not one score a word, or no words.
    """
    values = np.asarray(values, float)
    if values.shape != (len(text),) or not len(text):
        raise ValueError(
            f"values must be one score for each of the words, at least one, got {values.shape} for {len(text)} words"
        )
    ax = axes(ax, min(24, max(5, 1.5 + 0.22 * len(text))), 3.6)
    steps, above = np.arange(len(text)), values >= threshold
    ax.axhline(threshold, color=GREY, linewidth=1)
    ax.plot(steps, values, "-", color=GREY, linewidth=1)
    ax.vlines(steps, threshold, values, colors=[BLUE if up else ORANGE for up in above], linewidth=2)
    for which, marker, colour in ((above, "^", BLUE), (~above, "v", ORANGE)):
        ax.plot(steps[which], values[which], marker, color=colour, markersize=6)
    ax.set(ylim=(-0.03, 1.03), xlim=(-0.7, len(text) - 0.3), ylabel=label)
    plain(ax)
    words(ax, text)
    return ax
