"""Small Keras models of every kind of layer, for both Keras 3 and tf-keras, and what Keras computes with them."""

from contextlib import contextmanager

import numpy as np

from tensorflow_modules import keras, tf, tf_keras

WORDS = np.array([[3, 1, 0, 2, 0, 0], [1, 4, 2, 2, 3, 1], [0, 2, 4, 0, 1, 0]])  # 0 is padding, also within a sequence
SERIES = np.random.default_rng(1).normal(size=(3, 6, 4))
SERIES[0, 4:] = SERIES[1, 2] = SERIES[2, :2] = 0  # what Masking masks
ALL = {"return_sequences": True}


def words(k, name="words"):
    return k.Input((None,), dtype="int32", name=name)


def series(k, name="series", features=4):
    return k.Input((None, features), name=name)


def classifier(k):
    return k.Sequential([
        k.Input((None,)), k.layers.Embedding(5, 4, mask_zero=True), k.layers.SpatialDropout1D(0.2),
        k.layers.Bidirectional(k.layers.LSTM(3, **ALL)), k.layers.Dropout(0.3), k.layers.LSTM(2, dropout=0.2),
        k.layers.Dense(3, activation="gelu"), k.layers.BatchNormalization(), k.layers.Dense(2, activation="softmax"),
    ])  # fmt: skip


def held_outputs(k):
    """Outputs of masked steps are held, in both orders, and then used."""
    x = series(k)
    masked = k.layers.Masking(0.0)(x)
    forward, backward = k.layers.LSTM(3, **ALL)(masked), k.layers.GRU(3, go_backwards=True, **ALL)(masked)
    return k.Model(x, [k.layers.Conv1D(2, 2)(forward), k.layers.GlobalMaxPooling1D()(backward), k.layers.SimpleRNN(2)(forward)])


def encoder_decoder(k):
    source, target = words(k, "source"), words(k, "target")
    embed = k.layers.Embedding(5, 4, mask_zero=True)  # shared
    _, h, c = k.layers.LSTM(3, return_state=True, name="encoder")(embed(source))
    decoded, *_ = k.layers.LSTM(3, return_state=True, **ALL, name="decoder")(embed(target), initial_state=[h, c])
    return k.Model([source, target], k.layers.TimeDistributed(k.layers.Dense(5, activation="softmax"))(decoded))


def both_states(k):
    """A Bidirectional returns and takes four states."""
    x, y = series(k, "x"), series(k, "y")
    merged, *states = k.layers.Bidirectional(k.layers.LSTM(2, return_state=True, **ALL), merge_mode="ave")(k.layers.Masking()(x))
    decoded = k.layers.Bidirectional(k.layers.LSTM(2), merge_mode="mul")(y, initial_state=states)
    return k.Model({"x": x, "y": y}, {"merged": merged, "decoded": decoded})


def two_branches(k):
    """The masks of the branches differ, and so do the rules of both Keras for merging them."""
    x, y = series(k, "x"), words(k, "y")
    left, right = k.layers.Masking()(x), k.layers.Embedding(5, 4, mask_zero=True)(y)
    added = k.layers.GRU(2)(k.layers.Add()([left, right]))
    joined = k.layers.LSTM(2, **ALL)(k.layers.Concatenate()([left, right]))
    mixed = k.layers.GlobalAveragePooling1D()(k.layers.Multiply()([left, x]))
    return k.Model([x, y], k.layers.Concatenate()([added, k.layers.GlobalAveragePooling1D()(joined), mixed]))


def nested(k):
    """A functional and a sequential model in a model, the former called twice."""
    inner_x = series(k, "inner_x")
    twin = k.Model(inner_x, k.layers.LSTM(3)(k.layers.Masking()(inner_x)), name="twin")
    head = k.Sequential([k.Input((3,)), k.layers.Dense(4, activation="relu"), k.layers.LayerNormalization()], name="head")
    x, y = series(k, "x"), series(k, "y")
    difference = k.layers.Subtract()([twin(x), twin(y)])
    return k.Model([x, y], k.layers.Dense(1, activation="sigmoid")(head(difference)))


def windows(k):
    x = series(k)
    y = k.layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    y = k.layers.Conv1D(4, 2, padding="same", groups=2, strides=2)(y)
    y = k.layers.MaxPooling1D(2, padding="same")(k.layers.UpSampling1D(2)(y))
    y = k.layers.AveragePooling1D(2, strides=1, padding="same")(k.layers.ZeroPadding1D((1, 2))(y))
    return k.Model(x, k.layers.Cropping1D((1, 1))(k.layers.LSTM(2, **ALL)(y)))


def pictures(k):
    x = k.Input((4, 5, 2))
    y = k.layers.AveragePooling2D(2)(k.layers.MaxPooling2D((1, 2))(k.layers.Conv2D(3, 2, padding="same")(x)))
    y = k.layers.BatchNormalization(axis=1)(k.layers.ZeroPadding2D(1)(y))
    return k.Model(x, [k.layers.GlobalAveragePooling2D()(y), k.layers.Flatten()(k.layers.Cropping2D(((1, 0), (0, 1)))(y))])


