"""Independent reference: the LSTM family in float64 NumPy, step by step, gate by gate, with hand-written gradients.

It shares no equations with `jlstm`; the layers only describe what to compute. Arrays are (batch, time, *spatial, features). There
is one file per kind of cell. Each defines the same functions:

- `step(cell, params, x, state, dropout_masks)`: one step. Returns the next state, whose first part is the output, and the
  pullback `d_state -> (d_params, d_x, d_state_before)`.
- `zeros(cell, batch)`: the initial state of a sequence.
- `initial_bias(cell)`: the initial biases.
- `knows(cell)`: whether `step` supports all options of a cell.

`wrappers` runs a cell that wraps another one, with the file of the inner cell.
`attention` runs a cell with attention, and has no gradients.

Reference: Werbos 1990, "Backpropagation Through Time: What It Does and How to Do It", https://doi.org/10.1109/5.58337
"""

from parity.textbook.functions import ACTIVATIONS, sigmoid
from parity.textbook.layers import MERGES, initial_bias, knows, run

__all__ = ["ACTIVATIONS", "MERGES", "initial_bias", "knows", "run", "sigmoid"]
