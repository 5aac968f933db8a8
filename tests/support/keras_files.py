"""`.keras` files of small models, written without Keras."""

import json
import zipfile

import h5py
import numpy as np


def layer(class_name, name="x", module="keras.layers", registered_name=None, **config):
    """Return a layer as Keras 3 describes it."""
    config = {"name": name, "trainable": True, "dtype": "float32"} | config
    return {"module": module, "class_name": class_name, "registered_name": registered_name, "config": config}


def write(path, *layers, arrays=(), shape=(None, None, 3), class_name="Sequential", **functional):
    """Write a `.keras` file of a model of these layers, with arrays in float32."""
    entries = [layer("InputLayer", "input", batch_shape=shape), *layers]
    config = {"class_name": class_name, "module": "keras", "config": {"name": "small", "layers": entries} | functional}
    weights = path.with_suffix(".weights.h5")
    with h5py.File(weights, "w") as file:
        for name, array in dict(arrays).items():
            file[f"layers/{name}"] = np.asarray(array, np.float32)
    members = {"config.json": json.dumps(config), "metadata.json": '{"keras_version": "3.15.1"}'}
    with zipfile.ZipFile(path, "w") as file:
        for name, text in (members | {"model.weights.h5": weights.read_bytes()}).items():
            file.writestr(name, text)
    return path
