"""A replacement for `flax.linen` whose `RNN` is run by jlstm. All other names are those of `flax.linen`.

Reference: https://flax.readthedocs.io/en/stable/api_reference/flax.linen/index.html.
"""

from flax.linen import *  # noqa: F403  # whatever names Flax has, so that only the import of a model changes

from jlstm.compat.flax.linen_rnn import RNN as RNN  # it replaces Flax's class
