"""The drop-ins of `jlstm.compat.keras`: Keras 3 on JAX, with the loop of jlstm.

Layout: that of Keras, see `parity.peers.keras`. Keras has one backend in a process, and the other peers need TensorFlow. So the
drop-ins run in a process of their own.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import metadata
from multiprocessing import get_context, util

from parity.peers import _keras_layers
from parity.peers._exchange import layers
from parity.problem import Problem, mask_of
from parity.quantities import Quantities
from parity.values import Values

VERSIONS = {name: metadata.version(name) for name in ("keras", "jax")}  # an ImportError if there is none


def version() -> str:
    """Return the versions of Keras and JAX."""
    return f"jlstm.compat.keras in keras {VERSIONS['keras']} on jax {VERSIONS['jax']}"


def lacks(problem: Problem) -> str:
    """Return why the drop-ins cannot run a problem, or leave it to Keras; "" if they run it."""
    unrolled = any(leaf.unroll == "all" for (layer,) in layers(problem.layer) for _, leaf in layer.leaves())
    if unrolled and mask_of(problem) is not None:
        return "jlstm.compat.keras leaves unroll=True with a mask to Keras"
    if problem.zero_output:  # in the table of parity, a peer that lacks anything has no pairs with it
        return "zero_output is compared with Keras's own layers on JAX, by the tests of jlstm.compat.keras"
    if problem.step or problem.layer.spatial_in:
        return "jlstm.compat.keras has LSTM and GRU layers, but no cells and no ConvLSTM"
    return _keras_layers.lacks("jlstm.compat.keras", problem)


def known_bug(_: Problem) -> str:
    """Return "": no bug is known."""
    return ""


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities in the other process, which is started at the first call."""
    return _process().submit(_run, problem, values).result()


@cache
def _process() -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(1, get_context("spawn"), _use_jax)  # a forked JAX or TensorFlow may hang
    # At its end, a process of `parity.pool` waits for its own processes, which must be told to end before. The priority is above
    # that with which their queue is closed, 10.
    util.Finalize(None, pool.shutdown, exitpriority=20)
    return pool


def _use_jax() -> None:
    os.environ["KERAS_BACKEND"] = "jax"


def _run(problem: Problem, values: Values) -> Quantities:
    from parity.peers import _compat_keras  # imports Keras, so only in the other process

    return _compat_keras.run(problem, values)
