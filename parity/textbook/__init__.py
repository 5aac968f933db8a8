"""The independent truth: the LSTM family in float64 NumPy, step by step and gate by gate, with gradients written by hand.

It shares no code with `jlstm`; layers serve only as descriptions. Arrays are (batch, time, *spatial, features); backpropagation
through time follows Werbos 1990. One file a cell, each with the same names:

- `step(cell, params, x, state, noise)`: one step. Returns the state after it, whose first part is the output, and the pullback
  `d_state -> (d_params, d_x, d_state_before)`.
- `zeros(cell, batch)`: the state that a sequence starts from.
- `initial_bias(cell)`: what the bias starts from; `knows(cell)`: whether `step` has all that a cell asks for.

`wrappers` runs a cell around another by the other's file.
"""

from parity.textbook.functions import ACTIVATIONS, sigmoid
from parity.textbook.layers import MERGES, initial_bias, knows, run

__all__ = ["ACTIVATIONS", "MERGES", "initial_bias", "knows", "run", "sigmoid"]
