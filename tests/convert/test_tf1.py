"""TensorFlow 1's cells give the outputs of `dynamic_rnn` in float64, come back, and are read from checkpoints."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions import assert_same_bits, damaged, refusal, spoiled, survives, with_negative_zeros
from fuzz import table
from jlstm import GRU, LSTM, Bidirectional, Stack
from jlstm.convert import tf1 as convert
from parity.peers.keras import tf  # first: sets TensorFlow to the CPU, with kernels that round alike everywhere
from problems import BATCH, FEATURES, TIME, UNITS, apply, small_problem

import tf_keras  # isort: skip  # after the environment is set
from tf_keras.src.layers.rnn import legacy_cells  # isort: skip

pytestmark = [
    pytest.mark.usefixtures("x64"),
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.filterwarnings("ignore:`tf.nn.rnn_cell:UserWarning"),
]
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64 rounding over a few steps
XS = np.random.default_rng(3).normal(size=(BATCH, TIME, FEATURES))
F64 = {"dtype": tf.float64}
CELLS = [
    (lambda: legacy_cells.BasicLSTMCell(UNITS, **F64), {}),
    (lambda: legacy_cells.BasicLSTMCell(UNITS, forget_bias=0.25, **F64), {"forget_bias": 0.25}),
    (lambda: legacy_cells.LSTMCell(UNITS, use_peepholes=True, cell_clip=0.3, **F64), {"cell_clip": 0.3}),
    (lambda: legacy_cells.LSTMCell(UNITS, num_proj=2, proj_clip=0.2, **F64), {"projection_clip": 0.2}),
    (lambda: legacy_cells.LSTMCell(UNITS, num_proj=2, use_peepholes=True, forget_bias=0.0, **F64), {"forget_bias": 0.0}),
    (lambda: legacy_cells.GRUCell(UNITS, **F64), {}),
]


def run(build, path):
    """Return the results of a graph on XS with random weights, and its variables by name. Write a checkpoint of them."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        ys = build(tf.constant(XS))
        variables, rng = tf.compat.v1.global_variables(), np.random.default_rng(0)
        session.run([variable.assign(rng.normal(size=variable.shape)) for variable in variables])
        tf.compat.v1.train.Saver(variables).save(session, str(path), write_meta_graph=False)
        return session.run((ys, {variable.name.removesuffix(":0"): variable for variable in variables}))


def unrolled(cell):
    """Run a cell by `dynamic_rnn`."""
    return lambda xs: tf.compat.v1.nn.dynamic_rnn(cell, xs, dtype=tf.float64)[0]


@pytest.mark.parametrize(("cell", "options"), CELLS, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_the_same_weights_give_the_same_outputs(tmp_path, cell, options):
    """Outputs are equal for arrays and the checkpoint. The forget bias is folded into the bias."""
    expected, variables = run(lambda xs: unrolled(cell())(xs), tmp_path / "model.ckpt")
    layer, params = convert.load({name.split("/", 2)[-1]: value for name, value in variables.items()}, **options)
    _, ys = apply(layer, params, XS)
    np.testing.assert_allclose(ys, expected, **CLOSE)
    ((name, (again, back)),) = convert.read(tmp_path / "model.ckpt", **options).items()
    assert (name, again) == ("rnn", layer)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_stacks_and_directions_are_found_in_checkpoints(tmp_path):
    """`MultiRNNCell` is a Stack, `bidirectional_dynamic_rnn` is Bidirectional; names are those of the scopes."""

    def build(xs):
        stacked_cells = lambda: legacy_cells.MultiRNNCell(
            [legacy_cells.BasicLSTMCell(UNITS, **F64), legacy_cells.BasicLSTMCell(2, **F64)]
        )
        ys, _ = tf.compat.v1.nn.dynamic_rnn(stacked_cells(), xs, dtype=tf.float64, scope="below")
        directions, _ = tf.compat.v1.nn.bidirectional_dynamic_rnn(stacked_cells(), stacked_cells(), ys, dtype=tf.float64)
        return ys, tf.concat(directions, -1)

    (ys, directions), _ = run(build, tmp_path / "model.ckpt")
    converted = convert.read(tmp_path / "model.ckpt")
    assert converted.keys() == {"below", "bidirectional_rnn"}
    assert isinstance(converted["below"][0], Stack)
    _, first = apply(*converted["below"], XS)
    _, second = apply(*converted["bidirectional_rnn"], first)
    np.testing.assert_allclose(first, ys, **CLOSE)
    np.testing.assert_allclose(second, directions, **CLOSE)


def test_checkpoints_of_tensorflow_2_are_read(tmp_path):
    """Keras layers are found by the names of the objects."""
    keras_layers = tf_keras.layers
    rnns = [
        keras_layers.Bidirectional(keras_layers.LSTM(UNITS, return_sequences=True)),
        keras_layers.GRU(3, return_sequences=True),
    ]
    model = tf_keras.Sequential([tf_keras.Input((None, FEATURES)), *rnns])
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "two"))
    converted = convert.read(path)
    assert list(converted) == ["model/layer_with_weights-0", "model/layer_with_weights-1"]
    ys = XS.astype(np.float32)
    for name in sorted(converted):
        _, ys = apply(*converted[name], ys)
    np.testing.assert_allclose(ys, model(XS.astype(np.float32)), rtol=1e-5, atol=1e-5)  # in float32