def shapes(k):
    x = k.Input((6, 4))
    y = k.layers.Permute((2, 1))(k.layers.Reshape((3, -1))(x))
    y = k.layers.RepeatVector(3)(k.layers.Flatten()(y))
    return k.Model(x, k.layers.LSTM(2, **ALL)(y))


def activations(k):
    x = k.Input((5,))
    names = ("selu", "softplus", "softsign", "hard_sigmoid", "exponential", "mish", "swish", "elu")
    named = [k.layers.Activation(name)(x) for name in names]
    layers = [k.layers.ReLU(2.0, 0.1, 0.5), k.layers.LeakyReLU(), k.layers.ELU(0.5), k.layers.PReLU(), k.layers.Softmax()]
    return k.Model(x, k.layers.Average()([*named, *(layer(x) for layer in layers)]))


def stacked_cells(k):
    cells = [k.layers.LSTMCell(3), k.layers.LSTMCell(2)]
    return k.Sequential([series(k), k.layers.Masking(), k.layers.RNN(cells, **ALL), k.layers.UnitNormalization()])


def convolutional(k):
    return k.Sequential([k.Input((3, 4, 5, 2)), k.layers.ConvLSTM2D(2, 2, padding="same"), k.layers.GlobalMaxPooling2D()])


def zeroed(k):
    """Outputs of masked steps are zero, and so is the output behind a last step that is masked."""
    x = series(k)
    masked = k.layers.Masking()(x)
    return k.Model(x, [layer(masked) for layer in (zeroed_layer(k, **ALL), zeroed_layer(k), zeroed_layer(k, go_backwards=True))])


def zeroed_layer(k, **options):
    return k.layers.LSTM(2, zero_output_for_mask=True, **options)


def regularized(k):
    return k.Sequential([
        series(k), k.layers.GaussianNoise(0.1), k.layers.LSTM(3, recurrent_dropout=0.2, kernel_regularizer="l2", **ALL),
        k.layers.GaussianDropout(0.1), k.layers.LayerNormalization(),
        k.layers.TimeDistributed(k.Sequential([k.Input((3,)), k.layers.Dense(2), k.layers.Dropout(0.1)])),
    ])  # fmt: skip


def operations(k):
    """Operations between layers, which only Keras 3 lists by name."""
    x = series(k)
    y = k.layers.LSTM(3, **ALL)(k.layers.Masking()(x)) * 2 + 1
    last, mean = y[:, -1], k.ops.mean(y, axis=1)
    return k.Model(x, k.ops.softmax(k.ops.concatenate([last, k.ops.relu(mean)], axis=-1)) - k.ops.tanh(last[:, :1]))


MODELS = [
    *(classifier, held_outputs, encoder_decoder, both_states, two_branches, nested, windows, pictures, shapes, activations),
    *(stacked_cells, convolutional, zeroed, regularized),
]
CASES = [(make, k) for make in MODELS for k in (keras, tf_keras)] + [(operations, keras)]


@contextmanager
def float64():
    """Let both Keras build and compute in float64."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    tf_keras.backend.set_floatx("float64")
    tf_keras.mixed_precision.set_global_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        tf_keras.backend.set_floatx("float32")
        tf_keras.mixed_precision.set_global_policy("float32")


def built(make, k):
    """Return a model with random weights. Variances are positive."""
    model, rng = make(k), np.random.default_rng(0)
    names = [variable.name for variable in model.weights]
    arrays = [rng.normal(scale=0.6, size=array.shape) for array in model.get_weights()]
    model.set_weights([np.abs(array) + 0.2 if "variance" in name else array for name, array in zip(names, arrays, strict=True)])
    return model


def inputs_of(model):
    """Return inputs for a model of this table, in the structure that it takes."""
    rng = np.random.default_rng(2)
    arrays = []
    for place, value in enumerate(model.inputs):
        shape = tuple(value.shape)
        padded = WORDS[:, ::-1] if place else WORDS
        arrays.append(padded if len(shape) == 2 and shape[1] is None else (SERIES[::-1] if place else SERIES)
                      if shape == (None, None, 4) else rng.normal(size=(3, *shape[1:])))  # fmt: skip
    return arrays if len(arrays) > 1 else arrays[0]


def differentiated(model, inputs, cotangents):
    """Return the outputs of a Keras model, and the gradients of the sum of outputs times cotangents by layer and variable."""
    tensors = tf.nest.map_structure(tf.constant, inputs)
    with tf.GradientTape() as tape:
        outputs = model(tensors, training=False)
        flat = tf.nest.flatten(outputs)
        total = tf.add_n([tf.reduce_sum(output * cotangent) for output, cotangent in zip(flat, cotangents, strict=True)])
    gradients = tape.gradient(total, model.trainable_variables, unconnected_gradients="zero")
    by_variable = {
        id(variable): tf.convert_to_tensor(gradient).numpy()
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
    }
    return outputs, by_variable
