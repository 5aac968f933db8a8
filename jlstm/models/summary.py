"""summary: a table of the parts of a model."""

from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import nnx

from jlstm._src import checks
from jlstm.layers import Layer
from jlstm.linen import Recurrent
from jlstm.models.nnx_model import NNXModel


def summary(module: nn.Module | nnx.Module | Layer, *inputs: Any, **arguments: Any) -> str:
    """Return a table with the inputs, outputs and parameters of each part of a model, and the total, like Keras's `summary`.

    Flax's `tabulate` makes the table, without drawing parameters. It is plain text, 100 columns wide.

    Args:
        module: A Flax module, linen or NNX, or a layer.
        *inputs: Positional arguments of the module, or their shapes and dtypes as `jax.ShapeDtypeStruct`.
        **arguments: Keyword arguments of the module, in the same form.

    Returns:
        The table.

    Raises:
        TypeError: `module` is neither a module nor a layer, or Flax cannot print the outputs of an NNX module.

    Examples:
        >>> import jax, jlstm
        >>> from jlstm.models import SequenceClassifier, summary
        >>> table = summary(SequenceClassifier(5_000, 15, jlstm.LSTM(10)), jax.ShapeDtypeStruct((128, 300), "int32"))
        >>> table.splitlines()[-1].strip()
        'Total Parameters: 76,051 (304.2 KB)'
    """
    if isinstance(module, Layer):
        module = Recurrent(module)
    elif isinstance(module, NNXModel):
        module = module.module  # the linen model, of which Flax prints each part
    if not isinstance(module, nn.Module | nnx.Module):
        raise TypeError(f"module must be a Flax module or a layer such as LSTM(units), got {checks.brief(module)}")
    # Without these options rich would adapt the table to the terminal, and add colors.
    plain = {"width": 100, "force_terminal": False, "color_system": None}
    inputs, arguments = jax.tree.map(_filled, (inputs, arguments))
    options: dict[str, Any] = {"console_kwargs": plain, "column_kwargs": {"overflow": "fold"}}
    if isinstance(module, nnx.Module):
        table = _of_nnx(module, inputs, arguments | options)
    else:
        table = module.tabulate(jax.random.key(0), *inputs, **arguments, **options)
    return "\n".join(line.rstrip() for line in table.strip("\n").splitlines()).rstrip()


def _of_nnx(module: nnx.Module, inputs: Any, options: dict[str, Any]) -> str:
    try:
        return nnx.tabulate(module, *inputs, **options)
    except TypeError as error:
        if "not supported between instances" not in str(error):
            raise
        raise TypeError(
            "Flax cannot print the carry that a module of this model returns, a NamedTuple: use jlstm.nnx.Outputs there, or "
            "summary(layer, xs)"
        ) from error


def _filled(leaf: Any) -> Any:
    """Return an array of zeros for a shape and dtype, since Flax needs arrays."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