@pytest.mark.parametrize(
    "layer",
    [LSTM(UNITS), LSTM(UNITS, peephole=True, projection=2), GRU(UNITS, reset_after=False)],
    ids=repr,
)
def test_what_is_dumped_comes_back(layer):
    """Without a forget bias weights come back bit by bit; with one, to rounding."""
    params = with_negative_zeros(small_problem(layer).params)
    _, back = convert.load(convert.dump(layer, params, forget_bias=0.0), forget_bias=0.0)
    assert_same_bits(back, params)
    _, back = convert.load(convert.dump(layer, params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), back, params)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (LSTM(UNITS, recurrent_activation="hard_sigmoid"), "TensorFlow 1 has no recurrent_activation='hard_sigmoid'"),
        (LSTM(UNITS, projection=2, projection_bias=True), "TensorFlow 1 has no projection_bias=True"),
        (LSTM(UNITS, layer_norm="tf_contrib"), "TensorFlow 1 has no layer_norm"),
        (GRU(UNITS), "TensorFlow 1 has no reset_after=True"),
        (Bidirectional(LSTM(UNITS)), "TensorFlow 1 has single cells"),
        (Stack((LSTM(UNITS), LSTM(2))), "TensorFlow 1 has single cells"),
    ],
    ids=repr,
)
def test_what_tensorflow_1_does_not_have_is_refused(layer, complaint):
    """The refusal names the option that TensorFlow 1 lacks."""
    assert complaint in refusal(lambda: convert.dump(layer, small_problem(layer).params))


WEIGHTS = [
    convert.dump(layer, small_problem(layer).params)
    for layer in (LSTM(UNITS), LSTM(UNITS, peephole=True), GRU(UNITS, reset_after=False))
]


@given(st.sampled_from(range(len(WEIGHTS))).flatmap(lambda k: spoiled(WEIGHTS[k], -1)))
@settings(max_examples=100)
def test_weights_that_do_not_fit_are_one_sentence(weights):
    """Missing, additional and misshapen arrays and wrong dtypes are refused in one sentence."""
    refusal(lambda: convert.load(weights))


