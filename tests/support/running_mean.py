"""A cell as a user writes it, in a few lines."""

from dataclasses import dataclass

import jax.numpy as jnp

from jlstm import Cell


@dataclass(frozen=True)
class RunningMean(Cell):
    """The mean of all inputs so far, scaled. Its carry is a dict of a vector and a count, which starts at one."""

    size: int

    @property
    def features_out(self):
        return self.size

    def init(self, key, features, dtype="float32"):
        return {"scale": jnp.ones((features,), dtype)}

    def begin(self, params, batch_shape, dtype, *, key=None, dropout_masks=None):
        return {"sum": jnp.zeros((*batch_shape, self.size), dtype), "count": jnp.ones((*batch_shape, 1), dtype)}, ()

    def project(self, params, context, xs):
        return {"x": xs * jnp.expand_dims(params["scale"], range(xs.ndim - 1))}

    def step(self, params, context, carry, z):
        after = {"sum": carry["sum"] + z["x"], "count": carry["count"] + 1}
        return after, after["sum"] / after["count"]
