"""What the peers Flax Linen and Flax NNX share: what they lack, and how they store carries.

Flax's carry is the tuple (c, h) of an LSTM, or h of a GRU.
"""

from typing import Any

import jlstm
from jlstm.cells import HiddenCarry
from parity.peers._exchange import lacking, layers
from parity.peers._jax import Dump
from parity.problem import Problem


def lacks(dump: Dump, problem: Problem) -> str:
    """Return why Flax cannot run a problem; "" if it can."""
    for (layer,) in layers(problem.layer):
        # Flax's Bidirectional passes reverse=False and reverse=True to its two layers, whatever their own settings are.
        if getattr(layer.children.get("forward"), "reverse", False):
            return "Flax's Bidirectional runs its first layer forwards"
    return lacking("Flax", problem, dump, layers)


def theirs(carry: Any) -> Any:
    """Convert our carry to Flax's."""
    return (carry.c, carry.h) if isinstance(carry, jlstm.LSTMCarry) else carry.h


def ours(state: Any) -> Any:
    """Convert Flax's carry to ours."""
    return jlstm.LSTMCarry(*state[::-1]) if isinstance(state, tuple) else HiddenCarry(state)
