"""`python -m parity model.onnx`: nodes of an ONNX graph, converted, beside ONNX Runtime, which has float32 only."""

import jax
import numpy as np
import onnx
import pytest

import parity.__main__ as cli
from jlstm import GRU, LSTM, Bidirectional, Stack
from jlstm.convert import onnx as convert
from jlstm.convert.onnx_run import model, program
from problems import small_problem

LAYERS = {
    "stack": Stack((LSTM(4), GRU(2), Bidirectional(LSTM(3)))),
    "backward": GRU(4, reset_after=False, use_bias=False, reverse=True),
    "options": LSTM(4, peephole=True, coupled="f=1-i", gate_clip=0.5, recurrent_activation="hard_sigmoid_0.2"),
}


def write_model(path, layer):
    """Write a model's file."""
    convert.write(path, layer, small_problem(layer, dtype=np.float32).params)
    return path


@pytest.mark.parametrize("name", LAYERS)
def test_all_nodes_pass(name, capsys, tmp_path):
    """The nodes of a stack, a backward node and a node with ONNX-only options pass."""
    path = write_model(tmp_path / "model.onnx", LAYERS[name])
    nodes = [node for node in onnx.load(path).graph.node if node.op_type in ("LSTM", "GRU")]
    assert cli.main([str(path)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pass       float32")]
    assert len(lines) == 2 * len(nodes) + 1  # alone, in the whole model, and the whole model itself
    assert sum("(in the whole model)" in line for line in lines) == len(nodes)
    assert lines[-1].endswith("the whole model")


def test_nodes_without_names_constants_in_nodes_and_batches_first_pass(capsys, tmp_path):
    """Other exporters write constants as nodes, and `layout=1`, which ONNX Runtime refuses."""
    proto = onnx.load(write_model(tmp_path / "model.onnx", LSTM(4)))
    (node,) = (node for node in proto.graph.node if node.op_type == "LSTM")
    for tensor in list(proto.graph.initializer):
        if tensor.name in node.input:
            proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
            proto.graph.initializer.remove(tensor)
    node.name = ""
    node.attribute.append(onnx.helper.make_attribute("layout", 1))
    onnx.save(proto, tmp_path / "other.onnx")
    assert cli.main([str(tmp_path / "other.onnx")]) == 0
    assert f" {node.output[0]}\n" in capsys.readouterr().out


def test_a_wrong_conversion_is_diagnosed(capsys, monkeypatch, tmp_path):
    """The diagnosis takes ONNX Runtime as the truth."""
    read = convert.read

    def halved(path):
        return {name: (layer, params | {"bias": params["bias"] / 2}) for name, (layer, params) in read(path).items()}

    monkeypatch.setattr(convert, "read", halved)
    assert cli.main([str(write_model(tmp_path / "model.onnx", LSTM(4)))]) == 1
    printed = capsys.readouterr().out
    assert "fail       float32" in printed
    assert "onnxruntime: matches if the bias is added twice" in printed


def test_the_first_node_of_a_whole_model_that_differs_is_named(capsys, monkeypatch, tmp_path):
    """Here it is a node in the middle, a Transpose that our side runs wrongly. The recurrent layers themselves pass."""
    layers = write_model(tmp_path / "model.onnx", Stack((LSTM(4), LSTM(4))))
    name = [node for node in onnx.load(layers).graph.node if node.op_type == "Transpose"][1].output[0]

    class Wrong(program.Program):
        """A program with a wrong step."""

        def _operator(self, scope, node):
            compute = super()._operator(scope, node)
            return (lambda *arguments: [value[::-1] for value in compute(*arguments)]) if node.output[0] == name else compute

    monkeypatch.setattr(model, "Program", Wrong)
    assert cli.main([str(layers), "--lengths", "5,3"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("pass       float32") == 4
    assert f"the first node that differs is {name!r} (Transpose)" in printed


def test_a_whole_model_that_is_not_run_is_named(capsys, tmp_path):
    """A model with an operator that jlstm does not have passes by its layers, and the report says why no more was compared."""
    proto = onnx.load(write_model(tmp_path / "model.onnx", LSTM(4)))
    proto.graph.node.append(onnx.helper.make_node("Hardmax", ["ys"], ["most"], "most"))
    proto.graph.output.append(onnx.ValueInfoProto(name="most"))
    onnx.save(proto, tmp_path / "other.onnx")
    assert cli.main([str(tmp_path / "other.onnx")]) == 0
    assert "the whole model is right, which was not compared" in (printed := capsys.readouterr().out)
    assert "'most' is a node of kind Hardmax" in printed


def test_long_inputs_of_large_weights_pass(capsys, tmp_path):
    """Rounding that grows is no fault of the conversion: our own float64 run measures it."""
    layer = LSTM(4, activation="relu", use_bias=False)
    problem = small_problem(layer, dtype=np.float32)
    convert.write(tmp_path / "model.onnx", layer, jax.tree.map(lambda leaf: 2 * leaf, problem.params))
    np.savez(tmp_path / "x.npz", xs=np.random.default_rng(0).normal(size=(2, 200, 3)))
    assert cli.main([str(tmp_path / "model.onnx"), "--inputs", str(tmp_path / "x.npz")]) == 0
    assert "(your inputs)" in capsys.readouterr().out


def test_files_that_hold_anything_else_are_one_sentence(capsys, tmp_path):
    """Damaged files, and a dtype that ONNX Runtime lacks, are refused."""
    (tmp_path / "damaged.onnx").write_bytes(b"\x08\xff")
    assert cli.main([str(tmp_path / "damaged.onnx")]) == 2
    assert "is not a whole ONNX file" in capsys.readouterr().err
    convert.write(tmp_path / "double.onnx", LSTM(4), small_problem(LSTM(4)).params)
    assert cli.main([str(tmp_path / "double.onnx")]) == 2
    assert "ONNX Runtime does not run such a node" in capsys.readouterr().err
    path = write_model(tmp_path / "model.onnx", LSTM(4))
    assert cli.main([str(path), "--dtype", "float64"]) == 2
    assert "nothing to compare in float64" in capsys.readouterr().err
