"""A model's file: its recurrent layers, converted, against the framework that wrote it.

One file a framework; each has

    originals(path, names) -> {name: Original}    the layers that were converted, as the framework itself runs them

and imports its framework when it is itself imported. The framework reads the weights too, by its own means: a mistake of the
converter shows.
"""

from parity.model.check import FRAMEWORKS, compare, outcomes, read
from parity.model.inputs import read_inputs
from parity.model.save import save

__all__ = ["FRAMEWORKS", "compare", "outcomes", "read", "read_inputs", "save"]
