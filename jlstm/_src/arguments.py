"""Error messages for unknown arguments of functions and classes: one sentence that says what to write instead."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_ALL_OUTPUTS = "apply always returns the last carry and all outputs, and layer.last_output(carry) the last output"
_DROPOUT = "a key turns dropout on, layer.apply(params, xs, key=key), and without a key it is off"
_PADDING = "write layer.apply(params, xs, lengths=lengths), or mask="
_START = "write layer.apply(params, xs, carry) with jlstm.LSTMCarry(h, c)"
_INPUT_SIZE = "write layer.init(key, features=…), since only the parameters depend on it"
_DTYPE = "write dtype= for what it computes in, and param_dtype= for its parameters"
_PENALTY = "add the penalty to the loss, or use optax.add_decayed_weights"
_CONSTRAINT = "write an optax transformation, as optax.keep_params_nonnegative"
_SCAN = "write jax.lax.scan over layer.step, or use jlstm.linen.Step"
_NAMES = "parameters are named by the structure of the layer, and may be used twice: leave it out"
_RANDOM = "write key=jax.random.key(0), in layer.init and where dropout is drawn"

INSTEAD = {
    # PyTorch
    "input_size": _INPUT_SIZE,
    "hidden_size": "write the number of units first, as in LSTM(20)",
    "num_layers": "write Stack((LSTM(20), LSTM(20)))",
    "batch_first": "inputs are (batch, time, features), with time_major=True (time, batch, features)",
    "bidirectional": "write Bidirectional(LSTM(20))",
    "proj_size": "write projection=",
    "nonlinearity": "write activation=",
    "bias": "write use_bias=",
    "hx": _START,
    "h_0": _START,
    "h0": _START,
    "c0": _START,
    "enforce_sorted": "sequences may come in any order: write layer.apply(params, xs, lengths=lengths)",
    "device": "write jax.device_put(params, device), or use jax.default_device",
    # Keras and TensorFlow
    "return_sequences": _ALL_OUTPUTS,
    "return_state": _ALL_OUTPUTS,
    "stateful": "give the last carry to the next call, carry, ys = layer.apply(params, xs, carry)",
    "go_backwards": "write reverse=True, whose outputs stay in the order of the inputs",
    "merge_mode": "write merge=",
    "backward_layer": "both directions of Bidirectional have the options of its layer: write layer=",
    "unit_forget_bias": "write forget_bias=1.0, or None",
    "kernel_initializer": "write kernel_init=",
    "recurrent_initializer": "write recurrent_init=",
    "bias_initializer": "write bias_init=",
    **dict.fromkeys(("kernel_regularizer", "recurrent_regularizer", "bias_regularizer"), _PENALTY),
    "activity_regularizer": "add the penalty on the outputs to the loss",
    **dict.fromkeys(("kernel_constraint", "recurrent_constraint", "bias_constraint"), _CONSTRAINT),
    "zero_output_for_mask": "outputs of masked steps are always zero: leave it out",
    "implementation": "write backend=, see jlstm.explain",
    "use_cudnn": "write backend=, see jlstm.explain",
    "seed": _RANDOM,
    "initial_state": _START,
    **dict.fromkeys(("training", "train", "is_training"), _DROPOUT),
    "sequence_length": _PADDING,
    "num_units": "write the number of units first, as in LSTM(20)",
    "use_peepholes": "write peephole=True",
    "num_proj": "write projection=",
    "proj_clip": "write projection_clip=",
    "initializer": "write kernel_init= and recurrent_init=",
    "state_is_tuple": "the carry of an LSTM is always jlstm.LSTMCarry(h, c): leave it out",
    **dict.fromkeys(("num_unit_shards", "num_proj_shards"), "jlstm.train.mesh(units=…) splits wide layers over devices"),
    **dict.fromkeys(("reuse", "name", "scope"), _NAMES),
    "swap_memory": 'write remat="sqrt", which saves memory by computing again',
    "parallel_iterations": "a loop over time has no parallel iterations: leave it out",
    "cell_dim": "write the number of units first, as in LSTM(20)",
    # Flax, Haiku and Equinox
    "in_features": _INPUT_SIZE,
    "hidden_features": "write the number of units first, as in LSTM(20)",
    "features": "write the number of units first, as in LSTM(20), and the size of inputs in layer.init(key, features=…)",
    "carry_init": "the first carry is zero: write layer.apply(params, xs, carry), or use jlstm.cells.LearnedCarry",
    "initial_carry": "write layer.apply(params, xs, carry)",
    "gate_fn": "write recurrent_activation=",
    "activation_fn": "write activation=",
    "recurrent_kernel_init": "write recurrent_init=",
    "deterministic": _DROPOUT + "; modules of jlstm.nnx have train() and eval()",
    "rng": _RANDOM,
    "rngs": _RANDOM + "; modules of jlstm.nnx and jlstm.linen take rngs",
    "init_key": _RANDOM,
    "seq_lengths": _PADDING,
    "segmentation_mask": _PADDING,
    "keep_order": "outputs always stay in the order of the inputs: leave it out",
    "return_carry": _ALL_OUTPUTS,
    **dict.fromkeys(("variable_axes", "variable_broadcast", "variable_carry"), _SCAN),
    "split_rngs": "the key is split for you: leave it out",
    **dict.fromkeys(("state_axes", "broadcast_rngs"), "dropout masks are drawn once for a sequence, see jlstm.cells.Dropout"),
    "return_all_states": "write jlstm.cell_states(layer, params, xs)",
}
"""Arguments of PyTorch, Keras, TensorFlow, Flax, Haiku and Equinox, and what to write instead."""

_SIZES = "write LSTM(hidden_size), and input_size in layer.init(key, features=input_size)"
_BY_POSITION = {
    "Stack": "put the layers into a tuple, Stack((LSTM(64), LSTM(32)))",
    "LSTM": _SIZES,
    "GRU": _SIZES.replace("LSTM", "GRU"),
}


class Names(NamedTuple):
    """The names in a signature.

    Attributes:
        ordered: the arguments that may be passed by position.
        named: all arguments but `self`.
        required: the arguments without a default.
        variadic: whether the signature has *args or **kwargs, so that any argument may be passed.
    """

    ordered: tuple[str, ...]
    named: tuple[str, ...]
    required: frozenset[str]
    variadic: bool


def answered(name: str, signature: inspect.Signature | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for functions. A call with wrong names of arguments raises a TypeError that says what to write instead.

    Args:
        name: name of the function in the error message.
        signature: the signature to check calls against. None takes that of the decorated function.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = _names(signature or inspect.signature(function))

        @wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            _check(name, names, args, options)
            return function(*args, **options)

        return call

    return decorate


def check_options(kind: type, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Require that a class takes these arguments.

    Raises:
        TypeError: an argument is unknown, passed twice, missing, or there are too many by position.
    """
    _check(kind.__name__, _names_of_class(kind), args, options)


