"""Runs a whole Keras model on random inputs and records what its recurrent layers receive and return."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from parity.model.original import Recorded
from parity.peers._keras import tf

BATCH, TIME = 2, 12
_PADDED = 3  # steps at the end of the second sequence, where the model has a layer that masks


def recorded(model: Any, layers: Mapping[str, Any]) -> tuple[dict[str, Recorded], list[str]]:
    """Run the model once and return what each of its layers received and returned.

    Args:
        model: a whole Keras model.
        layers: its recurrent layers by name.

    Returns:
        The records by name, and one sentence about the layers that were not run, with the reason.
    """
    calls: dict[str, tuple[Any, ...]] = {}
    reason = "the model does not call it"
    with recorded_calls(layers, calls.setdefault):
        try:
            model(sample_inputs(model), training=False)
        except Exception as error:  # a layer may raise anything; the reason is reported
            reason = (str(error).strip().split("\n")[0] or type(error).__name__)[:160]
    records = {name: _record(layers[name], *call) for name, call in calls.items()}
    missing = sorted(layers.keys() - records.keys())
    sentence = f"{', '.join(missing[:4])}: compared alone and not in the whole model, which could not be run for it ({reason})"
    return records, [sentence] if missing else []


@contextmanager
def recorded_calls(layers: Mapping[str, Any], record_call: Callable[[str, tuple[Any, ...]], Any]) -> Iterator[None]:
    """Pass each layer's name and the arguments, keyword arguments and results of each of its calls to `record_call`."""
    originals = {name: layer.call for name, layer in layers.items()}

    def recording(name: str, call: Any) -> Any:
        def record(*args: Any, **kwargs: Any) -> Any:
            results = call(*args, **kwargs)
            record_call(name, (args, kwargs, results))
            return results

        return record

    for name, layer in layers.items():
        # Keras tracks what is assigned to a layer; `object.__setattr__` bypasses that.
        object.__setattr__(layer, "call", recording(name, originals[name]))
    try:
        yield
    finally:
        for layer in layers.values():
            object.__delattr__(layer, "call")


def _record(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], results: Any) -> Recorded:
    """Return a layer's call in our order: batch before time, outputs in the order of the inputs."""
    arguments = inspect.signature(type(layer).call).bind(layer, *args, **kwargs).arguments
    # Keras 3 calls the argument `sequences`, Keras 2 `inputs`, where initial states may follow in the same list.
    xs, *states = jax.tree.leaves(arguments.get("sequences", arguments.get("inputs")))
    states = states or [state for state in jax.tree.leaves(arguments.get("initial_state")) if state is not None]
    inner = getattr(layer, "forward_layer", layer)
    count = 2 if inner is not layer and layer.merge_mode is None else 1
    arrays = [tf.cast(array, "float64").numpy() for array in jax.tree.leaves(results)]
    time_major = getattr(inner, "time_major", False)
    batch_first = (lambda array: array.swapaxes(0, 1)) if time_major else (lambda array: array)
    outputs, last_states = arrays[:count], arrays[count:]
    mask = arguments.get("mask")
    mask = jax.tree.leaves(mask)[0] if jax.tree.leaves(mask) else None
    ys = None
    if inner.return_sequences:
        ys = [batch_first(y)[:, ::-1] if inner.go_backwards else batch_first(y) for y in outputs]
    return Recorded(
        xs=batch_first(tf.cast(xs, "float64").numpy()),
        mask=None if mask is None else batch_first(np.array(mask)),
        carry=[tf.cast(state, "float64").numpy() for state in states] or None,
        ys=ys,
        last=None if ys else outputs,
        states=last_states if inner.return_state else None,
    )


def sample_inputs(model: Any, lengths: Sequence[int] | None = None) -> Any:
    """Return random inputs: words of the smallest vocabulary, or numbers. They have padding if a layer of the model masks it.

    Args:
        model: a whole Keras model.
        lengths: how many steps of each sequence count; None for a padded second sequence.
    """
    rng = np.random.default_rng(0)
    layers = list(model._flatten_layers())
    # The smallest vocabulary, because it is unknown which input goes to which embedding.
    words = min((layer.input_dim for layer in layers if type(layer).__name__ == "Embedding"), default=2)
    padding = [layer.mask_value for layer in layers if type(layer).__name__ == "Masking"]
    shapes = [(tuple(value.shape), str(value.dtype).removeprefix("<dtype: '").removesuffix("'>")) for value in model.inputs]
    inputs = [_random_input(rng, shape, dtype, words, padding[0] if padding else None, lengths) for shape, dtype in shapes]
    return inputs[0] if len(inputs) == 1 else inputs


def _random_input(
    rng: Any, shape: tuple[int | None, ...], dtype: str, words: int, padding: float | None, lengths: Sequence[int] | None
) -> Any:
    free = (BATCH, TIME) if lengths is None else (len(lengths), max(lengths))
    sizes = [size or free[min(k, 1)] for k, size in enumerate(shape)]
    if dtype == "string":
        raise ValueError("it takes strings")
    if len(sizes) < 3 and (dtype.startswith(("int", "uint")) or words > 2):  # an embedding takes floats that are whole, too
        # From 1 on, because mask_zero=True of an Embedding takes 0 for padding.
        numbers = rng.integers(1 if words > 2 else 0, words, sizes)
        if len(sizes) > 1:
            numbers[_is_padding(sizes, lengths)] = 0  # what mask_zero masks
        return tf.constant(numbers, dtype)
    numbers = rng.standard_normal(sizes)
    if padding is not None and len(sizes) > 2:
        numbers[_is_padding(sizes, lengths)] = padding
    return tf.constant(numbers, dtype)


def _is_padding(sizes: Sequence[int], lengths: Sequence[int] | None) -> np.ndarray:
    """Return which steps are padding, (batch, time): without lengths, the last ones of all sequences but the first."""
    counts = [sizes[1], *[sizes[1] - _PADDED] * (sizes[0] - 1)] if lengths is None else lengths
    return np.arange(sizes[1]) >= np.array(counts)[:, None]
