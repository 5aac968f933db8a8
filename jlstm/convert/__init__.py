"""Weights to and from other frameworks, one file each, as NumPy arrays.

Every file has the same functions, as far as its framework has such a thing:

    load(weights, …) -> (layer, params)        from the framework's own arrays
    dump(layer, params) -> weights             to them; what was dumped loads to the same bits
    read(path, …) -> {name: (layer, params)}   all recurrent layers of a file
    write(path, layer, params)                 a file of the framework

No framework is imported, but where only it can read a file. Files may come from anywhere: nothing in them is executed, and what
they declare is checked before memory is taken. What a framework cannot represent is refused, naming the option; a layer's own
dropout, initialisers and loop options (`time_major`, `remat`, …) are not in the weights.
"""

from jlstm.convert import equinox, flax, haiku, keras, onnx, tf1, torch

__all__ = ["equinox", "flax", "haiku", "keras", "onnx", "tf1", "torch"]
