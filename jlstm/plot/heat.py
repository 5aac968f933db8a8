"""Heat maps of gates over the steps of a sequence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jlstm import checks
from jlstm.inspect import Trace
from jlstm.plot.axes import axes, single, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "c": "cell state c",
    "h": "output h",
}


def gates(
    trace: Trace,
    names: str | Sequence[str] = "ifgo",
    *,
    labels: Sequence[str] | None = None,
    sequence: int | tuple[int, ...] = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw what gates let through: a column a step, a row a unit, one block below the other for each gate.

    Gates run from 0 (dark) to 1 (bright); what has a sign from orange over white to purple.

    Args:
        trace: of one layer, batch first, as `jlstm.inspect.trace` returns it.
        names: what to show, some of i, f, g, o, c, h.
        labels: of the steps, the words of a text, say; only as many steps are drawn.
        sequence: which of the batch.
        ax: where to draw.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: the trace is that of several layers.
        ValueError: an unknown name, or more labels than steps.
    """
    single("trace", trace, Trace)
    blocks = {}
    for name in names:
        checks.one_of("a name", name, NAMES)
        values = np.asarray(getattr(trace, name), np.float32)
        blocks[name] = (values[sequence] if values.ndim > 2 else values)[: None if labels is None else len(labels)]
    time, units = next(iter(blocks.values())).shape
    if labels is not None and len(labels) > time:
        raise ValueError(f"labels must be at most as many as the {time} steps, got {len(labels)}")
    ax = axes(ax, min(24, max(6, 3 + 0.2 * time)), 1.5 + 1.4 * len(blocks))
    _blocks(ax, blocks, time)
    if labels is not None:
        words(ax, labels)
    else:
        ax.set_xlabel("step")
    ax.set_title(f"{units} units, {time} steps", fontsize=11)
    return ax


def _blocks(ax: Any, blocks: dict[str, np.ndarray], time: int) -> None:
    pitch = 1.06
    scales: dict[tuple, list[str]] = {}
    images = {}
    for k, (name, values) in enumerate(blocks.items()):
        scale = colours, low, high = _scale(name, values)
        extent = (-0.5, time - 0.5, k * pitch + 1, k * pitch)
        images[scale] = ax.imshow(values.T, colours, aspect="auto", interpolation="nearest", vmin=low, vmax=high, extent=extent)
        scales.setdefault(scale, []).append(name)
    for scale in reversed(scales):  # each new bar comes next to the map
        ax.figure.colorbar(images[scale], ax=ax, pad=0.01, aspect=30).ax.set_title(", ".join(scales[scale]), fontsize=10)
    ax.set(xlim=(-0.5, time - 0.5), ylim=((len(blocks) - 1) * pitch + 1, 0))
    ax.set_yticks([k * pitch + 0.5 for k in range(len(blocks))], [NAMES[name] for name in blocks])
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)


def _scale(name: str, values: np.ndarray) -> tuple[str, float, float]:
    if name in "ifo":
        return "cividis", 0.0, 1.0
    limit = max(1e-6, float(np.abs(values).max(initial=0))) if name == "c" else 1.0
    return "PuOr", -limit, limit
