"""Conversion of weights to and from other frameworks, with one module per framework.

Weights are NumPy arrays. Each module has those of these functions that make sense for its framework:

    load(weights, …) -> (layer, params)        convert the framework's arrays to a layer and its parameters
    dump(layer, params) -> weights             convert to the framework's arrays; `load` restores the same bits
    read(path, …) -> FileLayers                read all recurrent layers of a file: {name: (layer, params)} and more
    write(path, layer, params)                 write a file of the framework
    model(path) -> Model                       a whole model as a function with parameters (Keras only)

`dump` of TensorFlow 1 and Haiku is the exception: these frameworks add the forget bias at run time, so it may be rounded.

A reader never guesses. It uses every array in the scope of a recurrent layer, or it refuses the layer and names the array.
It drops, merges and reorders nothing silently. It assumes nothing that changes the arithmetic, except documented defaults,
which `FileLayers.assumed` lists. A reader skips a layer that it cannot convert exactly, and warns; `FileLayers.skipped` lists
the layer. It refuses a file that contradicts itself, and a file without any layer that can be converted.

A framework is imported only where nothing else can read its files. Files may come from untrusted sources: nothing in them is
executed, and declared sizes are checked before memory is allocated. An option that a framework does not have raises an error
that names the option. Dropout, initializers and loop options (`time_major`, `remat`, …) are not part of the weights.
"""

from jlstm.convert import equinox, flax, haiku, keras, onnx, tf1, torch
from jlstm.convert.result import FileLayers, OtherLayer

__all__ = ["FileLayers", "OtherLayer", "equinox", "flax", "haiku", "keras", "onnx", "tf1", "torch"]
