"""Checks of the arguments of `fit` and `evaluate`."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from jlstm._src import checks
from jlstm.data import Batches
from jlstm.train.sharding import BATCH, UNITS

LOSS = "(params, examples, key, carry) -> Outcome"


def check_measured(loss_fn: Any, params: Any, batches: Any, begin: Any, mesh: Any) -> None:
    """Check the arguments that `fit` and `evaluate` share.

    Raises:
        TypeError: An argument has the wrong type.
    """
    checks.function("loss_fn", loss_fn, LOSS)
    checks.arrays("params", params)
    checks.instance("batches", batches, Batches, "jlstm.data.Minibatches(examples, size)")
    if begin is not None:
        checks.function("begin", begin, "size -> carry")
    if mesh is not None and (not isinstance(mesh, Mesh) or mesh.axis_names != (BATCH, UNITS)):
        raise TypeError(f"mesh must be one that jlstm.train.mesh makes, got {checks.brief(mesh)}")


def check_optimizer(optimizer: Any) -> None:
    """Require an optax transformation, or raise TypeError."""
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        raise TypeError(f"optimizer must be one of optax such as optax.adam(1e-3), got {checks.brief(optimizer)}")


def check_fit(
    params: Any,
    optimizer: Any,
    validation: Any,
    key: Any,
    nonfinite: Any,
    *,
    paths: dict[str, Any],
    flags: dict[str, Any],
) -> None:
    """Check the arguments that only `fit` takes.

    Args:
        params: Arrays, all of a floating dtype.
        optimizer: An optax transformation.
        validation: Batches or None.
        key: One random key or None.
        nonfinite: "stop" or "skip".
        paths: Arguments that must be paths or None, by name.
        flags: Arguments that must be booleans, by name.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: `key` is an array of several keys.
    """
    checks.arrays("params", params, floating=True)
    check_optimizer(optimizer)
    if validation is not None:
        checks.instance("validation", validation, Batches, "jlstm.data.Minibatches(examples, size)")
    if key is not None:
        checks.key("key", key)
    checks.one_of("nonfinite", nonfinite, ("stop", "skip"))
    for name, path in paths.items():
        if path is not None:
            checks.path(name, path)
    for name, value in flags.items():
        checks.flag(name, value)


def check_functions(stop: Any, callbacks: Any, evaluation_params: Any) -> None:
    """Check the functions that `fit` calls at each record, or raise TypeError."""
    if stop is not None:
        checks.function("stop", stop, "such as jlstm.train.early_stopping()")
    if evaluation_params is not None:
        checks.function("evaluation_params", evaluation_params, "(opt_state, params) -> params")
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise TypeError(f"callbacks must be a list of functions (record, params) -> None, got {checks.brief(callbacks)}")


def check_numbers(epochs: Any, steps: Any, **counts: Any) -> None:
    """Check that exactly one of `epochs` and `steps` is set, and that all counts are positive integers or None.

    Raises:
        ValueError: Both or neither of `epochs` and `steps` are set, or a number is below 1.
    """
    for name, value in {"epochs": epochs, "steps": steps, **counts}.items():
        if value is not None:
            checks.positive(name, value)
    if (epochs is None) == (steps is None):
        raise ValueError(f"give either epochs or steps, got epochs={epochs} and steps={steps}")


def check_tree(name: str, like: Any) -> None:
    """Check that `like` is a pytree of arrays or of `jax.ShapeDtypeStruct`.

    Raises:
        TypeError: `like` has no leaves, or a leaf has no shape.
    """
    leaves = jax.tree.leaves(like)
    if not leaves or not all(isinstance(getattr(leaf, "shape", None), tuple) for leaf in leaves):
        raise TypeError(f"{name} must be parameters or jax.eval_shape of an init, got {checks.brief(like)}")
