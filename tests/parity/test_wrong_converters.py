"""`python -m parity FILE` never passes the result of a converter that loses something.

The file is right, and its own framework reads it. The fault is planted in what the converter returns.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest
import torch

import parity.__main__ as cli
import wrong_onnx
import wrong_tf1
import wrong_torch
from damages import (
    EndsSwapped,
    StartsSwapped,
    Unmasked,
    cell_option,
    directions_swapped,
    forget_bias_forgotten,
    gates_swapped,
    halved,
    last_layer_lost,
    layers_swapped,
    merge,
    nudged,
    of_class,
    option,
    transposed,
    weights,
    zero,
)
from jlstm import convert
from parity import model
from parity.diagnosis import Diagnosis
from parity.model import check
from tensorflow_modules import MARKS, keras

pytestmark = [pytest.mark.no_cover, *MARKS]


def keras_file(path):
    """Write a model with padded words, two directions, stacked cells, a backward layer and one with an initial state."""
    keras_layers, xs = keras.layers, keras.Input((None,), dtype="int32")
    ys = keras_layers.Embedding(20, 3, mask_zero=True)(xs)
    ys = keras_layers.Bidirectional(keras_layers.LSTM(4, return_sequences=True), merge_mode="ave", name="both")(ys)
    ys = keras_layers.RNN(
        [keras_layers.LSTMCell(4), keras_layers.LSTMCell(4, activation="relu")], return_sequences=True, name="cells"
    )(ys)
    ys = keras_layers.GRU(5, go_backwards=True, return_sequences=True, recurrent_activation="hard_sigmoid", name="gated")(ys)
    ys, *states = keras_layers.LSTM(4, return_sequences=True, return_state=True, activation="softsign", name="encoder")(ys)
    ys = keras_layers.LSTM(4, name="decoder")(ys, initial_state=states)
    whole = keras.Model(xs, keras_layers.Dense(2)(ys))
    rng = np.random.default_rng(0)
    whole.set_weights([rng.normal(0, 0.4, array.shape) for array in whole.get_weights()])
    whole.save(path := path / "model.keras")
    return path


def onnx_file(path):
    """Write a model of parallel nodes, with lengths and initial states."""
    bidirectional, weights_of_both = wrong_onnx.node(
        name="both", directions=2, direction="bidirectional", extra_inputs=("lengths",)
    )
    functions = ["Sigmoid", "Relu", "Tanh"]
    lstm, weights_of_lstm = wrong_onnx.node(
        name="lstm", activations=functions, direction="reverse", extra_inputs=("lengths", "h", "c")
    )
    options, weights_of_options = wrong_onnx.node(name="options", clip=0.2, input_forget=1)
    gru, weights_of_gru = wrong_onnx.node("GRU", name="gru", linear_before_reset=1)
    number = onnx.TensorProto.FLOAT
    inputs = [("xs", number, ("time", "batch", 3)), ("lengths", onnx.TensorProto.INT32, ("batch",))]
    inputs += [(name, number, (1, "batch", 4)) for name in "hc"]
    constants = [*weights_of_both, *weights_of_lstm, *weights_of_options, *weights_of_gru]
    names = [f"{name}.Y" for name in ("both", "lstm", "options", "gru")]
    onnx.save(
        wrong_onnx.model([bidirectional, lstm, options, gru], constants, outputs=names, inputs=inputs),
        path := path / "model.onnx",
    )
    return path


def torch_file(path):
    modules = {
        "stack": torch.nn.LSTM(4, 4, num_layers=2),
        "both": torch.nn.LSTM(3, 4, bidirectional=True),
        "gru": torch.nn.GRU(3, 4),
        "projected": torch.nn.LSTM(3, 4, proj_size=2),
    }
    tensors = {f"{name}.{key}": 2 * tensor for name, module in modules.items() for key, tensor in module.state_dict().items()}
    return wrong_torch.write(path / "model.pt", lambda: tensors)


def tf1_file(path):
    cells = {
        f"stack/multi_rnn_cell/{cell}": shape
        for k in range(2)
        for cell, shape in wrong_tf1.variables(f"cell_{k}/lstm_cell", features=4).items()
    }
    bidirectional = {f"both/{name}": shape for name, shape in wrong_tf1.sides("fw", "bw").items()}
    peepholes = wrong_tf1.variables("peep/lstm_cell", **dict.fromkeys(("w_i_diag", "w_f_diag", "w_o_diag"), (4,)))
    return wrong_tf1.write(path / "model.ckpt", cells | bidirectional | peepholes | wrong_tf1.gru("gated/gru_cell"))


WRITERS = {"keras": keras_file, "onnx": onnx_file, "torch": torch_file, "tf1": tf1_file}

LSTM_FAULTS = {
    "bias dropped": cell_option("bias", use_bias=False),
    "recurrent kernel transposed": weights(recurrent_kernel=transposed),
    "gates f and g swapped": gates_swapped(1, 2),
    "forget bias forgotten": weights(bias=forget_bias_forgotten),
    "h and c swapped at the end": of_class(EndsSwapped),
    "run backwards": option(reverse=True),
}
GRU_FAULTS = {
    "recurrent bias dropped": weights(recurrent_bias=zero),
    "kernel of the gates swapped": gates_swapped(0, 1),
    "reset gate before the product": cell_option("recurrent_bias", reset_after=False),
}
BOTH_FAULTS = {"directions swapped": directions_swapped, "merged otherwise": merge("sum")}
STACK_FAULTS = {"layers swapped": layers_swapped}
MASK_FAULT = {"mask lost": of_class(Unmasked)}
START_FAULT = {"h and c swapped at the start": of_class(StartsSwapped)}
TANH = {"activation lost": cell_option(activation="tanh")}
REVERSE = {"reverse lost": option(reverse=False)}
ROWS = {  # by format and layer
    ("keras", "both"): BOTH_FAULTS | MASK_FAULT | {"merged otherwise": merge("concat")},
    ("keras", "cells"): STACK_FAULTS | TANH | {"gates f and g swapped": gates_swapped(1, 2)},
    ("keras", "gated"): GRU_FAULTS | REVERSE | {"recurrent activation lost": cell_option(recurrent_activation="sigmoid")},
    ("keras", "encoder"): LSTM_FAULTS | TANH,
    ("keras", "decoder"): START_FAULT,
    ("onnx", "both"): BOTH_FAULTS | MASK_FAULT,
    ("onnx", "lstm"): LSTM_FAULTS | TANH | START_FAULT | {"run backwards": option(reverse=False)},
    ("onnx", "options"): {
        "clip lost": cell_option(gate_clip=None),
        "bias dropped": weights(bias=zero),
    },
    ("onnx", "gru"): GRU_FAULTS,
    ("torch", "stack"): STACK_FAULTS | LSTM_FAULTS | {"one of two biases lost": weights(bias=halved)},
    ("torch", "both"): BOTH_FAULTS,
    ("torch", "gru"): GRU_FAULTS,
    ("torch", "projected"): {"projection off": weights(projection_kernel=halved)},
    ("tf1", "stack"): STACK_FAULTS | LSTM_FAULTS,
    ("tf1", "both/rnn/bidirectional_rnn"): BOTH_FAULTS,
    ("tf1", "gated"): {"kernel of the gates swapped": gates_swapped(0, 1)},
    ("tf1", "peep"): {"peepholes lost": cell_option("peephole_kernel", peephole=False)},
}
PARAMETERS = [(*where, fault) for where, faults in ROWS.items() for fault in faults]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The file of a format, read once. Its framework's results are computed once for all faults."""

    @cache
    def of(framework):
        file = model.read(WRITERS[framework](tmp_path_factory.mktemp(framework)))
        return replace(file, originals={name: remembering(original) for name, original in file.originals.items()})

    return of


