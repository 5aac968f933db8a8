"""The plugin for jax2onnx: Flax models are exported with ONNX's own recurrent nodes, and ONNX Runtime computes the same."""

import jax
import numpy as np
import pytest
from flax import linen, nnx

import jlstm.linen
import jlstm.nnx
from jlstm import GRU, LSTM, Bidirectional, Stack
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, small_problem

jax2onnx = pytest.importorskip("jax2onnx")  # it needs another version of orbax than `just test` installs
onnxruntime = pytest.importorskip("onnxruntime")
import jlstm.convert.jax2onnx  # noqa: E402  # registers the plugin

# Importing jax2onnx is slow, and it imports examples of its own.
pytestmark = [pytest.mark.slow, pytest.mark.loose, pytest.mark.filterwarnings("ignore")]
LENGTHS = np.array([2, TIME], np.int32)
STACK = Stack((Bidirectional(GRU(UNITS)), LSTM(6, reverse=True)))


def run(function, *arrays, shapes=None):
    """Export a function, run it in ONNX Runtime, and return the results and the kinds of nodes."""
    shapes = shapes or [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    model = jax2onnx.to_onnx(function, shapes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = dict(zip([value.name for value in session.get_inputs()], arrays, strict=True))
    return session.run(None, inputs), [node.op_type for node in model.graph.node]


def test_an_nnx_model_has_native_nodes():
    """A GRU of two directions and a reverse LSTM between Flax's modules, with lengths."""

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(7, FEATURES, rngs=rngs)
            self.recurrent = jlstm.nnx.Recurrent(STACK, FEATURES, rngs=rngs)
            self.head = nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, tokens, lengths):
            carry, _ = self.recurrent(self.embed(tokens), lengths=lengths)
            return self.head(self.recurrent.last_output(carry))

    model, tokens = Model(nnx.Rngs(0)), np.random.default_rng(0).integers(0, 7, (BATCH, TIME), np.int32)
    (logits,), kinds = run(model, tokens, LENGTHS)
    np.testing.assert_allclose(logits, model(tokens, LENGTHS), rtol=1e-5, atol=1e-6)
    assert (kinds.count("GRU"), kinds.count("LSTM"), kinds.count("Loop"), kinds.count("Scan")) == (1, 1, 0, 0)


def test_a_linen_model_has_native_nodes():
    """The variables of a linen model are constants of the exported function."""
    model = linen.Sequential([jlstm.linen.Outputs(LSTM(UNITS)), linen.Dense(2)])
    xs = small_problem(LSTM(UNITS), dtype=np.float32).xs
    variables = model.init(jax.random.key(0), xs)
    (logits,), kinds = run(lambda xs: model.apply(variables, xs), xs)
    np.testing.assert_allclose(logits, model.apply(variables, xs), rtol=1e-5, atol=1e-6)
    assert kinds.count("LSTM") == 1


def test_carries_pass_through_in_any_batch_size():
    """The initial carries of both directions of each layer, and all last carries, are those of `apply`."""
    layer, params, xs, carry = small_problem(Stack((Bidirectional(LSTM(UNITS)), GRU(6))), dtype=np.float32)
    leaves, structure = jax.tree.flatten(carry)

    def apply(xs, *leaves):
        last, ys = layer.apply(params, xs, jax.tree.unflatten(structure, leaves))
        return (ys, *jax.tree.leaves(last))

    shapes = [("B", TIME, FEATURES), *(("B", leaf.shape[1]) for leaf in leaves)]
    results, _ = run(apply, xs, *leaves, shapes=shapes)
    assert_close(tuple(results), tuple(map(np.asarray, apply(xs, *leaves))), atol=1e-6)


REFUSED = {
    "a mask": (lambda layer, params, xs: layer.apply(params, xs, mask=xs[..., 0] > 0), "ONNX's nodes have no mask: pass lengths"),
    "dropout": (lambda layer, params, xs: layer.apply(params, xs, key=jax.random.key(0)), "have no key: turn dropout off"),
    "an option": (lambda layer, params, xs: LSTM(UNITS, cell_clip=1.0).apply(params, xs), r"ONNX has no cell_clip=1\.0"),
    "traced parameters": (
        lambda layer, params, xs: layer.apply(params | {"bias": params["bias"] * xs.sum()}, xs),
        "params must be constants of the exported function, got its arguments: close over them",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnx_does_not_have_is_refused(name):
    """The error message is one sentence that says what to do."""
    call, sentence = REFUSED[name]
    layer, params, xs, _ = small_problem(LSTM(UNITS), dtype=np.float32)
    with pytest.raises(ValueError, match=sentence):
        run(lambda xs: call(layer, params, xs)[1], xs)
