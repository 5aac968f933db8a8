"""Single layers of a Keras model compute what NumPy does."""

import numpy as np
import pytest

from jlstm.convert import keras as convert
from keras_files import layer, write

STEPS = np.arange(24.0, dtype=np.float32).reshape(2, 4, 3) - 8  # (batch, time, features)
PAIRS = STEPS.reshape(2, 2, 2, 3)
LAYERS = [  # layer, what NumPy computes
    (layer("Permute", dims=[2, 1]), STEPS.swapaxes(1, 2)),
    (layer("Reshape", target_shape=[2, -1]), STEPS.reshape(2, 2, 6)),
    (layer("Flatten", data_format="channels_last"), STEPS.reshape(2, 12)),
    (layer("Cropping1D", cropping=[1, 2]), STEPS[:, 1:2]),
    (layer("ZeroPadding1D", padding=[1, 0]), np.pad(STEPS, ((0, 0), (1, 0), (0, 0)))),
    (layer("UpSampling1D", size=2), STEPS.repeat(2, axis=1)),
    (layer("MaxPooling1D", pool_size=[2], strides=[2], padding="valid"), PAIRS.max(2)),
    (layer("AveragePooling1D", pool_size=[2], strides=[2], padding="same"), PAIRS.mean(2)),
    (layer("GlobalMaxPooling1D", keepdims=True), STEPS.max(1, keepdims=True)),
    (layer("GlobalAveragePooling1D"), STEPS.mean(1)),
    (layer("ReLU", negative_slope=0.5, max_value=4.0, threshold=1.0),
     np.minimum(np.where(STEPS >= 1, STEPS, 0.5 * (STEPS - 1)), 4)),
    (layer("LeakyReLU", alpha=0.5), np.where(STEPS > 0, STEPS, STEPS / 2)),
    (layer("ELU", alpha=2.0), np.where(STEPS > 0, STEPS, 2 * np.expm1(np.minimum(STEPS, 0)))),
    (layer("Softmax", axis=-1), np.exp(STEPS) / np.exp(STEPS).sum(-1, keepdims=True)),
    (layer("UnitNormalization", axis=-1), STEPS / np.linalg.norm(STEPS, axis=-1, keepdims=True)),
    (layer("LayerNormalization", axis=[1, 2], epsilon=0.0, center=False, scale=False),
     (STEPS - STEPS.mean((1, 2), keepdims=True)) / STEPS.std((1, 2), keepdims=True)),
    (layer("Rescaling", scale=2.0, offset=1.0), 2 * STEPS + 1),
    (layer("Masking", mask_value=-8.0), STEPS),
]  # fmt: skip


@pytest.mark.parametrize(("described", "expected"), LAYERS, ids=[described["class_name"] for described, _ in LAYERS])
def test_layers_without_arrays_compute_what_numpy_does(tmp_path, described, expected):
    """Changes of shape, windows, activations and normalization."""
    model = convert.model(write(tmp_path / "a.keras", described))
    np.testing.assert_allclose(model.apply({}, STEPS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("padding", "dilation", "reads"),
    [("valid", 1, [(0, 1), (1, 2), (2, 3)]), ("causal", 2, [(None, 0), (None, 1), (0, 2), (1, 3)])],
)
def test_a_convolution_reads_its_window(tmp_path, padding, dilation, reads):
    """Each output is the sum over the steps that the window of two covers; a causal one reads no later step."""
    options = {"filters": 2, "kernel_size": [2], "strides": [1], "dilation_rate": [dilation], "groups": 1, "padding": padding}
    kernel = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    convolution = layer("Conv1D", "conv", **options, use_bias=False, activation=None)
    model = convert.model(write(tmp_path / "a.keras", convolution, arrays={"conv1d/vars/0": kernel}))
    at = lambda step: np.zeros((2, 3)) if step is None else STEPS[:, step]
    expected = np.stack([at(first) @ kernel[0] + at(second) @ kernel[1] for first, second in reads], axis=1)
    np.testing.assert_allclose(model.apply(model.params, STEPS), expected, rtol=1e-4, atol=1e-4)


def tensor(name, output=0):
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, output]}}


@pytest.mark.parametrize(
    ("class_name", "config", "args", "expected"),
    [
        ("Add", {}, [tensor("input"), 2], STEPS + 2),
        ("Subtract", {}, [1, tensor("input")], 1 - STEPS),
        ("Mean", {"axis": [1], "keepdims": False}, [tensor("input")], STEPS.mean(1)),
        ("ExpandDims", {"axis": 1}, [tensor("input")], STEPS[:, None]),
        ("Concatenate", {"axis": -1}, [[tensor("input"), tensor("input")]], np.concatenate([STEPS, STEPS], -1)),
        ("OnesLike", {"dtype": "int32"}, [tensor("input")], np.ones(STEPS.shape, np.int32)),
        ("Cast", {"dtype": "int32"}, [tensor("input")], STEPS.astype(np.int32)),
        ("ReLU", {"negative_slope": 0.0, "max_value": None, "threshold": 0.0}, [tensor("input")], np.maximum(STEPS, 0)),
        (
            "GetItem",
            {},
            [tensor("input"), [{"class_name": "__slice__", "config": {"start": 1, "stop": None, "step": None}}, -1]],
            STEPS[1:, -1],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_operations_compute_what_numpy_does(tmp_path, class_name, config, args, expected):
    """Operations of Keras 3 between layers, as a functional model lists them."""
    described = layer(class_name, "op", module="keras.src.ops.numpy", **config)
    described["inbound_nodes"] = [{"args": args, "kwargs": {}}]
    ends = {"input_layers": ["input", 0, 0], "output_layers": ["op", 0, 0]}
    model = convert.model(write(tmp_path / "a.keras", described, class_name="Functional", **ends))
    np.testing.assert_allclose(model.apply({}, STEPS), expected, rtol=1e-6)