@cache
def checkpoint(kind):
    """Return the files of a small checkpoint, by name, with names of variables or with objects."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        if kind == "objects":
            layer = tf_keras.layers.Bidirectional(tf_keras.layers.LSTM(1))
            layer.build((1, None, 1))
            tf.train.Checkpoint(both=layer).write(str(path))
        else:
            run(lambda xs: unrolled(legacy_cells.BasicLSTMCell(1, **F64))(xs), path)
        return {file.name: file.read_bytes() for file in path.parent.glob("model.*")}


@pytest.mark.table(quick=3)
@given(st.data())
@settings(max_examples=40)
@pytest.mark.filterwarnings("ignore:.*is not converted:UserWarning")
@pytest.mark.parametrize("kind", ["names", "objects"])
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_damaged_checkpoints_are_read_or_refused(tmp_path, ending, kind, data):
    """A checkpoint with bytes cut off or changed in either file is read, or refused in one sentence."""
    for name, content in checkpoint(kind).items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "model"
    assert len(convert.read(path)) == 1
    damage = damaged((tmp_path / f"model.{ending}").read_bytes())
    survives(lambda _: convert.read(path), tmp_path / f"model.{ending}", data.draw(damage))


def test_checkpoints_that_are_not_there_are_told(tmp_path):
    """A missing checkpoint, and one without a recurrent layer, are refused."""
    with pytest.raises(FileNotFoundError, match=r"without \.index and"):
        convert.read(tmp_path / "nowhere")
    path = tf.train.Checkpoint(one=tf.Variable(1.0)).write(str(tmp_path / "other"))
    assert "has no recurrent layer" in refusal(lambda: convert.read(path))


def _varints(*numbers):
    """Encode fields of numbers. Protocol buffers store negative ones in ten bytes."""
    return b"".join(b"\x08" + (bytes([n]) if n >= 0 else b"\xff" * 9 + b"\x01") for n in numbers)


SHAPES = {
    "no description": b"\xff\xff",
    "negative": b"\x12" + bytes([13, 0x12, 11]) + _varints(-1),
    "too many axes": b"\x12" + bytes([0x80 | (1200 & 127), 1200 >> 7]) + b"\x12\x02\x08\x01" * 300,
    "of unknown rank": b"\x12\x02\x18\x01",
}


def test_a_variable_beyond_the_end_of_the_data_is_refused(tmp_path):
    """The index has right checksums, and is no larger than the data."""
    (tmp_path / "a.data-00000-of-00001").write_bytes(bytes(4))
    one_float_at_100 = b"\x08\x01" + b"\x12\x08" + 2 * b"\x12\x02\x08\x01" + b"\x20\x64" + b"\x28\x04"
    (tmp_path / "a.index").write_bytes(table.pack([b"", b"\x08\x01", b"x/lstm_cell/kernel", one_float_at_100]))
    assert "is not a whole checkpoint (Read less bytes than requested)" in refusal(lambda: convert.read(tmp_path / "a"))


@pytest.mark.parametrize("number", [3, 7, 20, 25, 101, 118], ids=lambda number: f"type {number}")
def test_other_types_than_ours_are_refused(tmp_path, number):
    """Integers, text and references are refused; TensorFlow aborts the process on references."""
    (tmp_path / "a.data-00000-of-00001").write_bytes(bytes(64))
    entry = bytes([8, number]) + b"\x12\x08" + 2 * b"\x12\x02\x08\x01" + b"\x28\x04"
    (tmp_path / "a.index").write_bytes(table.pack([b"", b"\x08\x01", b"x/lstm_cell/kernel", entry]))
    assert "expected one of " in refusal(lambda: convert.read(tmp_path / "a"))


def test_names_that_grow_are_refused(tmp_path):
    """Names share prefixes with the previous one: a thousand names of thirty bytes can have ten thousand letters each."""
    names = [b"a" * 10**4 + b"%04d" % k for k in range(1000)]
    (tmp_path / "a.index").write_bytes(
        table.pack([b"", b"\x08\x01", *(part for n in names for part in (n, b"\x08\x01\x12\x00"))])
    )
    assert "its names are too long" in refusal(lambda: convert.read(tmp_path / "a"))


@pytest.mark.parametrize("value", SHAPES.values(), ids=SHAPES)
def test_descriptions_that_end_tensorflow_are_refused(tmp_path, value):
    """Their checksums are right, but TensorFlow's own checks would abort the process."""
    (tmp_path / "a.data-00000-of-00001").write_bytes(b"")
    (tmp_path / "a.index").write_bytes(table.pack([b"", b"\x08\x01", b"x/lstm_cell/kernel", value]))
    assert "is not a whole index of a checkpoint" in refusal(lambda: convert.read(tmp_path / "a"))
    (tmp_path / "a.index").write_bytes(table.pack([b"", b"\x08\x01", b"x/lstm_cell/other", b"\x08\x01\x12\x00"]))
    assert "it has 'other'" in refusal(lambda: convert.read(tmp_path / "a"))
