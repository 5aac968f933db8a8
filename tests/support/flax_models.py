"""Recurrent models of Flax, or of `jlstm.compat.flax`, as pure functions of their parameters."""

from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen, nnx

from jlstm.compat.flax import linen as our_linen
from jlstm.compat.flax import nnx as our_nnx
from problems import FEATURES, UNITS, normal

OURS = {linen: our_linen, nnx: our_nnx}  # by the modules that they replace


class Run(NamedTuple):
    """The results of a model and their gradients."""

    results: Any
    gradients: Any


def rnn(modules, cell, cell_options=None, **options):
    """Return an `RNN` of `modules`, which are linen, nnx or their replacements."""
    options_of_cell = {"param_dtype": jax.numpy.float64} | (cell_options or {})
    sizes = (UNITS,) if modules in (linen, our_linen) else (FEATURES, UNITS)
    rngs = {} if modules in (linen, our_linen) else {"rngs": nnx.Rngs(0)}
    return modules.RNN(getattr(modules, cell)(*sizes, **options_of_cell, **rngs), **options)


def pure(model, xs):
    """Return random parameters of a model, and a function of the parameters and the arguments of the model."""
    rng = np.random.default_rng(0)
    if isinstance(model, linen.Module):
        variables = normal(jax.eval_shape(model.init, jax.random.key(0), xs), rng=rng, dtype=xs.dtype)
        return variables, model.apply
    graph, params, other_state = nnx.split(model, nnx.Param, ...)
    # A copy: a model counts its random draws, and must not do that in the state of an outer trace.
    call = lambda params, *args, **options: nnx.merge(graph, params, other_state, copy=True)(*args, **options)
    return normal(params, rng=rng, dtype=xs.dtype), call


def run(model, xs, carry=None, *, keep=lambda results: results, **options):
    """Run a model with random parameters; gradients are those of a random combination of the results that `keep` returns."""
    params, call = pure(model, xs)

    @jax.jit
    def differentiate(params, xs, carry):
        function = lambda params, xs, carry: keep(call(params, xs, initial_carry=carry, **options))
        results, pullback = jax.vjp(function, params, xs, carry)
        return Run(results, pullback(normal(results, rng=np.random.default_rng(1), dtype=xs.dtype)))

    return differentiate(params, xs, carry)
