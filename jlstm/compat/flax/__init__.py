"""Drop-in replacements for `flax.linen` and `flax.nnx`.

Change one import, and keep the model, its checkpoints and its training code:

    from jlstm.compat.flax import linen as nn  # in place of: from flax import linen as nn
    from jlstm.compat.flax import nnx  # in place of: from flax import nnx

`RNN` is a subclass of Flax's `RNN` that runs `LSTMCell`, `OptimizedLSTMCell` and `GRUCell` by jlstm. All other names of the two
modules, also the cells and `Bidirectional`, are those of Flax itself. Parameters, initial values and checkpoints are thus the
same. The page docs/compat_flax.md lists what differs.

Any other cell is run by Flax's own loop, as is a call that jlstm cannot run. `explain` says which loop runs a model, and why.
"""

from jlstm.compat.flax.explanation import explain

__all__ = ["explain"]
