"""`parity.assert_same_model`: outputs and gradients of two callables, and what it says where they differ."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from parity import assert_same_model

XS = np.random.default_rng(0).normal(size=(2, 3))
MATRIX = np.random.default_rng(1).normal(size=(3, 4))


class Product(torch.nn.Module):
    """A product with a matrix, tanh, and the largest position, in a dict."""

    def forward(self, xs):
        ys = torch.tanh(xs @ torch.tensor(MATRIX, dtype=xs.dtype))
        return {"ys": [ys], "best": ys.argmax(-1)}


def ours(xs):
    """The same in JAX."""
    ys = jnp.tanh(xs @ jnp.asarray(MATRIX, xs.dtype))
    return {"best": ys.argmax(-1), "ys": (ys,)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_outputs_and_gradients_of_pytorch_are_compared(dtype):
    """Dicts may have another order, and tuples may be lists."""
    names = assert_same_model(ours, Product(), XS.astype(dtype))
    assert set(names) == {"outputs['best']", "outputs['ys'][0]", "d_inputs[0]"}
    assert set(assert_same_model(ours, Product(), XS.astype(dtype), gradients=False)) == set(names) - {"d_inputs[0]"}


def test_plain_functions_give_outputs_only():
    """A list of one output is this output, as a session of ONNX Runtime returns it. Several inputs are several arguments."""
    assert assert_same_model(jnp.add, lambda a, b: [a + b], (XS, XS)) == ("outputs",)
    with pytest.raises(ValueError, match="leave gradients out"):
        assert_same_model(jnp.add, np.add, (XS, XS), gradients=True)


def changed(part, change):
    """Return a function like `ours` with one changed output."""
    return lambda xs: (result := ours(xs)) | {part: change(result[part])}


WRONG = {
    "a value": (
        changed("ys", lambda ys: [ys[0].at[1, 2].add(1e-3)]),
        r"outputs\['ys'\]\[0\]: .* instead of .* at \[1, 2\], off by 0.001",
    ),
    "a whole number": (
        changed("best", lambda best: best.at[0].add(1)),
        r"'best'\]: .* at \[0\], off by 1 \(allowed 0\)",
    ),
    "a shape": (changed("best", lambda best: best[:1]), r"outputs\['best'\]: ours has shape \(1,\), theirs \(2,\)"),
    "a name": (lambda xs: {"ys": ours(xs)["ys"]}, r"only theirs outputs\['best'\]"),
    "not a number": (changed("ys", lambda ys: [ys[0] * jnp.nan]), "nan instead of"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_differences_are_named(kind):
    """The message names the result, the worst element and both values."""
    function, message = WRONG[kind]
    with pytest.raises(AssertionError, match=message):
        assert_same_model(function, Product(), XS)


def test_wrong_gradients_are_named():
    """The outputs are equal, and the gradient is not."""
    function = changed("ys", lambda ys: [2 * lax.stop_gradient(ys[0]) - ys[0]])
    with pytest.raises(AssertionError, match=r"1 of 3 results differ:\nd_inputs\[0\]"):
        assert_same_model(function, Product(), XS)


def test_the_tolerance_is_a_share_of_the_largest_value():
    """A tolerance of a tenth allows an error of a twentieth."""
    assert_same_model(lambda x: 1.05 * x, np.asarray, XS, tolerance=0.1)
    with pytest.raises(AssertionError, match="outputs"):
        assert_same_model(lambda x: 1.05 * x, np.asarray, XS, tolerance=0.01)
    with pytest.raises(ValueError, match="at least 0"):
        assert_same_model(np.asarray, np.asarray, XS, tolerance=-1)
