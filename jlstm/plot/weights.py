"""A heat map of attention."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from jlstm._src import checks
from jlstm.plot.axes import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def attention(
    weights: Float[np.ndarray, "target source"],
    source: Sequence[str],
    target: Sequence[str],
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the weights of attention: one row per step of the decoder, one column per position of the source.

    Weights range from 0 (dark) to 1 (bright).

    Args:
        weights: Weights of one sequence. Rows and columns without a label, such as padding, are not drawn.
        source: Labels of the columns, for example words or characters.
        target: Labels of the rows.
        ax: Axes to draw into. None makes a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `weights` are not numbers, or the labels are not lists of strings.
        ValueError: `weights` do not have two axes, or there are more labels than rows or columns, or none.

    Reference: Bahdanau, Cho & Bengio, 2015, "Neural machine translation by jointly learning to align and translate", figure 3,
    https://arxiv.org/abs/1409.0473.

    Examples:
        >>> import numpy as np
        >>> from jlstm import plot
        >>> ax = plot.attention(np.eye(3)[::-1], source=["a", "b", "c"], target=["c", "b", "a"])
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['c', 'b', 'a']
    """
    values = checks.real("weights", weights)
    if values.ndim != 2:
        raise ValueError(f"weights must be (target, source), those of one sequence, got shape {values.shape}: pass weights[0]")
    columns, rows = (
        [checks.text(f"each of {name}", label) for label in checks.several(name, labels, "['a', 'film']")]
        for name, labels in (("source", source), ("target", target))
    )
    if not 0 < len(rows) <= values.shape[0] or not 0 < len(columns) <= values.shape[1]:
        got = f"{len(rows)} of target and {len(columns)} of source"
        raise ValueError(f"labels must be at least 1 and at most as many as the weights {values.shape} have, got {got}")
    ax = axes(ax, min(12, 2.5 + 0.28 * len(columns)), min(12, 1.2 + 0.28 * len(rows)))
    image = ax.imshow(values[: len(rows), : len(columns)], "cividis", aspect="auto", interpolation="nearest", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, pad=0.02, aspect=30)
    ax.set_xticks(range(len(columns)), columns, rotation=90 if max(map(len, columns)) > 1 else 0)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax
