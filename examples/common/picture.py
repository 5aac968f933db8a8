"""The picture of 01_mnist.py: the learning curve, and test digits with predictions."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from jlstm.data import Split

BLUE, ORANGE = "#0072B2", "#D55E00"  # color-blind readers can distinguish these (Okabe & Ito 2008)
ROWS, COLUMNS = 5, 8


def draw(path: Path, curve: list[tuple], test: Split, predictions: np.ndarray) -> None:
    """Save the learning curve, and test digits with their predictions, as a picture.

    Args:
        path: Path of the .png file.
        curve: Points (step, train accuracy, test accuracy or NaN).
        test: Test images and their labels.
        predictions: Predicted label of each test image.
    """
    figure = Figure(figsize=(10.4, 4.8), layout="constrained")
    curve_figure, digits_figure = figure.subfigures(1, 2, wspace=0.04)
    _curve(curve_figure, np.array(curve))
    _digits(digits_figure, test, predictions)
    figure.savefig(path, dpi=110)


def _curve(figure, curve: np.ndarray) -> None:
    axes = figure.subplots()
    steps, train, test = curve.T
    axes.plot(steps, train, "-", color=BLUE, linewidth=2, label="training images, mean since the point before")
    axes.plot(steps, test, "D--", color=ORANGE, markersize=7, label=f"test images, {test[-1]:.2%} at the end")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("training step")
    axes.set_title("Share of digits read correctly", fontsize=12)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right")


def _digits(figure, test: Split, predictions: np.ndarray) -> None:
    mistakes = np.flatnonzero(predictions != test.labels)
    leading = np.arange((ROWS - 1) * COLUMNS)
    figure.suptitle(
        f"The first {len(leading)} test digits, and {min(COLUMNS, len(mistakes))} of all {len(mistakes):,} mistakes", fontsize=12
    )
    cells = figure.subplots(ROWS, COLUMNS)
    for cell in cells.flat:
        cell.axis("off")
    for cell, index in zip(cells.flat, [*leading, *mistakes[:COLUMNS]], strict=False):
        cell.imshow(test.images[index], cmap="gray_r", vmin=0, vmax=1)
        prediction, label = predictions[index], test.labels[index]
        if prediction == label:
            cell.set_title(f"{prediction}", fontsize=11, pad=2)
        else:
            cell.set_title(f"{prediction}, is {label}", fontsize=11, pad=2, color=ORANGE, weight="bold")
