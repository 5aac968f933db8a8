"""Scatter plots of gate saturation and of word embeddings."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jlstm._src import checks
from jlstm.introspect import Saturation
from jlstm.plot.axes import BLACK, BLUE, COLORS, GRAY, axes, check_single, plain, size_in_points
from jlstm.plot.heat import NAMES, gate_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def saturation(shares: Saturation, names: str | Sequence[str] | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """Draw one point per unit and gate: the share of steps nearly shut against the share of steps nearly open.

    Gates on the diagonal line are nearly binary. The legend shows the means over the units.

    Args:
        shares: Saturation of one layer, from `jlstm.introspect.saturation`.
        names: Names of the gates to draw. None means all but the candidate g.
        ax: Axes to draw into. None makes a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `shares` is not the saturation of a single layer.
        ValueError: A name is unknown.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm import introspect, plot
        >>> layer = jlstm.LSTM(4, forget_bias=5)
        >>> trace = introspect.trace(layer, layer.init(jax.random.key(0), features=3), jax.numpy.zeros((2, 5, 3)))
        >>> [text.get_text() for text in plot.saturation(introspect.saturation(trace), "f").get_legend().get_texts()]
        ['forget gate f: shut 0%, open 100%']

    Reference: Karpathy, Johnson & Li 2015, "Visualizing and Understanding Recurrent Networks", figure 3,
    https://arxiv.org/abs/1506.02078.
    """
    check_single("shares", shares, Saturation)
    names = [name for name in shares.below._fields if name != "g"] if names is None else names
    for name in (names := gate_names(names)):
        checks.one_of("a name", name, shares.below._fields)
    ax = axes(ax, 5.2, 5)
    # No step is both nearly shut and nearly open, so both shares add up to at most 1: all points are below this line.
    ax.plot([0, 1], [1, 0], "-", color=GRAY, linewidth=1)
    for name, color, marker in zip(names, cycle(COLORS), cycle("osD^"), strict=False):
        below, above = (np.asarray(getattr(side, name), float) for side in shares)
        means = f"{NAMES.get(name, name)}: shut {below.mean():.0%}, open {above.mean():.0%}"
        ax.plot(below, above, marker, color=color, markersize=6, alpha=0.6, markeredgewidth=0, label=means)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    ax.set_xlabel("share of steps nearly shut")
    ax.set_ylabel("share of steps nearly open")
    ax.legend(loc="upper right")
    plain(ax)
    return ax


def embeddings(
    vectors: Float[np.ndarray, "size features"], labels: Sequence[str], *, most: int = 60, ax: "Axes | None" = None
) -> "Axes":
    """Draw word embeddings in the plane of their first two principal components, and label the words farthest from the center.

    The components come from a singular value decomposition of the centered vectors.

    Args:
        vectors: One row per word.
        labels: The words.
        most: Maximum number of labels. A label that would overlap another one is left out.
        ax: Axes to draw into. None makes a new figure.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: There is not one label per vector, there are fewer than two vectors or features, or all vectors are equal.

    Examples:
        >>> import numpy as np
        >>> from jlstm import plot
        >>> ax = plot.embeddings(np.eye(4, 3), ["good", "great", "bad", "film"])
        >>> sorted(text.get_text() for text in ax.texts)
        ['bad', 'film', 'good', 'great']

    Reference: Pearson 1901, "On Lines and Planes of Closest Fit to Systems of Points in Space",
    https://doi.org/10.1080/14786440109462720.
    """
    vectors, most = checks.real("vectors", vectors), checks.whole("most", most)
    labels = [checks.text("each of labels", label) for label in checks.several("labels", labels, "['a', 'film']")]
    if vectors.ndim != 2 or min(vectors.shape) < 2 or len(labels) != len(vectors):
        raise ValueError(
            f"vectors must be a matrix of at least 2 by 2 with a label for each row, got {vectors.shape} and {len(labels)} labels"
        )
    # Principal components are the right singular vectors of the centered data; U Σ are the coordinates in them.
    u, singular, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    if not singular[0]:
        raise ValueError("vectors must differ from each other, got all the same: train first")
    coordinates, shares = u[:, :2] * singular[:2], singular[:2] ** 2 / (singular**2).sum()
    ax = axes(ax, 7.5, 6)
    ax.plot(*coordinates.T, "o", color=BLUE, markersize=4, alpha=0.35, markeredgewidth=0)
    ax.margins(0.08)
    ax.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance")
    ax.set_ylabel(f"second, {shares[1]:.0%}")
    plain(ax)
    _name(ax, coordinates, labels, np.argsort(-np.hypot(*coordinates.T), kind="stable")[:most])
    return ax


def _name(ax: Any, coordinates: np.ndarray, labels: Sequence[str], order: np.ndarray) -> None:
    """Write the labels in the given order. Leave out a label that would overlap an earlier one."""
    (x_min, x_max), (y_min, y_max) = ax.get_xlim(), ax.get_ylim()
    occupied = np.empty((0, 4))  # the boxes of all labels so far, in points
    for index in order:
        x, y = (coordinates[index] - (x_min, y_min)) / (x_max - x_min, y_max - y_min) * size_in_points(ax)
        width, height = 5.4 * len(labels[index]), 10  # points: estimated size of a label of font size 9
        box = np.array([x - width / 2, y, x + width / 2, y + height])
        # Two boxes overlap if each begins before the other ends, along both axes.
        if np.any(np.all((box[:2] < occupied[:, 2:]) & (occupied[:, :2] < box[2:]), axis=1)):
            continue
        occupied = np.vstack([occupied, box])
        ax.annotate(labels[index], coordinates[index], (0, 3), textcoords="offset points", ha="center", fontsize=9, color=BLACK)
