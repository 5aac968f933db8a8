"""Use jlstm where only the packages of its core are installed. The argument --wheel also checks what a wheel must have.

`just wheel` runs this file in an environment with nothing but the wheel. tests/project/test_imports.py runs it with all other
packages hidden.
"""

import inspect
import os
import sys
import tempfile
from importlib import import_module, metadata
from pathlib import Path

import jax
import numpy as np

import jlstm

LAYER = jlstm.LSTM(48)
PARAMS = LAYER.init(jax.random.key(0), 5)
XS = np.random.default_rng(0).normal(size=(6, 40, 5)).astype(np.float32)

NEEDED = [  # what needs a package, the package, what pip installs, and a call
    ("jlstm.linen", "flax", "jlstm[flax]", lambda: import_module("jlstm.linen")),
    ("jlstm.nnx", "flax", "jlstm[flax]", lambda: import_module("jlstm.nnx")),
    ("jlstm.models", "flax", "jlstm[flax]", lambda: import_module("jlstm.models")),
    ("jlstm.train", "optax", "jlstm[train]", lambda: import_module("jlstm.train")),
    ("jlstm.data.digits", "sklearn", "jlstm[data]", lambda: jlstm.data.digits()),
    ("downloading a data set", "pooch", "jlstm[data]", lambda: jlstm.data.mnist()),
    ("drawing", "matplotlib", "jlstm[plot]", lambda: jlstm.plot.flow({"h": [1.0, 2.0]})),
    ("a.onnx", "onnx", "onnx", lambda: jlstm.convert.onnx.write("a.onnx", LAYER, PARAMS)),
    ("python -m parity", "rich", "jlstm[parity]", lambda: import_module("parity.__main__")),
]


def check_sentences() -> None:
    """Everything that needs a further package says so in one sentence."""
    os.environ.pop("JLSTM_DATA", None)
    for user, package, install, call in NEEDED:
        sentence = ""
        try:
            call()
        except ImportError as error:
            sentence = str(error)
        assert sentence == f'{user} needs {package}, which is not installed: pip install "{install}"', sentence
    assert not hasattr(jlstm, "linen")
    assert {"LSTM", "convert", "data"} <= dict(inspect.getmembers(jlstm)).keys()  # as `help(jlstm)` calls it


def check_core() -> None:
    """A layer runs, and can be saved and loaded with its parameters. The report of `python -m jlstm` needs no other package."""
    with tempfile.TemporaryDirectory() as folder:
        jlstm.save(f"{folder}/a.safetensors", PARAMS, layer=LAYER)
        layer, params = jlstm.load_layer(f"{folder}/a.safetensors")
    np.testing.assert_array_equal(layer.apply(params, XS)[1], LAYER.apply(PARAMS, XS)[1])
    assert import_module("jlstm.__main__").facts()["versions"]["jax"] == jax.__version__


def check_wheel() -> None:
    """The package is the installed one, and its native kernel gives the results of plain `lax.scan`."""
    for module in (jlstm, import_module("parity")):
        assert Path(module.__file__).is_relative_to(sys.prefix), f"{module.__file__} is not of the wheel"
    packages = {requirement.split(">=")[0] for requirement in metadata.requires("jlstm") if "extra ==" not in requirement}
    assert packages == {"jax", "jaxtyping", "numpy", "safetensors"}
    assert jlstm.__version__ == metadata.version("jlstm") == sys.argv[2]
    explanation = jlstm.explain(LAYER, PARAMS, XS)
    assert [choice.backend for choice in explanation.choices] == ["cpu"], explanation
    ours, expected = (
        jax.tree.leaves(jax.value_and_grad(lambda params, layer=layer: (layer.apply(params, XS)[1] ** 2).mean())(PARAMS))
        for layer in (LAYER, jlstm.LSTM(48, backend="scan"))
    )
    for value, expected_value in zip(ours, expected, strict=True):
        np.testing.assert_allclose(value, expected_value, rtol=1e-4, atol=1e-6)  # sums of float32 in another order
    print(explanation)


check_sentences()
check_core()
if sys.argv[1:2] == ["--wheel"]:
    check_wheel()