@lru_cache(maxsize=256)
def _names_of_class(kind: type) -> Names:
    return _names(inspect.signature(kind))


def _names(signature: inspect.Signature) -> Names:
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    ordered = tuple(name for name, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = frozenset(n for n, parameter in signature.parameters.items() if parameter.default is inspect.Parameter.empty)
    is_variadic = not {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}.isdisjoint(kinds.values())
    return Names(ordered, tuple(name for name in kinds if name != "self"), required, is_variadic)


def _check(name: str, names: Names, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    if names.variadic:
        return
    for option in options:
        if option not in names.named:
            raise TypeError(_unknown(name, option, names.named))
    if (extra := len(args) - len(names.ordered)) > 0:
        taken = ", ".join(ordered for ordered in names.ordered if ordered != "self")
        remedy = _BY_POSITION.get(name, "give the others by name")
        raise TypeError(f"{name} takes no more than {taken} by position, got {extra} more: {remedy}")
    for position, option in enumerate(names.ordered):
        if position < len(args) and option in options:
            raise TypeError(f"{name} got {option} twice, by position and by name: leave one out")
        if position >= len(args) and option in names.required and option not in options:
            raise TypeError(f"{name} needs {option}, got none: see help({name})")


def _unknown(name: str, option: str, named: Iterable[str]) -> str:
    sentence = f"{name} has no {'option' if name[0].isupper() else 'argument'} {option[:40]!r}"
    if option in INSTEAD:
        return f"{sentence}: {INSTEAD[option]}"
    if close := get_close_matches(option, named, 1):
        return f"{sentence}, perhaps {close[0]!r}: see help({name})"
    listed = ", ".join(named)
    return f"{sentence}: {f'it takes {listed}' if len(listed) < 120 else f'help({name}) lists them'}"
