"""ONNX: the weights of DynamicQuantizeLSTM, against ONNX Runtime."""

import numpy as np
import onnx
import onnx.reference
import pytest

from conversions import refusal
from jlstm.convert import onnx as convert
from onnx_models import graph, make, outputs, runtime, saved, sequences, weights
from problems import FEATURES, UNITS


def quantize(path):
    """Quantize a file by ONNX Runtime. Return the new path."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_name("quantized.onnx")
    quantize_dynamic(path, target, weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM"])
    return target


@pytest.mark.parametrize("peephole", [False, True])
def test_quantized_layers_are_those_of_the_weights_that_their_bits_stand_for(tmp_path, peephole):
    """Outputs equal ONNX Runtime's, and weights the original ones, to 8-bit rounding."""
    rng, shapes = np.random.default_rng(3), {"P": (1, 3 * UNITS)} if peephole else {}
    constants = weights() | {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    names = ["xs", "W", "R", "B", "", "", "", "P"] if peephole else ["xs", "W", "R", "B"]
    node = make.make_node("LSTM", names, ["ys"], "layer", hidden_size=UNITS)
    path = saved(tmp_path / "a.onnx", graph([node], constants))
    target = quantize(path)
    assert [step.op_type for step in onnx.load(target).graph.node] == ["DynamicQuantizeLSTM"]
    layers = convert.read(target)
    (converted,) = layers.values()
    original = convert.read(path)["layer"]
    assert converted[0] == original[0]
    assert "is quantized" in layers.assumed[0]
    for name, leaf in original[1].items():
        step = np.abs(leaf).max() / 127 if "kernel" in name and name != "peephole_kernel" else 0
        np.testing.assert_allclose(converted[1][name], leaf, rtol=0, atol=0.51 * step + 1e-6, err_msg=name)
    xs = sequences()
    (expected,) = runtime(target, xs=xs)
    np.testing.assert_allclose(outputs(converted, xs), expected, rtol=0, atol=0.05)  # inputs and states of 8 bits there


def test_quantized_weights_have_a_scale_for_each_column_or_direction():
    """Both shapes of scales equal ONNX Runtime's own formula, in both directions."""
    from jlstm.convert.onnx_model.layers import _dequantized

    rng = np.random.default_rng(0)
    bits = {
        name: rng.integers(0, 255, (2, rows, 4 * UNITS)).astype(np.uint8) for name, rows in {"W": FEATURES, "R": UNITS}.items()
    }
    columns = {f"{name}_scale": rng.uniform(size=(2, 4 * UNITS)).astype(np.float32) for name in "WR"}
    sides = {f"{name}_scale": rng.uniform(size=2).astype(np.float32) for name in "WR"}
    for scales in (columns, sides):
        points = {name.replace("scale", "zero_point"): np.full(scale.shape, 3, np.uint8) for name, scale in scales.items()}
        result = _dequantized(bits | scales | points)
        for name in "WR":
            for d in range(2):
                expected = (bits[name][d].astype(float) - 3) * scales[f"{name}_scale"][d]
                np.testing.assert_allclose(result[name][d], expected.T, rtol=1e-6)


def test_quantized_weights_of_another_type_are_refused(tmp_path):
    """Float weights are refused: as bytes they would lose their fractions."""
    constants = {"Q": np.ones((1, FEATURES, 4 * UNITS), np.float32), "S": np.ones(1, np.float32)}
    places = ["xs", "Q", "Q", "", "", "", "", "", "S", "", "S", ""]
    node = make.make_node("DynamicQuantizeLSTM", places, ["ys"], "layer", domain="com.microsoft", hidden_size=UNITS)
    path = saved(tmp_path / "a.onnx", graph([node], constants))
    assert "its W is of float32, expected int8 or uint8" in refusal(lambda: convert.read(path))


def test_each_layer_may_compute_its_weights(tmp_path):
    """The memory for computed weights is that of one layer, so that a file may have many layers of 8-bit weights."""
    units, rng = 256, np.random.default_rng(0)
    constants, nodes = {"scale": np.float32(0.01), "zero": np.int8(0), "axis": np.array([0])}, []
    for k in range(3):
        for name in (f"W{k}", f"R{k}"):
            constants[f"{name}q"] = rng.integers(-127, 127, (units, 4 * units)).astype(np.int8)
            nodes.append(make.make_node("DequantizeLinear", [f"{name}q", "scale", "zero"], [f"{name}d"]))
            nodes.append(make.make_node("Transpose", [f"{name}d"], [f"{name}t"]))
            nodes.append(make.make_node("Unsqueeze", [f"{name}t", "axis"], [name]))
        nodes.append(make.make_node("LSTM", ["xs", f"W{k}", f"R{k}"], [f"ys{k}"], f"layer{k}", hidden_size=units))
    layers = convert.read(saved(tmp_path / "a.onnx", graph(nodes, constants, outputs=("ys0",))))
    assert list(layers) == ["layer0", "layer1", "layer2"]
