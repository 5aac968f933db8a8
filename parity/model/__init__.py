"""A model's file: its recurrent layers, converted, against the framework that wrote it.

One file a framework; each has

    originals(path, names, options) -> {name: Original}, Contents    the converted layers as the framework itself runs them, and
                                                                     what else is in the file

and imports its framework when it is itself imported. The framework reads the file by its own means, and lists what the compared
layers do not account for: a mistake of the converter shows, and so does what it leaves out.
"""

from parity.model.check import Inputs, outcomes
from parity.model.formats import SUFFIXES, ModelFile, read
from parity.model.inputs import read_inputs, read_lengths
from parity.model.save import save
from parity.model.words import facts, summary, verdict

__all__ = [
    "SUFFIXES",
    "Inputs",
    "ModelFile",
    "facts",
    "outcomes",
    "read",
    "read_inputs",
    "read_lengths",
    "save",
    "summary",
    "verdict",
]