def remembering(original):
    """Return the original model with cached results: its inputs are the same for all faults."""
    results = {}

    def run(xs, lengths, *dtypes):
        if dtypes not in results:
            results[dtypes] = original.run(xs, lengths, *dtypes)
        return results[dtypes]

    return original._replace(run=run)


def outcomes(file, name, damage=lambda *pair: pair):
    """Return the comparisons of a layer with a planted fault, in float64 alone, or alone and in the whole model in float32."""
    dtype = "float32" if file.framework in ("keras", "onnx") else "float64"
    return list(model.outcomes(replace(file, layers={name: damage(*file.layers[name])}), dtype=dtype))


@pytest.fixture
def without_diagnosis(monkeypatch):
    """Skip the diagnosis, which has its own tests and takes most of the time."""
    monkeypatch.setattr(check, "explain", lambda *_: Diagnosis())


@pytest.mark.table(quick=6)
@pytest.mark.parametrize(("framework", "name"), ROWS)
def test_what_the_converter_returns_passes(framework, name, files):
    """Without a fault all files pass, so that each failure is caused by its fault."""
    file = files(framework)
    assert model.verdict(file, outcomes(file, name)) == "pass"


@pytest.mark.table(quick=6)
@pytest.mark.parametrize(("framework", "name", "fault"), PARAMETERS)
@pytest.mark.usefixtures("without_diagnosis")
def test_a_fault_of_the_converter_fails(framework, name, fault, files):
    """Where the whole model is run, that comparison fails by itself."""
    file = files(framework)
    compared = outcomes(file, name, ROWS[framework, name][fault])
    assert model.verdict(file, compared) == "fail"
    whole = [outcome for outcome in compared if outcome.case.name.endswith("(in the whole model)")]
    assert bool(whole) == (framework in ("keras", "onnx"))
    if whole:
        assert [outcome.comparison.verdict for outcome in whole] == ["fail"]


