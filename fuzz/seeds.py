"""Write small valid files with the frameworks themselves, as first inputs of the fuzzer."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jlstm
from jlstm import convert


def hdf5(folder: Path) -> None:
    """Write weights and whole models by Keras 3 and tf-keras, and a smaller file of weights by h5py."""
    for framework, layers in _models():
        for k, layer in enumerate(layers):
            model = framework.Sequential([framework.Input((None, 1)), layer])
            model.save(folder / f"{framework.__name__}_{k}.h5")
            model.save_weights(folder / f"{framework.__name__}_{k}.weights.h5")
    h5py: Any = import_module("h5py")
    with h5py.File(folder / "plain.h5", "w") as file:
        group = file.create_group("layers/lstm/cell/vars")
        group.attrs["name"] = "lstm"
        for name, shape in {"0": (1, 4), "1": (1, 4), "2": (4,)}.items():
            group.create_dataset(name, data=np.ones(shape, "f4"))


def keras(folder: Path) -> None:
    """Write whole models by Keras 3 and tf-keras."""
    for framework, layers in _models():
        for k, layer in enumerate(layers):
            framework.Sequential([framework.Input((None, 1)), layer]).save(folder / f"{framework.__name__}_{k}.keras")


def _models() -> Iterator[tuple[Any, list[Any]]]:
    for name in ("keras", "tf_keras"):
        framework: Any = import_module(name)
        keras_layers = framework.layers
        cells = keras_layers.RNN([keras_layers.LSTMCell(1), keras_layers.GRUCell(1)])
        yield framework, [keras_layers.LSTM(1), keras_layers.Bidirectional(keras_layers.GRU(1)), cells]


def safetensors(folder: Path) -> None:
    """Write the parameters of a layer, and a `state_dict` of two layers in both directions."""
    plain = jlstm.LSTM(1, use_bias=False)
    jlstm.save(folder / "plain.safetensors", plain.init(jax.random.key(0), 1))
    layer = jlstm.Stack((jlstm.Bidirectional(jlstm.GRU(1)), jlstm.Bidirectional(jlstm.GRU(1))))
    convert.torch.write(folder / "state.safetensors", layer, layer.init(jax.random.key(0), 1))


def layers(folder: Path) -> None:
    """Write layers with their options."""
    stack = jlstm.Stack((jlstm.Bidirectional(jlstm.GRU(1, dropout=0.5)), jlstm.LSTM(1, peephole=True, remat="sqrt")))
    for name, layer in (("plain", jlstm.LSTM(1)), ("stack", stack)):
        jlstm.save(folder / f"{name}.safetensors", layer.init(jax.random.key(0), 1), layer=layer)


def onnx(folder: Path) -> None:
    """Write LSTMs, two layers of GRU, and an RNN node that is hard to reach, see `_nested`."""
    peephole = jlstm.LSTM(1, peephole=True, activation="elu", gate_clip=2.0, coupled="f=1-i")
    stack = jlstm.Stack((jlstm.Bidirectional(jlstm.GRU(1)), jlstm.GRU(1)))
    for name, layer in (("plain", jlstm.LSTM(1)), ("peephole", peephole), ("stack", stack)):
        convert.onnx.write(folder / f"{name}.onnx", layer, layer.init(jax.random.key(0), 1))
    (folder / "nested.onnx").write_bytes(_nested().SerializeToString())


def _nested() -> Any:
    """Return a model with an RNN node inside a function inside a branch of If. Operators on constants give its weights."""
    framework: Any = import_module("onnx")
    make, tensors = framework.helper, framework.numpy_helper
    steps = [
        make.make_node("DequantizeLinear", ["q", "s"], ["v"]),
        make.make_node("Slice", ["v", "from", "to"], ["u"]),
        make.make_node("Concat", ["u", "u"], ["w"], axis=1),
        make.make_node("Squeeze", ["w", "from"], ["x"]),
        make.make_node("Unsqueeze", ["x", "from"], ["y"]),
        make.make_node("Reshape", ["y", "shape"], ["z"]),
        make.make_node("RNN", ["xs", "z", "z"], ["ys"], "rnn", hidden_size=2),
    ]
    opsets = [make.make_opsetid("", 17), make.make_opsetid("ours", 1)]
    names = ["xs", "q", "s", "from", "to", "shape"]
    function = make.make_function("ours", "f", names, ["ys"], steps, opsets)
    arrays = {"q": np.ones((1, 2, 1), np.int8), "s": np.float32(0.1), "from": np.array([0]), "to": np.array([1])}
    constants = [tensors.from_array(np.asarray(value), name) for name, value in (arrays | {"shape": np.array([1, 2, 2])}).items()]
    infos = [make.make_tensor_value_info(name, framework.TensorProto.FLOAT, None) for name in ("xs", "ys")]
    sides = [make.make_graph([make.make_node("f", names, ["ys"], "call", domain="ours")], "side", [], infos[1:]) for _ in "ab"]
    choice = make.make_node("If", ["which"], ["ys"], "choice", then_branch=sides[0], else_branch=sides[1])
    condition = make.make_tensor_value_info("which", framework.TensorProto.BOOL, ())
    graph = make.make_graph([choice], "graph", [infos[0], condition], infos[1:], constants)
    return make.make_model(graph, opset_imports=opsets, functions=[function])


def torch(folder: Path) -> None:
    """Write state dicts of one layer, and of a module that holds a layer."""
    framework: Any = import_module("torch")
    framework.save(framework.nn.LSTM(1, 1, proj_size=0).state_dict(), folder / "lstm.pt")
    model = framework.nn.ModuleDict({"gru": framework.nn.GRU(1, 1, bias=False, dtype=framework.bfloat16)})
    framework.save(model.state_dict(), folder / "gru.pt")


def checkpoint(folder: Path) -> None:
    """Write cells of TensorFlow 1 in both directions, and a bidirectional layer of TensorFlow 2."""
    tf: Any = import_module("tensorflow")
    keras: Any = import_module("keras")
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        for side in ("fw", "bw"):
            for name, shape in {"kernel": (2, 4), "bias": (4,)}.items():
                tf1.get_variable(f"rnn/{side}/basic_lstm_cell/{name}", shape)
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(folder / "one"), write_meta_graph=False)
    layer = keras.layers.Bidirectional(keras.layers.LSTM(1))
    layer.build((1, None, 1))
    tf.train.Checkpoint(both=layer).write(str(folder / "two"))
