"""Whole Keras models as functions: `jlstm.convert.keras.model` builds a graph of layers from a file, and runs it with JAX.

`parse` reads the graph from the configuration, `table` lists the classes of layers, and `graph` runs the calls in order. The
modules `core`, `noise`, `normalization`, `windows`, `merging` and `operations` have one function for each class. `recurrent` runs
the layers that `jlstm.convert.keras.read` converts.

Values flow through the graph together with the mask that Keras attaches to a tensor. A layer passes the mask on, uses it,
replaces it or drops it, as the same layer of Keras does.
"""
