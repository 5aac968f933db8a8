"""What jlstm's cells can do, which frameworks can do it too, and the test that proves ours.

`python tests/support/features.py` writes the table of docs/cells.md.
"""

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cells.md"
BEGIN, END = "<!-- features -->\n", "<!-- /features -->"
FRAMEWORKS = {  # the rows below use these letters
    "T": "TensorFlow 1",
    "K": "Keras 3",
    "P": "PyTorch",
    "O": "ONNX Runtime",
    "L": "TF Lite",
    "F": "Flax",
    "H": "Haiku",
    "E": "Equinox",
}


class Feature(NamedTuple):
    """One row: the feature's name, how jlstm spells it, the frameworks that have it, and its test as `file::test`."""

    name: str
    ours: str
    frameworks: str
    proof: str


# Tests that prove several rows:
TF1 = "parity/test_tf1::test_variants_are_those_of_tensorflow_1"
GOLDENS = "test_goldens::test_outputs_last_carry_and_gradients"
LSTM_PAIRS = "cells/test_pairs::test_every_pair_equals_numpy"
OTHER_PAIRS = "cells/test_options::test_every_pair_equals_numpy"
KERAS_GRU = "parity/test_gru::test_values_and_gradients_equal_keras"
PADDING = "test_family::test_padding_counts_for_nothing"

FEATURES = (
    Feature("LSTM with forget gate", "LSTMCell(units)", "TKPOLFHE", TF1),
    Feature("Peepholes", "LSTMCell(peephole=True)", "TOL", TF1),
    Feature("Projection of h", "LSTMCell(projection=size)", "TPL", "parity/test_torch::test_values_and_gradients_equal_pytorch"),
    Feature("Bias of the projection", "projection_bias=True", "L", GOLDENS),
    Feature("Bounds of h and c", "projection_clip, cell_clip", "TL", TF1),
    Feature("Bound of the gates' sums", "gate_clip", "O", GOLDENS),
    Feature("Coupled gates, f = 1 - i", 'coupled="f=1-i"', "O", GOLDENS),
    Feature("Coupled gates, i = 1 - f", 'coupled="i=1-f"', "TL", GOLDENS),
    Feature("Layer normalization", 'layer_norm="ba2016"', "", LSTM_PAIRS),
    Feature("… of TensorFlow contrib", 'layer_norm="tf_contrib"', "T", GOLDENS),
    Feature("… of TensorFlow Addons", 'layer_norm="addons"', "", GOLDENS),
    Feature("… of TensorFlow Lite", 'layer_norm="tflite"', "L", GOLDENS),
    Feature("Other functions for gates and g", "recurrent_activation, activation", "KOF", LSTM_PAIRS),
    Feature("Another function for c", "output_activation", "O", GOLDENS),
    Feature("No bias", "use_bias=False", "KPOE", LSTM_PAIRS),
    Feature("All options in pairs", "LSTMCell(…)", "", LSTM_PAIRS),
    Feature("… of other cells", "GRUCell(…)", "", OTHER_PAIRS),
    Feature(
        "Dropout of x and h, one mask", "dropout, recurrent_dropout", "TK", "_src/test_dropout::test_masks_equal_the_textbook"
    ),
    Feature("Dropout of g, one mask", 'recurrent_dropout_on="g"', "", LSTM_PAIRS),
    Feature("GRU, reset after the product", "GRUCell(units)", "TKPOFE", KERAS_GRU),
    Feature("GRU, reset before it", "GRUCell(reset_after=False)", "TKOH", KERAS_GRU),
    Feature(
        "Convolutional LSTM", "ConvLSTMCell(filters, …)", "TKFH", "parity/test_conv_lstm::test_values_and_gradients_equal_keras"
    ),
    Feature("Plain recurrent network", "ElmanCell(units)", "TKPOLFH", "parity/test_elman::test_values_and_gradients_equal_keras"),
    Feature("sLSTM", "SLSTMCell(units, heads=…)", "", GOLDENS),
    Feature("mLSTM, step by step", "MLSTMCell(units, heads=…)", "", OTHER_PAIRS),
    Feature(
        "… all steps at once",
        'RNN(cell, backend="parallel")',
        "",
        "test_family::test_all_steps_at_once_are_the_same_as_one_by_one",
    ),
    Feature("Minimal LSTM and GRU", "MinLSTMCell", "", "cells/test_variants::test_a_minimal_cell_is_a_moving_average"),
    Feature(
        "Dropout around a cell", "Dropout(cell, …)", "T", "parity/test_tf1::test_variational_dropout_is_that_of_tensorflow_1"
    ),
    Feature("Wrappers in pairs", "Zoneout(WeightDrop(cell))", "", "cells/test_wrappers::test_every_pair_of_wrappers"),
    Feature("Zoneout", "Zoneout(cell, h=…, c=…)", "", "cells/test_wrappers::test_zoneout_keeps_some_of_h_and_c"),
    Feature(
        "Dropped weights",
        "WeightDrop(cell, rate=…)",
        "",
        "cells/test_wrappers::test_dropped_weights_are_those_of_a_cell_with_zeros",
    ),
    Feature("Residual connection", "Residual(cell)", "T", "parity/test_tf1::test_a_residual_is_that_of_tensorflow_1"),
    Feature("Highway connection", "Highway(cell)", "T", "cells/test_wrappers::test_residual_and_highway_are_their_equations"),
    Feature(
        "Learned first carry", "LearnedCarry(cell)", "", "cells/test_wrappers::test_a_learned_carry_begins_resets_and_learns"
    ),
    Feature(
        "Attention to a memory",
        "Attention(cell, …)",
        "T",
        "attention/test_cell::test_values_and_gradients_equal_a_loop_of_keras_layers",
    ),
    Feature("Any mask of steps", "apply(…, mask=)", "K", PADDING),
    Feature("Lengths", "apply(…, lengths=)", "TPOF", PADDING),
    Feature("Resets within a sequence", "apply(…, resets=)", "H", "test_family::test_resets_start_anew"),
)


def table() -> str:
    """Return the rows as Markdown. Each test is a link to its file."""
    head = ["", "here", *FRAMEWORKS.values(), "proven by"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, ours, frameworks, proof in FEATURES:
        file, test = proof.split("::")
        marks = ["✓" if letter in frameworks else "" for letter in FRAMEWORKS]
        lines.append(f"| {' | '.join([name, f'`{ours}`', *marks, f'[`{test}`](../tests/{file}.py)'])} |")
    return "\n".join(lines) + "\n"


def into(page: str) -> str:
    """Put the table between the page's two marks."""
    head, tail = page.split(BEGIN)
    return head + BEGIN + table() + END + tail.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(into(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
