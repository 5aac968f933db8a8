"""The function `explain`: what runs the recurrent layers of a Flax model."""

from collections.abc import Callable
from typing import Any

from flax import nnx

from jlstm import backends
from jlstm._src import checks
from jlstm.layers.choices import Explanation


def explain(model: Callable[..., Any], *args: Any, **options: Any) -> Explanation:
    """Say what runs the `RNN`s of `jlstm.compat.flax` in a call of a model, and why nothing faster does.

    Nothing is computed. Flax's own `RNN`s are not listed.

    Args:
        model: an nnx module, or a function, such as `model.apply` of a linen module.
        *args: its arguments.
        **options: its keyword arguments.

    Returns:
        An `Explanation`, which prints as one line for each `RNN`, in the order in which they run. `flax` means Flax's own loop.

    Raises:
        TypeError: `model` is not callable.

    Examples:
        >>> import jax
        >>> from jlstm.compat.flax import explain, linen as nn
        >>> model, xs = nn.RNN(nn.SimpleCell(4)), jax.numpy.ones((2, 5, 3))
        >>> print(explain(model.init, jax.random.key(0), xs))
        SimpleCell is run by flax; not by jlstm: it is not an LSTMCell, OptimizedLSTMCell or GRUCell
    """
    if not callable(model):
        model_text = checks.brief(model)
        raise TypeError(f"model must be an nnx module or a function, got {model_text}: pass model.apply of a linen module")
    with backends.recorded() as choices:
        if isinstance(model, nnx.Module):  # an argument, since nnx refuses to change a module of an outer trace
            nnx.eval_shape(lambda module, *arrays: module(*arrays, **options), model, *args)
        else:
            nnx.eval_shape(lambda *arrays: model(*arrays, **options), *args)
    return Explanation(tuple(choices), dropout_is_off=False)
