"""`jlstm.compat.flax.nnx`, which replaces Flax NNX.

Layout: that of the peer `flax_nnx`.
"""

from functools import partial

from jlstm.compat.flax import nnx
from parity.peers import _jax as jax_peer
from parity.peers import flax_nnx
from parity.problem import Problem
from parity.quantities import Quantities
from parity.values import Values


def version() -> str:
    """Return Flax's version, with the name of the replacement."""
    return f"jlstm.compat.{flax_nnx.version()}"


lacks = flax_nnx.lacks  # what the replacement cannot run either


def known_bug(_: Problem) -> str:
    """Return "": the replacement has none of Flax's bugs."""
    return ""


def run(problem: Problem, values: Values) -> Quantities:
    """Compute all quantities with `RNN` and `Bidirectional`, or with the cell alone for a single step."""
    return jax_peer.run(problem, values, flax_nnx.dump, partial(flax_nnx.run_part, nnx))
