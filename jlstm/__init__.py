"""jlstm: the LSTM library for JAX."""

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

from jlstm._src.loop import lengths_to_mask
from jlstm._src.serialization import load, load_layer, save
from jlstm.cell import Cell
from jlstm.cells import ConvLSTMCell, ElmanCell, GRUCell, LSTMCarry, LSTMCell, MinGRUCell, MinLSTMCell, MLSTMCell, SLSTMCell
from jlstm.layers import GRU, LSTM, RNN, Bidirectional, Layer, Stack, cell_states, explain

# These are imported at their first use.
_MODULES = ("attention", "cells", "convert", "data", "introspect", "linen", "models", "nnx", "plot", "train")

__version__: str  # of the installed package: its one place is pyproject.toml

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "Cell",
    "ConvLSTMCell",
    "ElmanCell",
    "GRUCell",
    "LSTMCarry",
    "LSTMCell",
    "Layer",
    "MLSTMCell",
    "MinGRUCell",
    "MinLSTMCell",
    "SLSTMCell",
    "Stack",
    "cell_states",
    "explain",
    "lengths_to_mask",
    "load",
    "load_layer",
    "save",
]


if not TYPE_CHECKING:  # if a type checker saw __getattr__, it would accept any attribute

    def __getattr__(name: str) -> Any:
        """Import a module such as `jlstm.nnx` at its first use, and look up the version."""
        if name == "__version__":
            return metadata.version("jlstm")
        if name in _MODULES:
            try:
                return importlib.import_module(f"jlstm.{name}")
            except ImportError as error:  # of a package that is not installed; `hasattr` and `help` expect an AttributeError
                raise AttributeError(str(error), name=name) from error
        raise AttributeError(f"module 'jlstm' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
