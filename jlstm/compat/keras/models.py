"""`accelerate`, which replaces the layers of a model, and `explain`, which says what runs them."""

from typing import Any, NamedTuple

import keras

from jlstm._src import checks
from jlstm.compat.keras import loop
from jlstm.compat.keras.layers import DROP_INS, GRU, LSTM, Bidirectional, replace


def accelerate(model: keras.Layer) -> keras.Layer:
    """Replace Keras's LSTM, GRU and Bidirectional layers in a model by the drop-ins of this module.

    The model is changed in place: each layer object gets the class of its drop-in. So weights, states, optimizer, compiled losses
    and all references to the layers stay, in functional, sequential and subclassed models, in models inside models, and in
    wrappers such as TimeDistributed. Subclasses of Keras's layers are left alone, since their methods may differ: `explain`
    lists them.

    Args:
        model: a model or a layer, for example from `keras.saving.load_model`. A layer that the model creates later, in its
            `build`, must exist: call the model once before.

    Returns:
        The same object, as `model`.

    Raises:
        TypeError: `model` is not a Keras layer or model.
        ValueError: there is no LSTM, GRU or Bidirectional layer in it.

    Examples:
        >>> import keras
        >>> from jlstm.compat.keras import accelerate, explain
        >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, name="encoder")], name="model")
        >>> print(explain(accelerate(model)))
        model/encoder: LSTM is run by jlstm
    """
    checks.instance("model", model, keras.Layer, "a keras.Model")
    layers = _layers(model)
    for layer in layers:
        replace(layer)
        if isinstance(layer, keras.Model):
            # Compiled with the old layers. Keras makes these functions anew at the next fit, evaluate or predict.
            layer.train_function = layer.test_function = layer.predict_function = None
    if not any(isinstance(layer, LSTM | GRU | Bidirectional) for layer in layers):
        raise ValueError(
            f"{model.name!r} has no keras.layers.LSTM, GRU or Bidirectional: pass a model that has one, or call the model once "
            "before, if it creates its layers then"
        )
    return model


class Run(NamedTuple):
    """Who runs a recurrent layer of a model.

    Attributes:
        name: the layer's path in the model, or its name before it is built.
        kind: the name of its class.
        obstacle: why Keras's own code runs it, or "".
    """

    name: str
    kind: str
    obstacle: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind} is run by {f'Keras: {self.obstacle}' if self.obstacle else 'jlstm'}"


class Explanation(NamedTuple):
    """Who runs the recurrent layers of a model. It prints as one line for each layer.

    Attributes:
        runs: an entry for each recurrent layer, in the order of the model.
    """

    runs: tuple[Run, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.runs))


def explain(model: keras.Layer) -> Explanation:
    """Say which recurrent layers of a model jlstm runs, and why Keras runs the others.

    Args:
        model: a model or a layer.

    Returns:
        An `Explanation`, which prints as one line for each recurrent layer.

    Raises:
        TypeError: `model` is not a Keras layer or model.
    """
    checks.instance("model", model, keras.Layer, "a keras.Model")
    recurrent = [layer for layer in _layers(model) if isinstance(layer, keras.layers.RNN)]
    return Explanation(tuple(Run(layer.path or layer.name, type(layer).__name__, _reason(layer)) for layer in recurrent))


def _layers(model: keras.Layer) -> list[Any]:
    """Return a model and all layers in it. Keras has no public function that also looks into wrappers and custom layers."""
    return model._flatten_layers()


def _reason(layer: keras.layers.RNN) -> str:
    """Return why Keras runs a layer when it is called without a mask, or ""."""
    if type(layer) in DROP_INS:
        return "it has not been replaced, call accelerate on the model"
    if not isinstance(layer, LSTM | GRU):
        return "jlstm.compat.keras has a drop-in for LSTM and GRU only, not for their subclasses or for other layers"
    return loop.obstacle(layer, None)
