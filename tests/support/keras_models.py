"""Keras models with random weights, and the files that Keras writes of them."""

import numpy as np

from problems import normal

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # float32 rounding over a few steps
ALL = {"return_sequences": True}
SERIES, LINES, PICTURES, VOLUMES = (7, 3), (5, 6, 3), (5, 6, 4, 3), (3, 4, 5, 6, 3)  # time, space, features


def sequential(framework, layers, shape):
    """Return a Sequential model with random weights."""
    model = framework.Sequential([framework.Input((None, *shape[1:])), *layers])
    model.set_weights(normal(model.get_weights(), rng=np.random.default_rng(0)))
    return model


def save_model(model, path):
    """Save the whole model, or its weights alone, as the suffix of the path says. Return the path."""
    if path.name.endswith(".old.h5"):
        model.save_weights(path, save_format="h5")
    elif path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path
