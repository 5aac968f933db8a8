"""Training loop built on optax, with checkpoints, records and several devices.

The package needs `pip install "jlstm[train]"`. `import jlstm` does not import this package.
"""

from jlstm._src.packages import needed_by

with needed_by("jlstm.train", "jlstm[train]"):
    from jlstm.train.averaging import averaged, averaged_params
    from jlstm.train.checkpoints import restore
    from jlstm.train.fit import Result, fit
    from jlstm.train.history import Record, early_stopping
    from jlstm.train.memory import keep_memory
    from jlstm.train.nonfinite import NonFiniteError
    from jlstm.train.optimizers import keras_optimizer
    from jlstm.train.outcome import Outcome
    from jlstm.train.passes import evaluate
    from jlstm.train.sharding import mesh
    from jlstm.train.tensorboard import tensorboard

__all__ = [
    "NonFiniteError",
    "Outcome",
    "Record",
    "Result",
    "averaged",
    "averaged_params",
    "early_stopping",
    "evaluate",
    "fit",
    "keep_memory",
    "keras_optimizer",
    "mesh",
    "restore",
    "tensorboard",
]
