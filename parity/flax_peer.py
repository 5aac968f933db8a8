"""What both of Flax' module systems share as peers: what they lack, and their carries: (c, h), or h of a GRU."""

from typing import Any

import jlstm
from jlstm.cells import HiddenCarry
from parity.case import Problem
from parity.exchange import lacking, layers
from parity.jax_peer import Dump


def lacks(dump: Dump, problem: Problem) -> str:
    """Why Flax cannot be asked for a problem; "" if it can."""
    for (one,) in layers(problem.layer):
        if isinstance(one, jlstm.Bidirectional) and getattr(one.layer, "reverse", False):
            return "Flax' Bidirectional runs its first layer forwards"
    return lacking("Flax", problem, lambda *given: [dump(*part) for part in layers(*given)])


def theirs(carry: Any) -> Any:
    """A carry as Flax has it."""
    return (carry.c, carry.h) if isinstance(carry, jlstm.LSTMCarry) else carry.h


def ours(state: Any) -> Any:
    """Flax' carry as we have it."""
    return jlstm.LSTMCarry(*state[::-1]) if isinstance(state, tuple) else HiddenCarry(state)
