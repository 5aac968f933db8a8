"""The drop-ins: subclasses of Keras's layers that replace the loop over time."""

from typing import Any

import keras

from jlstm.compat.keras import loop


class _Loop:
    """What `LSTM` and `GRU` do differently from Keras's layers, from which they inherit too."""

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Run all steps. Keras's `call` calls this method.

        Args:
            sequences: inputs (batch, time, features).
            initial_state: h and c, or h alone.
            mask: True at the steps that count, (batch, time), or None.
            training: whether dropout is on.

        Returns:
            The last output, the outputs of all steps in the order in which they are computed, and a list with the last states.
        """
        if loop.obstacle(self, mask):
            keras_layer: Any = super()
            return keras_layer.inner_loop(sequences, initial_state, mask, training)
        return loop.run(self, sequences, initial_state, mask, training)

    @property
    def variables(self) -> list[Any]:
        """All variables, and the states of a layer with `stateful=True`. They are no weights, and not in files.

        Keras leaves the states out. On JAX, `fit` and `predict` then forget what is assigned to them.
        """
        layer: Any = super()
        states: Any = getattr(self, "states", None)
        return [*layer.variables, *(states or ())]


class LSTM(_Loop, keras.layers.LSTM):
    """`keras.layers.LSTM`, run by `jlstm.LSTMCell`. Arguments, weights, configuration and results are Keras's.

    Files name Keras's class, so that a saved model loads without jlstm; `accelerate` then brings this class back. `explain` says
    which layers of a model still run Keras's own code, and why.

    References:
        https://keras.io/api/layers/recurrent_layers/lstm/

    Examples:
        Keras reads the environment variable KERAS_BACKEND=jax when it is imported.

        >>> import keras, numpy
        >>> from jlstm.compat.keras import LSTM
        >>> model = keras.Sequential([keras.layers.Masking(), LSTM(4, return_sequences=True), LSTM(2)])
        >>> model(numpy.ones((2, 5, 3), "float32")).shape
        (2, 2)
    """

    __module__ = "keras.layers"  # Keras writes this into files, and finds the class by it


class GRU(_Loop, keras.layers.GRU):
    """`keras.layers.GRU`, run by `jlstm.GRUCell`. All that `LSTM` says about files and `explain` applies here.

    References:
        https://keras.io/api/layers/recurrent_layers/gru/
    """

    __module__ = "keras.layers"


class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional`, whose two layers are drop-ins if they are an LSTM or a GRU.

    Keras's Bidirectional makes its layers anew from their configuration, which names Keras's classes. So it would turn a drop-in
    inside it back into Keras's layer.

    References:
        https://keras.io/api/layers/recurrent_layers/bidirectional/
    """

    __module__ = "keras.layers"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        replace(self.forward_layer)
        replace(self.backward_layer)


DROP_INS = {
    keras.layers.LSTM: LSTM,
    keras.layers.GRU: GRU,
    keras.layers.Bidirectional: Bidirectional,
}


def replace(layer: Any) -> None:
    """Give one of Keras's layers the class of its drop-in. Drop-ins have no attributes of their own, so nothing else changes."""
    if type(layer) in DROP_INS:
        object.__setattr__(layer, "__class__", DROP_INS[type(layer)])  # Keras's __setattr__ would look for weights in it
