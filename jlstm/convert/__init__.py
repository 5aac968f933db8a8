"""Weights to and from other frameworks, one file each, as NumPy arrays.

Every file has the same functions, as far as its framework has such a thing:

    load(weights, …) -> (layer, params)        from the framework's own arrays
    dump(layer, params) -> weights             to them; what was dumped loads to the same bits
    read(path, …) -> FileLayers                all recurrent layers of a file: {name: (layer, params)} and what else is in it
    write(path, layer, params)                 a file of the framework

A reader never guesses. Whatever belongs to a recurrent layer's own scope in a file is either understood and used, or named in
a refusal. Nothing is dropped, merged or reordered silently, and nothing that changes the arithmetic is assumed: what the file
does not state is asked for by a named argument. A layer that cannot be converted exactly is skipped with a warning, so that it
does not hide others; `FileLayers` lists it. A file that contradicts itself, or of which no layer can be converted, is refused.

No framework is imported, but where only it can read a file. Files may come from anywhere: nothing in them is executed, and what
they declare is checked before memory is taken. What a framework cannot represent is refused, naming the option; a layer's own
dropout, initialisers and loop options (`time_major`, `remat`, …) are not in the weights.
"""

from jlstm.convert import equinox, flax, haiku, keras, onnx, tf1, torch
from jlstm.convert.result import FileLayers

__all__ = ["FileLayers", "equinox", "flax", "haiku", "keras", "onnx", "tf1", "torch"]
