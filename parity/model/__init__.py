"""Compare the recurrent layers of a model file, after conversion, with the framework that wrote the file.

There is one module per framework. It imports its framework when it is imported, and defines

    originals(path, names, options) -> {name: Original}, Contents
    compare_whole(path, lengths) -> Comparison | None, only if some `Contents.whole` of it is True

`originals` returns the layers as the framework itself runs them, and the rest of the file. The framework reads the file with its
own code and lists what the compared layers do not account for. So both a wrong conversion and a forgotten layer show.
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
