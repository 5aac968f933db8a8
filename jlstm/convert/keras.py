"""Keras 3 and tf-keras: kernel (features, 4·units), recurrent_kernel (units, 4·units), one bias; i f c o and z r h, as ours.

`keras_model.arrays` has the layouts of weights, `keras_model.files` those of files.
"""

from jlstm.convert.keras_model.arrays import dump, load
from jlstm.convert.keras_model.files import read

__all__ = ["dump", "load", "read"]