@pytest.mark.parametrize(("framework", "name"), [("keras", "encoder"), ("torch", "stack"), ("tf1", "stack")])
@pytest.mark.usefixtures("without_diagnosis")
def test_weights_that_are_off_by_a_billionth_fail(framework, name, files):
    """In float64 they fail if rounding does not grow. float32 rounds such a difference away."""
    file = files(framework)
    damaged = replace(file, layers={name: nudged(1e-9)(*file.layers[name])})
    assert model.verdict(file, list(model.outcomes(damaged, dtype="float64"))) == "fail"


@pytest.mark.parametrize(
    ("framework", "name", "damage", "message"),
    [
        ("torch", "stack", last_layer_lost, "the original has 4 states, more than"),
        ("keras", "cells", last_layer_lost, "the original has 4 states, more than"),
        ("torch", "both", merge(None), r"these are not in all: ys, ys.backward, ys.forward"),
        ("onnx", "both", merge(None), r"these are not in all: ys, ys.backward, ys.forward"),
    ],
    ids=["torch layer", "keras layer", "torch merge", "onnx merge"],
)
def test_results_that_cannot_be_compared_are_refused(framework, name, damage, message, files):
    """A missing layer and directions that are not merged are refused."""
    with pytest.raises(ValueError, match=message):
        outcomes(files(framework), name, damage)


@pytest.mark.parametrize(
    ("framework", "name", "fault"),
    [
        ("keras", "gated", "reverse lost"),
        ("onnx", "lstm", "activation lost"),
        ("torch", "stack", "layers swapped"),
        ("tf1", "stack", "forget bias forgotten"),
    ],
)
@pytest.mark.usefixtures("without_diagnosis")
def test_the_command_ends_with_an_error_and_saves_nothing(framework, name, fault, files, capsys, monkeypatch, tmp_path):
    """The whole command fails with a fault in one of several layers."""
    file = files(framework)  # read by the right reader, for the other tests too
    reader = getattr(convert, framework)
    read = reader.read

    def damaged(path, **options):
        layers = read(path, **options)
        layers[name] = ROWS[framework, name][fault](*layers[name])
        return layers

    monkeypatch.setattr(reader, "read", damaged)
    dtype = file.originals[name].exact
    arguments = [str(file.path), "--case", name, "--dtype", dtype, "--save", str(tmp_path / "out.safetensors")]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr()
    assert "\nfail: " in printed.out
    assert "nothing is written to --save: the verdict is fail" in printed.err
    assert not list(tmp_path.iterdir())
