"""Conversion of Keras 3 and tf-keras: LSTM, GRU, SimpleRNN and ConvLSTM layers, and whole models.

An LSTM has kernel (features, 4·units), recurrent_kernel (units, 4·units) and one bias. The order of the gates, i f c o and
z r h, is that of jlstm. `keras_model.arrays` converts arrays, and `keras_model.files` reads files.
"""

from jlstm.convert.keras_graph.model import Model, model
from jlstm.convert.keras_model.arrays import dump, load
from jlstm.convert.keras_model.files import read

__all__ = ["Model", "dump", "load", "model", "read"]
