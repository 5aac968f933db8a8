"""Plots of gates, gradients, attention and training curves, with matplotlib.

Each function draws into the axes `ax`, or into the axes of a new figure, and returns the axes.
`gates(trace).figure.savefig("gates.png")` thus saves a picture, and in a notebook `gates(trace).figure` shows it.
Color-blind readers can distinguish the colors, which are from Okabe & Ito, 2008, "Color universal design",
https://jfly.uni-koeln.de/color/.

Drawing needs `pip install "jlstm[plot]"`. `import jlstm` does not import this package.
"""

from jlstm.plot.axes import COLORS
from jlstm.plot.heat import gates
from jlstm.plot.lines import curves, flow, scores
from jlstm.plot.points import embeddings, saturation
from jlstm.plot.weights import attention

__all__ = ["COLORS", "attention", "curves", "embeddings", "flow", "gates", "saturation", "scores"]
