"""Line plots of training histories, gradient norms and scores."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jlstm._src import checks
from jlstm.plot.axes import BLUE, COLORS, GRAY, ORANGE, axes, label_steps, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = {  # fields of a record: line style, color, label
    "train": ("-", BLUE, "training, mean since the point before"),
    "validation": ("--", ORANGE, "validation"),
}


def curves(history: Sequence[Any], name: str = "loss", *, ax: "Axes | None" = None) -> "Axes":
    """Draw a measurement over the training steps, with a second line for validation if the records have it.

    Args:
        history: Records of `jlstm.train.fit`, or dicts of a custom loop. A dict has `step`, and either dicts `train` and
            `validation` or training measurements next to the step: `{"step": 10, "loss": 0.7}`.
        name: Name of the measurement.
        ax: Axes to draw into. None makes a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: A record is neither a record nor such a dict.
        ValueError: No record has a measurement of this name.

    Examples:
        >>> from jlstm import plot
        >>> plot.curves([{"step": 10, "loss": 0.75}, {"step": 20, "loss": 0.5}]).lines[0].get_ydata().tolist()
        [0.75, 0.5]
    """
    checks.text("name", name)
    records = [_record(record) for record in checks.several("history", history, "result.history")]
    points = {part: [(step, figures[part][name]) for step, figures in records if name in figures[part]] for part in PARTS}
    if not any(points.values()):
        names = sorted({key for _, figures in records for part in PARTS for key in figures[part]})
        recorded = ", ".join(names[:10]) or "but nothing was"
        raise ValueError(f"name must be of something that was recorded, {recorded}, got {checks.brief(name)}")
    ax = axes(ax, 6.4, 4)
    for part, (style, color, label) in PARTS.items():
        if points[part]:
            steps, values = zip(*points[part], strict=True)
            marker = "o" if len(steps) <= 50 else ""
            ax.plot(steps, values, style, color=color, marker=marker, markersize=4, linewidth=2, label=label)
    ax.set_xlabel("training step")
    ax.set_ylabel(name.replace("_", " "))
    ax.legend()
    plain(ax)
    return ax


def _record(record: Any) -> tuple[float, dict[str, Mapping[str, Any]]]:
    """Return the step of a record, and its measurements by part (`train`, `validation`)."""
    fields = record._asdict() if hasattr(record, "_asdict") else record
    if not isinstance(fields, Mapping) or "step" not in fields:
        raise TypeError(
            f"a record must be a jlstm.train.Record or a dict like {{'step': 10, 'loss': 0.7}}, got {checks.brief(record)}"
        )
    parts = {part: fields.get(part) or {} for part in PARTS}
    # A record of another training loop: its measurements stand beside the step.
    if not any(part in fields for part in PARTS):
        parts["train"] = {name: value for name, value in fields.items() if name != "step"}
    return fields["step"], parts


def flow(norms: Any, *, floor: float = 1e-12, label: str = "norm", ax: "Axes | None" = None) -> "Axes":
    """Draw norms of derivatives over the steps, on a logarithmic axis.

    Args:
        norms: The result of `jlstm.introspect.gradient_flow`, for one layer or several, or a dict of norms by label:
            `{"LSTM": flow.state, "Elman": other.state}`.
        floor: Smallest value of the axis. Smaller norms are not visible.
        label: Label of the axis of norms.
        ax: Axes to draw into. None makes a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `norms` has another form, or does not have one number per step.
        ValueError: `norms` is empty.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm import introspect, plot
        >>> layer = jlstm.LSTM(4)
        >>> norms = introspect.gradient_flow(layer, layer.init(jax.random.key(0), features=3), jax.numpy.ones((2, 5, 3)))
        >>> [line.get_label() for line in plot.flow(norms).lines]
        ['loss', 'state', 'forget']
    """
    checks.text("label", label)
    floor = checks.bound("floor", floor)
    lines = dict(_lines(norms))
    if not lines:
        raise ValueError("norms must hold at least one line, got none: pass {'LSTM': gradient_flow(…).state}, say")
    ax = axes(ax, 7, 4)
    for (name, values), color, style in zip(lines.items(), cycle(COLORS), cycle(["-", "--", "-.", ":"]), strict=False):
        # A logarithmic axis has no place for zeros, so the line has gaps there.
        ax.plot(np.where(values > 0, values, np.nan), style, color=color, linewidth=2, label=name)
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(floor, ax.get_ylim()[0]))
    ax.set_xlabel("step t")
    ax.set_ylabel(label)
    ax.legend()
    plain(ax)
    return ax


def _lines(norms: Any, label: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield all lines with their labels. The layers of a tuple are labeled with numbers."""
    if isinstance(norms, Mapping) or hasattr(norms, "_asdict"):
        parts = dict(norms if isinstance(norms, Mapping) else norms._asdict()).items()
    elif isinstance(norms, tuple | list) and all(isinstance(part, Mapping | tuple) for part in norms):
        parts = {f"layer {number}": part for number, part in enumerate(norms)}.items()
    elif norms is None:  # a cell without forget gates
        return
    else:
        values = np.asarray(norms)
        if not label or values.dtype.kind not in "iuf" or values.ndim != 1:
            raise TypeError(f"norms must be a result of gradient_flow or a dict of one number a step, got {checks.brief(norms)}")
        yield label, values.astype(float)
        return
    for name, part in parts:
        yield from _lines(part, ", ".join(filter(None, (label, str(name)))))


def scores(
    text: Sequence[str],
    values: Float[np.ndarray, " time"],
    *,
    threshold: float = 0.5,
    label: str = "score",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the score of a classifier after each word of a text, in blue above the threshold and in orange below.

    Args:
        text: Words.
        values: Score in [0, 1] after each word.
        threshold: Score that separates the two classes.
        label: Label of the axis of scores, for example the meaning of 1.
        ax: Axes to draw into. None makes a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There are no words, or not exactly one score per word.

    Examples:
        >>> from jlstm import plot
        >>> ax = plot.scores(["a", "great", "film"], [0.4, 0.9, 0.8])
        >>> [label.get_text() for label in ax.get_xticklabels()]
        ['a', 'great', 'film']
    """
    text = [checks.text("each of text", word) for word in checks.several("text", text, "['a', 'film']")]
    checks.text("label", label)
    checks.number("threshold", threshold)
    values = checks.real("values", values)
    if values.shape != (len(text),) or not len(text):
        raise ValueError(
            f"values must be one score for each of the words, at least one, got {values.shape} for {len(text)} words"
        )
    ax = axes(ax, min(24, max(5, 1.5 + 0.22 * len(text))), 3.6)
    steps, above = np.arange(len(text)), values >= threshold
    ax.axhline(threshold, color=GRAY, linewidth=1)
    ax.plot(steps, values, "-", color=GRAY, linewidth=1)
    ax.vlines(steps, threshold, values, colors=[BLUE if up else ORANGE for up in above], linewidth=2)
    for selected, marker, color in ((above, "^", BLUE), (~above, "v", ORANGE)):
        ax.plot(steps[selected], values[selected], marker, color=color, markersize=6)
    ax.set(ylim=(-0.03, 1.03), xlim=(-0.7, len(text) - 0.3), ylabel=label)
    plain(ax)
    label_steps(ax, text)
    return ax
