"""A replacement for `flax.nnx` whose `RNN` is run by jlstm. All other names are those of `flax.nnx`.

Reference: https://flax.readthedocs.io/en/stable/api_reference/flax.nnx/index.html.
"""

from flax.nnx import *  # noqa: F403  # whatever names Flax has, so that only the import of a model changes

from jlstm.compat.flax.nnx_rnn import RNN as RNN  # it replaces Flax's class
