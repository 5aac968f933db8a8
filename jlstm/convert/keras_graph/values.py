"""The values that flow through a graph, and what a layer is to the graph."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jlstm.cell import Params


class Value(NamedTuple):
    """An array and its mask.

    Attributes:
        array: (batch, …).
        mask: what Keras attaches to a tensor as `_keras_mask`: True where a step counts, (batch, time) for a sequence. None if
            all steps count.
    """

    array: Array
    mask: Array | None = None


class Call(NamedTuple):
    """The arguments of one call of a layer.

    Attributes:
        inputs: the inputs, in the order in which Keras flattens them.
        states: the initial states of a recurrent layer, if the call has any.
        has_mask_argument: whether the call states the mask, rather than taking it from the inputs.
        key: random key, which turns dropout and noise on; None for inference.
    """

    inputs: tuple[Value, ...]
    states: tuple[Value, ...] = ()
    has_mask_argument: bool = False
    key: Array | None = None


Run = Callable[[Params, Call], Value | tuple[Value, ...]]


class Built(NamedTuple):
    """A layer that is ready to run.

    Attributes:
        class_name: Keras's class, such as "Dense".
        options: the layer's configuration.
        params: its arrays by name; {} if it has none.
        trainable: a tree like `params`, with True for the arrays that Keras trains.
        run: computes the outputs from the parameters and a call.
        dtype: the dtype that the layer computes in; None for a nested model, whose layers have their own.
        casts_inputs: whether inputs are cast to that dtype. An Embedding takes indices as they are.
        inner: the layers inside a nested model or a TimeDistributed layer, by name.
    """

    class_name: str
    options: Mapping[str, Any]
    params: Params
    trainable: Any
    run: Run
    dtype: np.dtype | None = None
    casts_inputs: bool = True
    inner: "Mapping[str, Built]" = MappingProxyType({})

    def __call__(self, params: Params, call: Call) -> tuple[Value, ...]:
        """Return the outputs of a call. Inputs, states and parameters are cast to the dtype that the layer computes in."""
        if self.dtype is not None:
            inputs = _cast(call.inputs, self.dtype) if self.casts_inputs else call.inputs
            call = call._replace(inputs=inputs, states=_cast(call.states, self.dtype))
            params = jax.tree.map(lambda leaf: jnp.asarray(leaf, self.dtype), params)
        outputs = self.run(params, call)
        return (outputs,) if isinstance(outputs, Value) else outputs


def _cast(values: tuple[Value, ...], dtype: np.dtype) -> tuple[Value, ...]:
    return tuple(Value(value.array.astype(dtype), value.mask) for value in values)
