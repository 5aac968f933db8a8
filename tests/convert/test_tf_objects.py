"""Keras layers in TensorFlow 2 checkpoints are found by the object graph, not by their paths alone."""

import numpy as np
import pytest

from conversions import refusal
from jlstm import Bidirectional, Stack
from jlstm.convert import tf1 as convert
from problems import BATCH, FEATURES, TIME, UNITS, apply
from tensorflow_modules import MARKS, keras, tf, tf_keras

pytestmark = [pytest.mark.usefixtures("x64"), *MARKS]
RNG = np.random.default_rng(7)
XS = RNG.normal(size=(BATCH, TIME, FEATURES)).astype("f")
FLOAT32 = {"rtol": 0, "atol": 1e-5}  # Keras computes in float32
FRAMEWORKS = pytest.mark.parametrize("framework", [tf_keras, keras], ids=lambda module: module.__name__)
LSTM = {"kernel": (FEATURES, 4 * UNITS), "recurrent_kernel": (UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
PLAIN = {"kernel": (FEATURES, UNITS), "recurrent_kernel": (UNITS, UNITS), "bias": (UNITS,)}


def saved(path, **objects):
    """Write a checkpoint of some objects. Return its path."""
    return tf.train.Checkpoint(**objects).write(str(path / "two"))


def randomized(model):
    """Give the model random weights, including biases, and return it."""
    model.set_weights([RNG.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def in_turn(layers, xs):
    """Return the outputs of layers run one after the other."""
    for layer, params in layers.values():
        _, xs = apply(layer, params, xs)
    return xs


def variables(full, shapes):
    """Return an object with variables that have a full name, as Keras gives it."""
    module = tf.Module()
    for name, shape in shapes.items():
        setattr(module, name, tf.Variable(RNG.normal(size=shape), name=f"{full}/{name}"))
    return module


def around(**children):
    """Return an object with these children."""
    module = tf.Module()
    for name, child in children.items():
        setattr(module, name, child)
    return module


@FRAMEWORKS
def test_layers_of_a_model_are_read_in_its_order(tmp_path, framework):
    """Twelve layers of all kinds keep their order, which differs from a sort by name."""
    keras_layers = framework.layers
    rnns = [
        keras_layers.Bidirectional(keras_layers.LSTM(UNITS, return_sequences=True)),
        keras_layers.SimpleRNN(3, return_sequences=True),
        keras_layers.RNN(
            keras_layers.StackedRNNCells([keras_layers.LSTMCell(2), keras_layers.GRUCell(5)]), return_sequences=True
        ),
        keras_layers.Bidirectional(
            keras_layers.RNN(
                keras_layers.StackedRNNCells([keras_layers.LSTMCell(2), keras_layers.SimpleRNNCell(3)]), return_sequences=True
            )
        ),
        keras_layers.GRU(2, reset_after=False, return_sequences=True),
        keras_layers.SimpleRNN(3, return_sequences=True, use_bias=False),
        *(keras_layers.GRU(3, return_sequences=True) for _ in range(5)),
        keras_layers.LSTM(2, return_sequences=True, use_bias=False, dropout=0.1, recurrent_dropout=0.1),
    ]
    if framework is keras:  # Keras 3 does not report their cells to TensorFlow
        rnns[2:4] = [
            keras_layers.LSTM(2, return_sequences=True),
            keras_layers.Bidirectional(keras_layers.LSTM(2, return_sequences=True)),
        ]
    model = framework.Sequential([framework.Input((None, FEATURES)), *rnns, keras_layers.Dense(1)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    randomized(model)
    layers = convert.read(saved(tmp_path, model=model))
    assert (len(layers), layers.skipped, layers.in_network_order) == (12, {}, True)
    assert [type(layer) for layer, _ in layers.values()][0:4:3] == [Bidirectional, Bidirectional]
    assert isinstance([*layers.values()][3][0].layer, Stack) == (framework is tf_keras)
    inside = framework.Model(model.inputs[0], model.layers[-2].output)
    np.testing.assert_allclose(in_turn(layers, XS), inside(XS), **FLOAT32)
    assert any("activation tanh" in sentence and "merge concat" in sentence for sentence in layers.assumed)
    assert len([name for name in layers.unused if "save_counter" not in name]) == 2  # the Dense layer
    assert not any("learning_rate" in name or "velocities" in name for name in layers.unused)


def test_slots_of_older_optimizers_are_no_layers(tmp_path):
    """Older optimizers store their state in slots of the variables."""
    model = tf_keras.Sequential([tf_keras.Input((None, FEATURES)), tf_keras.layers.LSTM(UNITS)])
    model.compile(tf_keras.optimizers.legacy.Adam(), "mse")
    model.optimizer._create_all_weights(model.trainable_variables)
    path = saved(tmp_path, model=model)
    assert any(".OPTIMIZER_SLOT" in name for name in tf.train.load_checkpoint(path).get_variable_to_shape_map())
    layers = convert.read(path)
    assert [*layers] == ["model/layer_with_weights-0"]
    assert not any("SLOT" in name for name in layers.unused)


@FRAMEWORKS
def test_an_encoder_and_a_decoder_go_by_their_paths(tmp_path, framework):
    """Attributes of a user's model have no order. An object on two paths is read once."""
    keras_layers = framework.layers
    encoder, decoder, shared = (keras_layers.LSTM(UNITS, return_sequences=True) for _ in range(3))
    for layer in (encoder, decoder, shared):
        layer.build((None, None, FEATURES))
    model = around(encoder=around(rnn=encoder), decoder=around(deep=around(rnn=decoder), rnn=shared), again=around(rnn=encoder))
    layers = convert.read(saved(tmp_path, model=model, shared=shared))
    assert sorted(layers) in (
        ["model/again/rnn", "model/decoder/deep/rnn", "shared"],
        ["model/decoder/deep/rnn", "model/encoder/rnn", "shared"],
    )
    assert not layers.in_network_order
    np.testing.assert_allclose(apply(*layers["model/decoder/deep/rnn"], XS)[1], decoder(XS), **FLOAT32)


@FRAMEWORKS
def test_directions_that_are_reached_on_other_paths_are_one_layer(tmp_path, framework):
    """The variables of one direction are stored under its shorter path."""
    bidirectional = framework.layers.Bidirectional(framework.layers.GRU(UNITS, return_sequences=True), merge_mode="sum")
    bidirectional.build((None, None, FEATURES))
    path = saved(tmp_path, a=bidirectional.forward_layer, model=around(inner=around(both=bidirectional)))
    ((name, (layer, params)),) = convert.read(path, merge="sum").items()
    assert name == "model/inner/both"
    assert layer.merge == "sum"
    np.testing.assert_allclose(apply(layer, params, XS)[1], bidirectional(XS), **FLOAT32)


@FRAMEWORKS
def test_other_layers_are_skipped_by_name_and_hide_none(tmp_path, framework):
    """ConvLSTM, users' cells, renamed cells and layers with a norm are skipped by name."""

    class Mine(framework.layers.Layer):
        def __init__(self):
            super().__init__()
            self.units = self.state_size = self.output_size = UNITS

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], UNITS), name="kernel")
            self.recurrent_kernel = self.add_weight(shape=(UNITS, UNITS), name="recurrent_kernel")

        def call(self, inputs, states):
            h = framework.activations.tanh(inputs @ self.kernel) + states[0] @ self.recurrent_kernel
            return h, [h]

    class Gated(Mine):
        def build(self, shape):
            super().build(shape)
            self.gate = self.add_weight(shape=(UNITS,), name="gate")

    class Normed(framework.layers.LSTM):
        def build(self, shape):
            super().build(shape)
            self.norm = framework.layers.LayerNormalization()
            self.norm.build((None, None, UNITS))

    keras_layers = framework.layers
    rnns = {
        "conv": (keras_layers.ConvLSTM2D(3, 3), (None, None, 6, 6, 2)),
        "mine": (keras_layers.RNN(Mine()), (None, None, FEATURES)),
        "gated": (keras_layers.RNN(Gated()), (None, None, FEATURES)),
        "named": (keras_layers.RNN(keras_layers.LSTMCell(UNITS, name="foo")), (None, None, FEATURES)),
        "normed": (Normed(UNITS), (None, None, FEATURES)),
        "sizes": (
            keras_layers.Bidirectional(keras_layers.LSTM(UNITS), backward_layer=keras_layers.LSTM(UNITS, go_backwards=True)),
            (None, None, FEATURES),
        ),
        "fine": (keras_layers.LSTM(UNITS, return_sequences=True), (None, None, FEATURES)),
    }
    for layer, shape in rnns.values():
        layer.build(shape)
    objects = {name: layer for name, (layer, _) in rnns.items()}
    with pytest.warns(UserWarning, match="is not converted: "):
        layers = convert.read(saved(tmp_path, model=around(**objects)))
    reasons = {
        "conv": "ConvLSTM",
        "mine": "'mine'",
        "gated": "'gate'",
        "named": "'foo'",
        "normed": "'norm/gamma'",
    }
    assert sorted(layers) == ["model/fine", "model/sizes"]
    assert layers.skipped.keys() == {f"model/{name}" for name in reasons}
    for name, words in reasons.items():
        assert words in layers.skipped[f"model/{name}"]
    np.testing.assert_allclose(apply(*layers["model/fine"], XS)[1], objects["fine"](XS), **FLOAT32)


def two_sides(backward):
    """Return an object with a forward layer, and with this backward layer unless it is None."""
    sides = {"forward_layer": around(cell=variables("a/forward_lstm/lstm_cell", LSTM))}
    return around(**sides, **({} if backward is None else {"backward_layer": backward}))


def keras_stack():
    """Return a layer of stacked cells, which Keras 3 does not report to TensorFlow."""
    layer = keras.layers.RNN(keras.layers.StackedRNNCells([keras.layers.LSTMCell(2), keras.layers.GRUCell(3)]))
    layer.build((None, None, FEATURES))
    return layer


SKIPPED = {
    "Keras 3's stack": (keras_stack, "are not described in the checkpoint"),
    "one direction": (lambda: two_sides(None), "one of its two directions is not in the checkpoint"),
    "no second cell": (lambda: two_sides(around(a=tf.Variable(1.0))), "has no cell that jlstm reads"),
    "another kind": (lambda: two_sides(around(cell=variables("a/simple_rnn_cell", PLAIN))), "differ in kind or size"),
    "a wrapper": (
        lambda: around(layer=around(cell=variables("a/lstm/lstm_cell", LSTM)), vector_u=tf.Variable(np.ones((1, 4)))),
        "the layer around it has 'vector_u'",
    ),
    "CuDNN's": (lambda: variables("cu_dnnlstm", LSTM | {"bias": (8 * UNITS,)}), "CuDNN's order"),
    "peepholes": (
        lambda: around(cell=variables("a/peephole_lstm_cell", LSTM | {"input_gate_peephole_weights": (UNITS,)})),
        "'input_gate_peephole_weights'",
    ),
    "no recurrent kernel": (lambda: around(cell=variables("a/lstm_cell", {"kernel": (3, 4)})), "its cell has 'kernel'"),
    "other columns": (lambda: around(cell=variables("a/gru/gru_cell", LSTM)), "tells 3·units columns"),
    "another bias": (lambda: around(cell=variables("a/simple_rnn_cell", PLAIN | {"bias": (3,)})), "bias must have shape"),
    "a bias of another size": (lambda: around(cell=variables("a/lstm_cell", LSTM | {"bias": (3,)})), "must have shape"),
    "sizes of a stack": (
        lambda: around(
            cell=around(cells=[variables("a/lstm_cell", LSTM), variables("a/lstm_cell_1", LSTM | {"kernel": (7, 4 * UNITS)})])
        ),
        "its cell 1 takes 7 features and cell 0 gives",
    ),
    "names of two versions": (lambda: around(cell=variables("encoder/lstm_1", LSTM)), "pass recurrent_activation="),
    "a cell alone": (lambda: variables("decoder/lstm_cell", LSTM), "pass recurrent_activation="),
    "a GRU without bias": (
        lambda: around(cell=variables("a/gru/gru_cell", {"kernel": (2, 3 * UNITS), "recurrent_kernel": (UNITS, 3 * UNITS)})),
        "pass reset_after=",
    ),
    "one name twice": (
        lambda: around(
            a=variables("lstm_cell", {"kernel": (3, 4)}),
            b=variables("lstm_cell", {"bias": (4,)}),
            c=variables("lstm_cell", {"kernel": (3, 4)}),
        ),
        "several objects have variables of one name",
    ),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_not_understood_is_skipped_with_its_reason(tmp_path, case):
    """The layer is skipped with its reason, and the other layer is read."""
    make, words = SKIPPED[case]
    fine = around(cell=variables("fine/lstm_cell", LSTM))
    with pytest.warns(UserWarning, match="is not converted: "):
        layers = convert.read(saved(tmp_path, part=make(), fine=fine))
    assert [*layers] == ["fine"]
    assert words in " ".join(layers.skipped.values())
    assert words in refusal(lambda: convert.read(saved(tmp_path, part=make())))


@pytest.mark.parametrize("gates", ["hard_sigmoid_0.2", "sigmoid"])
def test_what_old_checkpoints_do_not_state_is_asked_for(tmp_path, gates):
    """In TensorFlow 1 the same names meant hard_sigmoid gates. A plain network has no gates."""
    path = saved(tmp_path, old=around(cell=variables("lstm", LSTM)), plain=around(cell=variables("simple_rnn_2", PLAIN)))
    with pytest.warns(UserWarning, match="pass recurrent_activation="):
        assert [*convert.read(path)] == ["plain"]
    layers = convert.read(path, recurrent_activation=gates)
    assert layers["old"][0].cell.recurrent_activation == gates
    assert not any("recurrent_activation" in sentence for sentence in layers.assumed)
    np.testing.assert_allclose(apply(*layers["plain"], XS)[1], elman(path, "plain"), **FLOAT32)


def elman(path, name):
    """Return the outputs of a plain recurrent network in NumPy."""
    reader = tf.train.load_checkpoint(path)
    kernel, recurrent, bias = (reader.get_tensor(f"{name}/cell/{variable}/.ATTRIBUTES/VARIABLE_VALUE") for variable in PLAIN)
    h, ys = np.zeros((BATCH, UNITS)), []
    for x in XS.swapaxes(0, 1):
        h = np.tanh(x @ kernel + h @ recurrent + bias)
        ys.append(h)
    return np.stack(ys, 1)


def test_cells_of_tensorflow_1_are_found_in_objects(tmp_path):
    """TensorFlow 1's cells are found by the full names of their variables."""
    shapes = {"kernel": (FEATURES + UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
    cells = around(a=variables("rnn/basic_lstm_cell", shapes), b=variables("rnn/basic_lstm_cell_1", shapes))
    layers = convert.read(saved(tmp_path, cells=cells, keras=around(cell=variables("a/lstm_cell", LSTM))))
    assert [*layers] == ["keras", "rnn/basic_lstm_cell", "rnn/basic_lstm_cell_1"]
    _, expected = convert.load({name: getattr(cells.b, name).numpy() for name in shapes})
    for name, array in expected.items():
        np.testing.assert_array_equal(layers["rnn/basic_lstm_cell_1"][1][name], array)
