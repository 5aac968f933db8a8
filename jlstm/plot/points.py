"""Clouds of points: units by how saturated their gates are, and embedded words in the plane."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jlstm import checks
from jlstm.inspect import Saturation
from jlstm.plot.axes import BLACK, BLUE, COLOURS, GREY, axes, plain, single, size
from jlstm.plot.heat import NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def saturation(shares: Saturation, names: str | Sequence[str] | None = None, *, ax: "Axes | None" = None) -> "Axes":
    """Draw each unit as a point: to the right the share of steps at which its gate is nearly shut, upwards nearly open.

    Points on the line belong to gates that are nearly binary; the legend has the means over the units.

    Args:
        shares: of one layer, as `jlstm.inspect.saturation` returns them.
        names: of the gates, some of those that the cell has; None takes all but the candidate g.
        ax: where to draw.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: the shares are those of several layers.
        ValueError: an unknown name.

    Reference: Karpathy, Johnson & Li 2015, figure 3.
    """
    single("shares", shares, Saturation)
    names = [name for name in shares.below._fields if name != "g"] if names is None else names
    for name in names:
        checks.one_of("a name", name, shares.below._fields)
    ax = axes(ax, 5.2, 5)
    ax.plot([0, 1], [1, 0], "-", color=GREY, linewidth=1)
    for name, colour, marker in zip(names, COLOURS, "osD^", strict=False):
        below, above = (np.asarray(getattr(side, name), float) for side in shares)
        means = f"{NAMES.get(name, name)}: shut {below.mean():.0%}, open {above.mean():.0%}"
        ax.plot(below, above, marker, color=colour, markersize=6, alpha=0.6, markeredgewidth=0, label=means)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    ax.set_xlabel("share of steps nearly shut")
    ax.set_ylabel("share of steps nearly open")
    ax.legend(loc="upper right")
    plain(ax)
    return ax


def embeddings(
    vectors: Float[np.ndarray, "size features"], labels: Sequence[str], *, most: int = 60, ax: "Axes | None" = None
) -> "Axes":
    """Draw embedded words in the plane in which they are spread the most, and name those that lie farthest from the middle.

    The plane is that of the first two principal components, by singular value decomposition of the centred vectors.

    Args:
        vectors: one row a word.
        labels: the words.
        most: how many to name at most; where there is no room for a name it is left out.
        ax: where to draw.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: not one label a vector, fewer than two vectors or features, or vectors that are all the same.

    Reference: Pearson 1901.
    """
    vectors = np.asarray(vectors, float)
    if vectors.ndim != 2 or min(vectors.shape) < 2 or len(labels) != len(vectors):
        raise ValueError(
            f"vectors must be a matrix of at least 2 by 2 with a label for each row, got {vectors.shape} and {len(labels)} labels"
        )
    left, singular, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    if not singular[0]:
        raise ValueError("vectors must differ from each other, got all the same: train first")
    places, shares = left[:, :2] * singular[:2], singular[:2] ** 2 / (singular**2).sum()
    ax = axes(ax, 7.5, 6)
    ax.plot(*places.T, "o", color=BLUE, markersize=4, alpha=0.35, markeredgewidth=0)
    ax.margins(0.08)
    ax.set_xlabel(f"first principal component, {shares[0]:.0%} of the variance")
    ax.set_ylabel(f"second, {shares[1]:.0%}")
    plain(ax)
    _name(ax, places, labels, np.argsort(-np.hypot(*places.T), kind="stable")[:most])
    return ax


def _name(ax: Any, places: np.ndarray, labels: Sequence[str], order: np.ndarray) -> None:
    """Write the labels in that order, leaving out those that would lie on others."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    taken = np.empty((0, 4))
    for index in order:
        x, y = (places[index] - (left, bottom)) / (right - left, top - bottom) * size(ax)
        width, height = 5.4 * len(labels[index]), 10
        box = np.array([x - width / 2, y, x + width / 2, y + height])
        if np.any(np.all((box[:2] < taken[:, 2:]) & (taken[:, :2] < box[2:]), axis=1)):
            continue
        taken = np.vstack([taken, box])
        ax.annotate(labels[index], places[index], (0, 3), textcoords="offset points", ha="center", fontsize=9, color=BLACK)
