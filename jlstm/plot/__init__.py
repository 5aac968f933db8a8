"""Pictures of what happened inside a network and during its training, with matplotlib.

Each function draws into the axes `ax`, or into those of a new figure, and returns them, so that
`gates(trace).figure.savefig("gates.png")` saves a picture.
Colours are those that colour-blind readers tell apart (Okabe & Ito 2008). `import jlstm` does not import this package.
"""

from jlstm.plot.axes import COLOURS
from jlstm.plot.heat import gates
from jlstm.plot.lines import curves, flow, scores
from jlstm.plot.points import embeddings, saturation

__all__ = ["COLOURS", "curves", "embeddings", "flow", "gates", "saturation", "scores"]
