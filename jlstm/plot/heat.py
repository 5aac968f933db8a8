"""Heat maps of gates over the steps of a sequence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jlstm._src import checks
from jlstm.introspect import Trace
from jlstm.plot.axes import GRAY, axes, check_single, label_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "z": "update gate z",
    "r": "reset gate r",
    "c": "cell state c",
    "h": "output h",
}
WIDEST = 12  # inches, 1,200 pixels; twice that if steps have labels


def gates(
    trace: Trace,
    names: str | Sequence[str] | None = None,
    *,
    labels: Sequence[str] | None = None,
    sequence: int | tuple[int, ...] = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw gates as a heat map: one column per step, one row per unit, one block per gate.

    Gates range from 0 (dark) to 1 (bright). Signed values range from orange over white to purple. Padding is hatched. A new
    figure is at most 1,200 pixels wide, or 2,400 with labels.

    Args:
        trace: A trace of one layer, batch first, from `jlstm.introspect.trace`.
        names: Names to show, from `trace.names`; for an LSTM i, f, g, o, c, h. None shows all gates.
        labels: Labels of the steps, for example the words of a text. Only labeled steps are drawn.
        sequence: Index of the sequence in the batch.
        ax: Axes to draw into. None makes a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `trace` is not a trace of a single layer.
        ValueError: A name is unknown, there are more labels than steps, or `sequence` is out of range.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm import introspect, plot
        >>> layer = jlstm.LSTM(4)
        >>> trace = introspect.trace(layer, layer.init(jax.random.key(0), features=3), jax.numpy.ones((2, 5, 3)))
        >>> [label.get_text() for label in plot.gates(trace, "fo").get_yticklabels()]
        ['forget gate f', 'output gate o']
    """
    check_single("trace", trace, Trace)
    names = trace.gates._fields if names is None else gate_names(names)
    if labels is not None:
        labels = [checks.text("each of labels", label) for label in checks.several("labels", labels, "['a', 'film']")]
        if not labels:
            raise ValueError("labels must hold at least one, got none: leave them out")
    _check_sequence(sequence, trace.counts.shape[:-1])
    # A trace without batch axes holds one sequence.
    select = (lambda array: np.asarray(array)[sequence]) if trace.counts.ndim > 1 else np.asarray
    counts, blocks = select(trace.counts)[: None if labels is None else len(labels)], {}
    for name in names:
        checks.one_of("a name", name, trace.names)
        values = select(getattr(trace, name)).astype(np.float32)[: len(counts)]
        if values.ndim != 2:
            raise ValueError(f"{name} must be (time, units), got {values.shape}: draw one place of a layer with spatial axes")
        blocks[name] = np.ma.array(values, mask=np.broadcast_to(~counts[:, None], values.shape))
    if labels is not None and len(labels) > len(counts):
        raise ValueError(f"labels must be at most as many as the {len(counts)} steps, got {len(labels)}")
    ax = axes(ax, min(WIDEST if labels is None else 2 * WIDEST, max(6, 3 + 0.2 * len(counts))), 1.5 + 1.4 * len(blocks))
    _blocks(ax, blocks, counts)
    if labels is not None:
        label_steps(ax, labels)
    else:
        ax.set_xlabel("step")
    padding = f", {(~counts).sum()} of them padding (hatched)" if not counts.all() else ""
    ax.set_title(f"{max(values.shape[1] for values in blocks.values())} units, {len(counts)} steps{padding}", fontsize=11)
    return ax


def _blocks(ax: Any, blocks: dict[str, np.ma.MaskedArray], counts: np.ndarray) -> None:
    # A block is 1 high. The rest of the pitch is the gap to the next one.
    pitch, time = 1.06, len(counts)
    scales: dict[tuple, list[str]] = {}
    images = {}
    for k, (name, values) in enumerate(blocks.items()):
        scale = colors, low, high = _scale(name, values)
        # left, right, bottom, top: y grows downwards, so that the first block and its first unit are at the top.
        extent = (-0.5, time - 0.5, k * pitch + 1, k * pitch)
        images[scale] = ax.imshow(values.T, colors, aspect="auto", interpolation="nearest", vmin=low, vmax=high, extent=extent)
        # Blocks with the same scale share a color bar.
        scales.setdefault(scale, []).append(name)
        _hatch(ax, counts, k * pitch)
    for scale in reversed(scales):  # each new color bar is placed next to the map, so the last one drawn is the innermost
        ax.figure.colorbar(images[scale], ax=ax, pad=0.01, aspect=30).ax.set_title(", ".join(scales[scale]), fontsize=10)
    ax.set(xlim=(-0.5, time - 0.5), ylim=((len(blocks) - 1) * pitch + 1, 0))
    ax.set_yticks([k * pitch + 0.5 for k in range(len(blocks))], [NAMES.get(name, name) for name in blocks])
    ax.tick_params(axis="y", length=0)
    ax.spines[:].set_visible(False)


def _hatch(ax: Any, counts: np.ndarray, top: float) -> None:
    """Hatch every span of steps that do not count, over the height of one block."""
    # Padding begins and ends where the flag changes. The added ends make every span have both.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~counts, [False]])))
    spans = [(begin - 0.5, end - begin) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    ax.broken_barh(spans, (top, 1), facecolor="#f4f4f4", edgecolor=GRAY, hatch="////", linewidth=0)


def _scale(name: str, values: np.ma.MaskedArray) -> tuple[str, float, float]:
    if name in ("i", "f", "o", "z", "r"):
        return "cividis", 0.0, 1.0
    # g and h are drawn on [-1, 1]. c has no bound, and 1e-6 keeps a range where all its values are zero.
    limit = 1.0 if name in ("g", "h") else max(1e-6, float(np.ma.filled(abs(values), 0).max(initial=0)))
    return "PuOr", -limit, limit


def gate_names(names: Any) -> list[str]:
    """Return the names of gates as a list. `names` is a string of one-letter names or a sequence of names."""
    listed = list(names) if isinstance(names, str) else checks.several("names", names, "['i', 'f']")
    if not listed:
        raise ValueError("names must hold at least one name, got none: leave it out for all gates")
    return listed


def _check_sequence(sequence: Any, batch_shape: tuple[int, ...]) -> None:
    """Check that `sequence` is the index of one sequence in the batch."""
    place = sequence if isinstance(sequence, tuple) else (sequence,) * bool(batch_shape)
    fits = len(place) == len(batch_shape) and all(isinstance(index, int | np.integer) for index in place)
    if not fits or not all(-size <= index < size for index, size in zip(place, batch_shape, strict=True)):
        raise ValueError(f"sequence must be the place of one of the batch of {batch_shape}, got {checks.brief(sequence)}")
