"""The table of cells that all generic tests read. A new cell is one more row."""

from dataclasses import replace

from jlstm import Cell, cells
from jlstm.cells import wrappers

UNITS = 4

CELLS: dict[str, Cell] = {
    "LSTM": cells.LSTMCell(UNITS),
    "peephole": cells.LSTMCell(UNITS, peephole=True),
    "projection": cells.LSTMCell(UNITS, projection=3),
    "projection with all": cells.LSTMCell(UNITS, projection=3, projection_bias=True, projection_clip=0.4, peephole=True),
    "cell clip": cells.LSTMCell(UNITS, cell_clip=0.5, peephole=True),
    "gate clip": cells.LSTMCell(UNITS, gate_clip=0.7),
    "f coupled": cells.LSTMCell(UNITS, coupled="f=1-i", peephole=True),
    "i coupled": cells.LSTMCell(UNITS, coupled="i=1-f", projection=3),
    "ba2016": cells.LSTMCell(UNITS, layer_norm="ba2016", peephole=True, coupled="f=1-i"),
    "addons": cells.LSTMCell(UNITS, layer_norm="addons", projection=3, gate_clip=1.5),
    "tf_contrib": cells.LSTMCell(UNITS, layer_norm="tf_contrib", cell_clip=1.1),
    "tflite": cells.LSTMCell(UNITS, layer_norm="tflite", peephole=True, projection=3, coupled="i=1-f"),
    "no bias": cells.LSTMCell(UNITS, use_bias=False, layer_norm="tflite", recurrent_activation="hard_sigmoid"),
    "dropout on g": cells.LSTMCell(UNITS, dropout=0.3, recurrent_dropout=0.4, recurrent_dropout_on="g"),
    "dropout of three gates": cells.LSTMCell(UNITS, dropout=0.3, recurrent_dropout=0.4, coupled="f=1-i", projection=3),
    "GRU": cells.GRUCell(UNITS),
    "GRU as published": cells.GRUCell(UNITS, reset_after=False, dropout=0.3, recurrent_dropout=0.2),
    "GRU without bias": cells.GRUCell(UNITS, use_bias=False, dropout=0.3, recurrent_dropout=0.2),
    "Elman": cells.ElmanCell(UNITS),
    "minLSTM": cells.MinLSTMCell(UNITS),
    "minGRU": cells.MinGRUCell(UNITS, use_bias=False),
    "sLSTM": cells.SLSTMCell(UNITS, heads=2),
    "sLSTM, exp": cells.SLSTMCell(UNITS, forget_gate="exp", forget_bias=0.0),
    "mLSTM": cells.MLSTMCell(UNITS, heads=2),
    "Dropout": wrappers.Dropout(cells.LSTMCell(UNITS), inputs=0.3, outputs=0.4, state=0.2),
    "variational Dropout": wrappers.Dropout(cells.GRUCell(UNITS), inputs=0.3, outputs=0.4, state=0.2, variational=True),
    "Zoneout": wrappers.Zoneout(cells.LSTMCell(UNITS, projection=3), h=0.3, c=0.5),
    "WeightDrop": wrappers.WeightDrop(cells.LSTMCell(UNITS), rate=0.4),
    "Residual": wrappers.Residual(cells.GRUCell(3)),
    "Highway": wrappers.Highway(cells.LSTMCell(3)),
    "LearnedCarry": wrappers.LearnedCarry(cells.LSTMCell(UNITS)),
    "all around": wrappers.LearnedCarry(
        wrappers.Residual(wrappers.Dropout(wrappers.Zoneout(cells.LSTMCell(3), h=0.1, c=0.2), inputs=0.3, outputs=0.2))
    ),
    "ConvLSTM 1-D": cells.ConvLSTMCell(UNITS, 3, spatial=(5,), padding="same", dropout=0.3, recurrent_dropout=0.4),
    "ConvLSTM 2-D, strided": cells.ConvLSTMCell(UNITS, 2, spatial=(5, 4), strides=(2, 1), padding="same", use_bias=False),
    "ConvLSTM 2-D, valid": cells.ConvLSTMCell(UNITS, (2, 1), spatial=(3, 2), dilation=2, peephole=True),
    "ConvLSTM 3-D": cells.ConvLSTMCell(UNITS, (1, 3, 2), spatial=(2, 3, 2), padding="same", dropout=0.3),
    "ConvLSTM with all around": wrappers.LearnedCarry(
        wrappers.Highway(
            wrappers.Zoneout(
                wrappers.Dropout(cells.ConvLSTMCell(3, 3, (4,), padding="same"), inputs=0.3, outputs=0.2, state=0.1), c=0.2
            )
        )
    ),
    "LearnedCarry of an sLSTM": wrappers.LearnedCarry(wrappers.Zoneout(cells.SLSTMCell(UNITS), h=0.3)),
    "WeightDrop inside": wrappers.Highway(wrappers.Dropout(wrappers.WeightDrop(cells.GRUCell(3), rate=0.4), inputs=0.2)),
    "mLSTM, exp": cells.MLSTMCell(UNITS, forget_gate="exp", use_bias=False),
}


def above(cell):
    """Return a cell that takes what `cell` yields, with the same spatial sizes. It is the same cell where that is possible."""
    return cell if cell.spatial_out == cell.spatial_in else replace(cell, spatial=cell.spatial_out, padding="same")
