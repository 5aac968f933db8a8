"""The classes of layers, with the options and arrays that each of them has."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from jlstm.convert.keras_graph import core, merging, noise, normalization, windows
from jlstm.convert.keras_graph.values import Run
from jlstm.convert.keras_model.options import Version

Config = Mapping[str, Any]


class Kind(NamedTuple):
    """A class of layers.

    Attributes:
        make: returns the function of a layer from its configuration, and raises UnsupportedError for an option it does not have.
        options: the options that it knows, beside those of all layers.
        arrays: the names of its arrays in Keras's order, each with the option that must be true for it, or "".
        untrained: the names of those arrays that Keras does not train.
        casts: whether inputs are cast to the dtype of the layer. An Embedding takes indices as they are.
    """

    make: Callable[[Config, Version], Run]
    options: frozenset[str] = frozenset()
    arrays: Mapping[str, str] = {}
    untrained: frozenset[str] = frozenset()
    casts: bool = True


def _kind(make: Any, options: str = "", arrays: Mapping[str, str] | None = None, **others: Any) -> Kind:
    return Kind(make, frozenset(options.split()), arrays or {}, **others)


_KERNEL = {"kernel": "", "bias": "use_bias"}
_AFFINE = {"gamma": "scale", "beta": "center"}
_CONVOLUTION = _kind(
    windows.convolution,
    "filters kernel_size strides padding data_format dilation_rate groups activation use_bias rank",
    _KERNEL,
)
_POOLING = "pool_size padding strides data_format"
_GLOBAL = "data_format keepdims"

KINDS: dict[str, Kind] = {
    "Dense": _kind(core.dense, "units activation use_bias", _KERNEL),
    "Embedding": _kind(core.embedding, "input_dim output_dim mask_zero input_length sparse", {"embeddings": ""}, casts=False),
    "Masking": _kind(core.masking, "mask_value"),
    "Activation": _kind(core.activation_layer, "activation"),
    "ReLU": _kind(core.relu, "max_value negative_slope threshold"),
    "LeakyReLU": _kind(core.leaky_relu, "negative_slope alpha"),
    "ELU": _kind(core.elu, "alpha"),
    "PReLU": _kind(core.prelu, "shared_axes", {"alpha": ""}),
    "Softmax": _kind(core.softmax, "axis"),
    "Flatten": _kind(core.flatten, "data_format"),
    "Reshape": _kind(core.reshape, "target_shape"),
    "Permute": _kind(core.permute, "dims"),
    "RepeatVector": _kind(core.repeat_vector, "n"),
    "Rescaling": _kind(core.rescaling, "scale offset"),
    "Identity": _kind(core.identity),
    "ActivityRegularization": _kind(core.identity, "l1 l2"),
    "Dropout": _kind(noise.dropout, "rate noise_shape"),
    **{f"SpatialDropout{axes}D": _kind(noise.spatial_dropout, "rate noise_shape data_format") for axes in (1, 2, 3)},
    "GaussianNoise": _kind(noise.gaussian_noise, "stddev"),
    "GaussianDropout": _kind(noise.gaussian_dropout, "rate"),
    "BatchNormalization": _kind(
        normalization.batch_normalization,
        "axis momentum epsilon center scale synchronized renorm renorm_momentum",
        _AFFINE | {"moving_mean": "", "moving_variance": ""},
        untrained=frozenset({"moving_mean", "moving_variance"}),
    ),
    "LayerNormalization": _kind(normalization.layer_normalization, "axis epsilon center scale rms_scaling", _AFFINE),
    "UnitNormalization": _kind(normalization.unit_normalization, "axis"),
    **{f"Conv{axes}D": _CONVOLUTION for axes in (1, 2, 3)},
    **{f"MaxPooling{axes}D": _kind(windows.max_pooling, _POOLING) for axes in (1, 2, 3)},
    **{f"AveragePooling{axes}D": _kind(windows.average_pooling, _POOLING) for axes in (1, 2, 3)},
    "GlobalAveragePooling1D": _kind(windows.global_average_pooling_1d, _GLOBAL),
    **{f"GlobalAveragePooling{axes}D": _kind(windows.global_pooling(jnp.mean), _GLOBAL) for axes in (2, 3)},
    **{f"GlobalMaxPooling{axes}D": _kind(windows.global_pooling(jnp.max), _GLOBAL) for axes in (1, 2, 3)},
    **{f"ZeroPadding{axes}D": _kind(windows.zero_padding, "padding data_format") for axes in (1, 2, 3)},
    **{f"Cropping{axes}D": _kind(windows.cropping, "cropping data_format") for axes in (1, 2, 3)},
    "UpSampling1D": _kind(windows.up_sampling_1d, "size"),
    "Add": _kind(merging.merge_by(jnp.add)),
    "Subtract": _kind(merging.merge_by(jnp.subtract)),
    "Multiply": _kind(merging.merge_by(jnp.multiply)),
    "Maximum": _kind(merging.merge_by(jnp.maximum)),
    "Minimum": _kind(merging.merge_by(jnp.minimum)),
    "Average": _kind(merging.average),
    "Concatenate": _kind(merging.concatenate, "axis"),
}
# Options that a layer may have only with these values, since others change what it computes.
FIXED: dict[str, Any] = {"renorm": False, "rms_scaling": False, "sparse": False, "shared_axes": None}
