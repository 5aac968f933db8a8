"""The backend `fused` for a cell of a user, whose initial carry is not zero."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm import RNN
from jlstm.cells.base import RecurrentCell
from problems import UNITS, assert_close, flags, small_problem

pytestmark = pytest.mark.usefixtures("x64")


class CountedCarry(NamedTuple):
    h: Any
    count: Any


@dataclass(frozen=True, repr=False)
class Counted(RecurrentCell):
    """h' = tanh(x W + h U) / n, where n counts the steps from 1 on."""

    units: int
    counts_in_integers: bool = False
    carry_type = CountedCarry

    @property
    def features_out(self):
        return self.units

    def init(self, key, features, dtype="float32"):
        kernel, recurrent_kernel = jnp.split(jax.random.normal(key, (features + self.units, self.units), dtype), [features])
        return {"kernel": kernel, "recurrent_kernel": recurrent_kernel}

    def begin(self, params, batch_shape, dtype, *, key=None, dropout_masks=None):
        count = jnp.ones((*batch_shape, 1), "int32" if self.counts_in_integers else dtype)
        return CountedCarry(jnp.zeros((*batch_shape, self.units), dtype), count), {}

    def project(self, params, context, xs):
        return xs @ params["kernel"]

    def sums(self, params, context, carry, z):
        return z + carry.h @ params["recurrent_kernel"]

    def advance(self, params, context, carry, sums):
        h = jnp.tanh(sums) / carry.count.astype(sums.dtype)
        return CountedCarry(h, carry.count + 1), h


def gradients(backend):
    """Return the gradients of a loss of outputs and last carry, with masked steps and resets."""
    layer, params, xs, _ = small_problem(RNN(Counted(UNITS), backend=backend))

    def loss(params, xs):
        carry, ys = layer.apply(params, xs, mask=flags(0.5), resets=flags(0.4, seed=3))
        return (ys**2).sum() + carry.h.sum()

    return jax.jit(jax.grad(loss, (0, 1)))(params, xs)


def test_masked_steps_have_finite_derivatives():
    """At a masked step the derivative is taken at the initial carry. At zeros this cell would divide by zero."""
    got = gradients("fused")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))
    assert_close(got, gradients("scan"), atol=1e-12)


def test_a_carry_with_integers_is_run_by_scan():
    """Integers have no tangents that could be selected."""
    layer, params, xs, _ = small_problem(RNN(Counted(UNITS)), dtype=np.float32)
    assert "is run by fused" in str(jlstm.explain(layer, params, xs))
    explanation = str(jlstm.explain(RNN(Counted(UNITS, counts_in_integers=True)), params, xs))
    assert "is run by scan" in explanation
    assert "not by fused: the carry has integers" in explanation
