"""Compares two whole models: outputs, and gradients for the inputs where both can be differentiated."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jlstm._src import checks
from parity import tolerance as tolerances

Arrays = dict[str, np.ndarray]


def assert_same_model(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    inputs: Any,
    *,
    tolerance: float | None = None,
    gradients: bool | None = None,
    seed: int = 0,
) -> tuple[str, ...]:
    """Raise AssertionError if two models do not compute the same from the same inputs.

    Both are called with the inputs. Outputs may be arrays or tensors of any framework, in tuples, lists and dicts; tuples and
    lists are the same, and so are an output and a list of this output only. Whole numbers and booleans must be equal.

    Gradients are those of the sum of all floating outputs, each number multiplied by a random one, for the floating inputs. Ours
    are computed by JAX, and theirs by PyTorch if `theirs` is a module of PyTorch, which then gets tensors, or by TensorFlow if it
    is a model or layer of Keras on TensorFlow. For any other function, only outputs are compared.

    Args:
        ours: a function of JAX, such as `lambda xs: model.apply(model.params, xs)`.
        theirs: any callable that takes NumPy arrays, or a module of PyTorch or a model of Keras.
        inputs: a tuple or list has one argument in each place; anything else, such as an array or a dict, is the only argument.
        tolerance: the largest difference, as a share of the largest absolute value of a result. None takes 1e-11 in float64, and
            256 · eps in lower precision, but at most √eps, for the lower precision of the two results.
        gradients: whether gradients are compared. None compares them if both sides have them.
        seed: the seed of the random numbers of the gradients.

    Returns:
        The names of the results that were compared, such as "outputs[0]" and "d_inputs[0]".

    Raises:
        AssertionError: a result differs. The message names each that does, its worst element, and both values.
        TypeError: an argument has a wrong type.
        ValueError: `gradients` is True and there are none, or `tolerance` is negative.

    Examples:
        >>> import numpy as np, jax.numpy as jnp
        >>> assert_same_model(jnp.tanh, np.tanh, np.array([0.5, 1.0]))
        ('outputs',)
    """
    checks.function("ours", ours, "f(*inputs)")
    checks.function("theirs", theirs, "f(*inputs)")
    checks.whole("seed", seed)
    if tolerance is not None and (not isinstance(tolerance, int | float) or not tolerance >= 0):
        raise ValueError(f"tolerance must be a number of at least 0, got {checks.brief(tolerance)}: pass such a number")
    if gradients is not None:
        checks.flag("gradients", gradients)
    if not jax.tree.leaves(inputs):
        raise TypeError(f"inputs must be arrays, got {checks.brief(inputs)}: pass the arguments of both models")
    checks.arrays("inputs", inputs)
    arguments = jax.tree.map(np.asarray, list(inputs) if isinstance(inputs, list | tuple) else [inputs])
    floating = [leaf for leaf in jax.tree.leaves(arguments) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    call = _caller(theirs)
    if gradients and not (floating and call):
        raise ValueError(
            "theirs must be a module of PyTorch or a model of Keras on TensorFlow, and take floating inputs, to have gradients: "
            "leave gradients out"
        )
    differentiate = bool(floating and call) if gradients is None else gradients
    rng = np.random.default_rng(seed)

    # The gradients are those of a sum of all outputs with random weights: a sum with equal weights would hide errors that cancel.
    def draw(output: Any) -> np.ndarray:
        return rng.normal(size=output.shape).astype(output.dtype)

    # JAX would round float64 inputs to float32, and the comparison with theirs would then be one of roundings.
    with jax.enable_x64(any(leaf.dtype.itemsize == 8 for leaf in floating)):
        our_results, weights = _ours(ours, arguments, draw if differentiate else None)
        their_results = _results(theirs(*arguments)) if call is None else call(theirs, arguments, weights)
    _compare(our_results, their_results, tolerance)
    return tuple(our_results)


def _flat(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a tree by names such as "outputs[0]['h']"."""
    if isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from _flat(f"{name}[{key!r}]", part)
    elif isinstance(tree, tuple | list):
        for k, part in enumerate(tree):
            yield from _flat(f"{name}[{k}]", part)
    elif tree is not None:
        yield name, tree


def _outputs(results: Any) -> Any:
    """Return the outputs without the list around a single one."""
    return results[0] if isinstance(results, tuple | list) and len(results) == 1 else results


def _named(name: str, tree: Any) -> Arrays:
    return {key: _array(leaf) for key, leaf in _flat(name, tree)}


def _results(outputs: Any) -> Arrays:
    return _named("outputs", _outputs(outputs))


def _array(value: Any) -> np.ndarray:
    """Return an array or tensor of any framework as a NumPy array."""
    if hasattr(value, "detach"):  # PyTorch
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value  # NumPy has no bfloat16
    return np.asarray(value)


