"""A figure that Jupyter shows without pyplot."""

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure of matplotlib that a notebook shows if it is the last value of a cell, as in `plot.gates(trace).figure`.

    Jupyter shows a plain `Figure` only after pyplot has made a figure in the same session.
    """

    def _repr_png_(self) -> bytes:
        """Return the picture as PNG, which IPython asks for."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
