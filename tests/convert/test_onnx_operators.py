"""ONNX: the operators of whole models in JAX, against ONNX's reference evaluator in float64 and ONNX Runtime in float32."""

import jax
import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest

from jlstm.convert import onnx as convert
from jlstm.convert.onnx_run.program import TABLE
from onnx_models import make

rng = np.random.default_rng(0)
A, B = rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 1))
IMAGE, SIGNAL = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(2, 4, 9))
MATRIX = rng.normal(size=(4, 5))
INDICES, FLAGS, MORE_FLAGS = np.array([[1, -1, 0]]), np.array([[True], [False], [True]]), np.array([True, False, False, True])
CHANNELS = [rng.normal(size=4) for _ in range(3)]
POSITIVE = np.abs(rng.normal(size=4))


def kernel(*shape):
    """Return the weights of a convolution."""
    return np.random.default_rng(len(shape)).normal(size=shape)


def whole(*numbers):
    """Return integers, which are constants of the file."""
    return np.array(numbers, np.int64)


# Operator, inputs and attributes. Floats and booleans are inputs of the model, and int64 numbers are constants.
CASES = [
    *[(name, [A], {}) for name in ("Exp", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Tan", "Tanh", "Sinh", "Cosh", "Atan")],
    *[(name, [A], {}) for name in ("Relu", "Sigmoid", "Softplus", "Softsign", "Erf", "HardSwish", "Mish", "Neg", "Abs")],
    *[(name, [A], {}) for name in ("LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "Gelu", "Identity", "Reciprocal")],
    *[(name, [A], {"alpha": 0.3}) for name in ("LeakyRelu", "Elu", "Celu", "HardSigmoid")],
    *[(name, [np.abs(A)], {}) for name in ("Log", "Sqrt")],
    *[(name, [A, B], {}) for name in ("Add", "Sub", "Mul", "Div", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "PRelu")],
    *[(name, [A, B, A[0]], {}) for name in ("Min", "Max", "Sum", "Mean")],
    *[(name, [FLAGS, MORE_FLAGS], {}) for name in ("And", "Or", "Xor", "Equal")],
    ("Gelu", [A], {"approximate": "tanh"}),
    ("Not", [FLAGS], {}),
    ("IsNaN", [np.where(A > 0, A, np.nan)], {}),
    ("Pow", [np.abs(A), B], {}),
    ("Mod", [A, B], {"fmod": 1}),
    ("Clip", [A, np.array(-0.5), np.array(0.5)], {}),
    ("Clip", [A, "", np.array(0.5)], {}),
    ("Where", [FLAGS, A, B], {}),
    ("Cast", [FLAGS], {"to": onnx.TensorProto.DOUBLE}),
    ("CastLike", [FLAGS, A], {}),
    ("Reshape", [A, whole(0, -1)], {}),
    ("Flatten", [A], {"axis": 2}),
    ("Squeeze", [A[:, None], whole(1)], {}),
    ("Unsqueeze", [A, whole(0, -1)], {}),
    ("Transpose", [A], {"perm": [1, 2, 0]}),
    ("Slice", [A, whole(-1, 0), whole(-(2**62), 2), whole(1, 2), whole(-2, 1)], {}),
    ("Split", [A, whole(1, 2)], {"axis": 1}),
    ("Concat", [A, A[:, :1]], {"axis": 1}),
    ("Gather", [A, INDICES], {"axis": 1}),
    ("GatherElements", [A, np.array([[[0, -1, 2, 1]]] * 2)], {"axis": 1}),
    ("GatherND", [A, np.array([[0, 1], [1, 2]])], {}),
    ("ScatterND", [A, np.array([[0, 1], [1, 2]]), A[0, :2]], {}),
    ("Expand", [B, whole(2, 1, 4)], {}),
    ("Tile", [B, whole(2, 3)], {}),
    ("Pad", [A, whole(0, 1, 2, 0, 2, 1), np.array(3.0)], {}),
    ("Pad", [A, whole(1, 2), "", whole(2)], {"mode": "reflect"}),
    ("Pad", [A, whole(1, 2), "", whole(-1)], {"mode": "edge"}),
    ("Trilu", [A, whole(1).reshape(())], {"upper": 0}),
    ("OneHot", [INDICES, whole(3).reshape(()), np.array([-1.0, 2.0])], {"axis": 1}),
    ("ReverseSequence", [A, whole(2, 1, 0)], {"time_axis": 0, "batch_axis": 1}),
    ("ReverseSequence", [A, whole(3, 1)], {"time_axis": 1, "batch_axis": 0}),
    ("CumSum", [A, whole(1).reshape(())], {}),
    ("CumSum", [A, whole(-1).reshape(())], {"reverse": 1, "exclusive": 1}),
    *[(name, [A], {"axis": 1}) for name in ("Softmax", "LogSoftmax", "ArgMax")],
    ("ArgMin", [A], {"axis": -1, "keepdims": 0}),
    *[(f"Reduce{name}", [A, whole(0, 2)], {}) for name in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare")],
    ("ReduceLogSumExp", [A, whole(1)], {"keepdims": 0}),
    ("ReduceMean", [A], {}),
    ("ReduceSum", [A], {"noop_with_empty_axes": 1}),
    ("MatMul", [A, MATRIX], {}),
    ("Gemm", [A[0], A[1], A[0, 0]], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [A[0], MATRIX.T], {"transB": 1}),
    ("Einsum", [A, MATRIX], {"equation": "btf,fu->tbu"}),
    ("Conv", [SIGNAL, kernel(6, 4, 3), kernel(6)], {"pads": [1, 2], "strides": [2], "kernel_shape": [3]}),
    ("Conv", [SIGNAL, kernel(4, 1, 2)], {"group": 4, "dilations": [3]}),
    ("Conv", [IMAGE, kernel(3, 4, 3, 2), kernel(3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", [IMAGE, kernel(3, 4, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    ("MaxPool", [SIGNAL], {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", [SIGNAL], {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ("AveragePool", [IMAGE], {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1], "count_include_pad": 1}),
    ("GlobalAveragePool", [IMAGE], {}),
    ("GlobalMaxPool", [IMAGE], {}),
    ("BatchNormalization", [IMAGE, *CHANNELS, POSITIVE], {"epsilon": 1e-3}),
    ("LayerNormalization", [A, A[0], A[1]], {"axis": 1}),
    ("LayerNormalization", [A, A[0, 0]], {}),
    ("InstanceNormalization", [SIGNAL, *CHANNELS[:2]], {}),
    ("GroupNormalization", [SIGNAL, *CHANNELS[:2]], {"num_groups": 2}),
    ("Dropout", [A], {}),
]
NAMES = [f"{k}_{operator}" for k, (operator, _, _) in enumerate(CASES)]
OUTPUTS = {"Split": 2}
# The reference computes these in float32, or with constants that are rounded to float32.
IN_FLOAT32 = {"Selu", "Erf", "Gelu", "HardSwish", "HardSigmoid", "LeakyRelu", "GroupNormalization"}


def whole_model(cases, opset, dtype):
    """Return the bytes of a model with one node for each case, its inputs, and the names of its outputs by case."""
    nodes, tensors, inputs, outputs = [], [], {}, {}
    for name, (operator, arguments, attributes) in zip(NAMES, cases, strict=False):
        names = ["" if isinstance(value, str) else f"{name}_input_{j}" for j, value in enumerate(arguments)]
        outputs[name] = [f"{name}_{j}" for j in range(OUTPUTS.get(operator, 1))]
        nodes.append(make.make_node(operator, names, outputs[name], name, **attributes))
        for value, key in zip(arguments, names, strict=True):
            if key and value.dtype == np.int64:
                tensors.append(onnx.numpy_helper.from_array(value, key))
            elif key:
                inputs[key] = value.astype(dtype) if value.dtype == np.float64 else value
    infos = [
        make.make_tensor_value_info(key, make.np_dtype_to_tensor_dtype(value.dtype), value.shape) for key, value in inputs.items()
    ]
    results = [make.make_empty_tensor_value_info(key) for keys in outputs.values() for key in keys]
    graph = make.make_graph(nodes, "g", infos, results, tensors)
    proto = make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=10)
    return proto.SerializeToString(), inputs, outputs


def ours(path, inputs):
    """Return all outputs of a model by name, computed by one program."""
    model = convert.model(path)
    results = jax.jit(model.apply)(model.params, inputs)
    return dict(zip(model.outputs, results, strict=True))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the results of all cases: ours, and those of the reference evaluator."""
    content, inputs, outputs = whole_model(CASES, 21, np.float64)
    path = tmp_path_factory.mktemp("model") / "a.onnx"
    path.write_bytes(content)
    expected = onnx.reference.ReferenceEvaluator(onnx.load_model_from_string(content)).run(None, inputs)
    keys = [key for case_keys in outputs.values() for key in case_keys]
    with jax.enable_x64(True):
        return ours(path, inputs), dict(zip(keys, expected, strict=True)), outputs


@pytest.mark.parametrize("name", NAMES)
def test_operators_compute_what_the_reference_does(results, name):
    """Values, shapes and kinds of numbers are those of ONNX's reference, in float64."""
    got, expected, outputs = results
    tolerance = 1e-6 if name.partition("_")[2] in IN_FLOAT32 else 1e-12
    for key in outputs[name]:
        assert got[key].dtype == expected[key].dtype
        np.testing.assert_allclose(got[key], expected[key], rtol=tolerance, atol=tolerance)


def test_every_operator_has_a_case():
    """A new operator of the table needs a case above, or a test of constants."""
    of_constants = {"Constant", "ConstantOfShape", "Shape", "Size", "Range", "DequantizeLinear", "Swish"}
    assert TABLE.keys() - {operator for operator, _, _ in CASES} == of_constants


OLD = [
    ("Softmax", [A], {"axis": 1}),  # over both remaining axes
    ("LogSoftmax", [A], {}),
    ("Dropout", [A], {"ratio": 0.5}),
    ("Clip", [A], {"min": -0.5, "max": 0.5}),
    ("Pad", [A], {"pads": [0, 1, -1, 0, 0, 2], "value": 2.0}),
    ("Slice", [A], {"starts": [1], "ends": [-1], "axes": [1]}),
    ("Squeeze", [A[:, None]], {"axes": [1]}),
    ("Unsqueeze", [A], {"axes": [0, 2]}),
    ("Split", [A], {"axis": 1, "split": [2, 1]}),
    ("ReduceMean", [A], {"axes": [1], "keepdims": 0}),
]


def test_old_versions_of_operators_take_attributes(tmp_path):
    """Opset 9 has attributes where newer versions have inputs, and a Softmax over several axes: ONNX Runtime agrees."""
    content, inputs, outputs = whole_model(OLD, 9, np.float32)
    (tmp_path / "a.onnx").write_bytes(content)
    got = ours(tmp_path / "a.onnx", inputs)
    expected = onnxruntime.InferenceSession(content).run(None, inputs)
    for key, value in zip([key for keys in outputs.values() for key in keys], expected, strict=True):
        np.testing.assert_allclose(got[key], value, rtol=1e-5, atol=1e-6, err_msg=key)