def _ours(function: Callable[..., Any], arguments: list[Any], draw: Callable[[Any], np.ndarray] | None) -> tuple[Arrays, Arrays]:
    """Return the outputs, the gradients, and the random numbers by which the floating outputs are multiplied.

    Args:
        function: ours.
        arguments: what it is called with.
        draw: returns random numbers for an output; None for outputs only.
    """
    if draw is None:
        return _results(function(*arguments)), {}
    leaves, structure = jax.tree.flatten(arguments)
    places = [k for k, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    def outputs_of(floating: list[Any]) -> tuple[Any, Any]:
        new_leaves = list(leaves)
        for k, leaf in zip(places, floating, strict=True):
            new_leaves[k] = leaf
        outputs = dict(_flat("outputs", _outputs(function(*jax.tree.unflatten(structure, new_leaves)))))
        return {name: output for name, output in outputs.items() if jnp.issubdtype(output.dtype, jnp.floating)}, outputs

    floating, pullback, outputs = jax.vjp(outputs_of, [leaves[k] for k in places], has_aux=True)
    weights = {name: draw(output) for name, output in floating.items()}
    (gradients,) = pullback(jax.tree.map(jnp.asarray, weights))
    return {name: _array(output) for name, output in outputs.items()} | _named("d_inputs", gradients), weights


def _caller(model: Any) -> Callable[[Any, list[Any], Arrays], Arrays] | None:
    """Return the function that calls a model of PyTorch or TensorFlow, and differentiates it; None for any other callable."""
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if torch is not None and isinstance(model, torch.nn.Module):
        return _torch_results
    if keras is not None and isinstance(model, keras.layers.Layer) and keras.backend.backend() == "tensorflow":
        return _tensorflow_results
    return None


def _torch_results(model: Any, arguments: list[Any], weights: Arrays) -> Arrays:
    torch: Any = sys.modules["torch"]
    tensors = jax.tree.map(torch.tensor, arguments)
    floating = [leaf.requires_grad_() for leaf in jax.tree.leaves(tensors) if leaf.is_floating_point()]
    outputs = model(*tensors)
    if not weights:
        return _results(outputs)
    by_name = dict(_flat("outputs", _outputs(outputs)))
    total = sum((by_name[name] * torch.tensor(weight)).sum() for name, weight in weights.items() if name in by_name)
    return _results(outputs) | _named("d_inputs", list(torch.autograd.grad(total, floating, materialize_grads=True)))


def _tensorflow_results(model: Any, arguments: list[Any], weights: Arrays) -> Arrays:
    tensorflow: Any = sys.modules["tensorflow"]
    tensors = jax.tree.map(tensorflow.constant, arguments)
    floating = [leaf for leaf in jax.tree.leaves(tensors) if leaf.dtype.is_floating]
    with tensorflow.GradientTape() as tape:
        tape.watch(floating)
        outputs = model(*tensors)
        by_name = dict(_flat("outputs", _outputs(outputs)))
        total = sum(tensorflow.reduce_sum(by_name[name] * weight) for name, weight in weights.items() if name in by_name)
    if not weights:
        return _results(outputs)
    return _results(outputs) | _named("d_inputs", tape.gradient(total, floating, unconnected_gradients="zero"))


def _compare(ours: Arrays, theirs: Arrays, tolerance: float | None) -> None:
    """Raise AssertionError if results have other names, shapes or values."""
    if ours.keys() != theirs.keys():
        only_ours, only_theirs = (", ".join(a.keys() - b.keys()) or "nothing" for a, b in ((ours, theirs), (theirs, ours)))
        raise AssertionError(
            f"the models do not return the same results: only ours returns {only_ours}, only theirs {only_theirs}"
        )
    complaints = [line for name in ours if (line := complaint(name, ours[name], theirs[name], tolerance))]
    if complaints:
        raise AssertionError(f"{len(complaints)} of {len(ours)} results differ:\n" + "\n".join(complaints))


def complaint(name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float | None = None) -> str:
    """Return how a result differs, with its worst element and both values; "" if it does not.

    Args:
        name: the name of the result.
        ours, theirs: its values.
        tolerance: as in `assert_same_model`.
    """
    if ours.shape != theirs.shape:
        return f"{name}: ours has shape {ours.shape}, theirs {theirs.shape}"
    floating = [array.dtype for array in (ours, theirs) if jnp.issubdtype(array.dtype, jnp.floating)]
    share = 0.0
    if floating:
        share = max(tolerances.of_model(float(jnp.finfo(dtype).eps)) for dtype in floating) if tolerance is None else tolerance
    wide_ours, wide_theirs = (array.astype(np.float64) for array in (ours, theirs))
    with np.errstate(invalid="ignore"):  # the difference of two infinities
        distances = np.abs(wide_ours - wide_theirs)
    same = (wide_ours == wide_theirs) | (np.isnan(wide_ours) & np.isnan(wide_theirs))
    distances = np.where(same, 0, np.nan_to_num(distances, nan=np.inf))
    # Of the largest number, since small ones may come from large ones that cancel.
    limit = share * float(np.abs(wide_theirs[np.isfinite(wide_theirs)]).max(initial=0))
    if distances.max(initial=0) <= limit:
        return ""
    place: Sequence[int] = [int(k) for k in np.unravel_index(distances.argmax(), distances.shape)]
    values = f"{wide_ours[tuple(place)]:.9g} instead of {wide_theirs[tuple(place)]:.9g}"
    wrong = f"{(distances > limit).sum()} of {distances.size} numbers"
    return f"{name}: {values} at {place}, off by {distances.max():.2g} (allowed {limit:.2g}), in {wrong}"
