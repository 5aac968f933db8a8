"""Attention over a memory: as functions, and as a wrapper that lets a cell attend to the outputs of an encoder at each step."""

from jlstm.attention.cell import Attention, AttentionCarry
from jlstm.attention.functions import Attended, additive_attention, multiplicative_attention
from jlstm.attention.memory import Memory, with_memory

__all__ = [
    "Attended",
    "Attention",
    "AttentionCarry",
    "Memory",
    "additive_attention",
    "multiplicative_attention",
    "with_memory",
]
