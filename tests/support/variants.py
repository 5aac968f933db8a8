"""A second implementation of the LSTM's variants: float64 NumPy, step by step and gate by gate, without gradients.

It is written from the papers and shares no code with `jlstm`. Peepholes: Gers & Schmidhuber 2000. Projection: Sak, Senior &
Beaufays 2014. Layer normalization: Ba, Kiros & Hinton 2016, and the schemes of TensorFlow contrib, TensorFlow Addons and
TensorFlow Lite. Dropout: Gal & Ghahramani 2016 on x and h, Semeniuta, Severyn & Barth 2016 on g.
"""

from functools import partial

import numpy as np

from parity.textbook import ACTIVATIONS

EPSILON = {"ba2016": 1e-5, "tf_contrib": 1e-12, "addons": 1e-3, "tflite": 1e-8}
WEIGHTED = {None: "ifgo", "f=1-i": "igo", "i=1-f": "fgo"}  # the gates that have weights, in the order of their columns


def initial_bias(options, units):
    """Return the initial bias: zeros, and the forget bias where there is a forget gate with weights."""
    forget = options["forget_bias"] or 0.0
    return np.concatenate([np.full(units, forget if name == "f" else 0.0) for name in WEIGHTED[options["coupled"]]])


def mask_shapes(options, batch, features, units):
    """Return the shapes of drawn masks. Dropout on h makes one mask for each gate with weights, for x too."""
    on_h = options["recurrent_dropout_on"] == "h"
    gates = len(WEIGHTED[options["coupled"]]) if on_h and options["recurrent_dropout"] else 1
    sizes = {"inputs": features, "recurrent": (options["projection"] or units) if on_h else units}
    rates = {"inputs": options["dropout"], "recurrent": options["recurrent_dropout"]}
    return {name: (gates, batch, size) for name, size in sizes.items() if rates[name]}


def run(options, params, xs, h, c, masks):
    """Return the last h and c, and all h, of inputs (batch, time, features)."""
    ys = []
    for t in range(xs.shape[1]):
        h, c = step(options, params, xs[:, t], h, c, masks)
        ys.append(h)
    return h, c, np.stack(ys, 1)


def step(options, params, x, h, c, masks):
    """Return h and c after one step."""
    names, scheme, epsilon = WEIGHTED[options["coupled"]], options["layer_norm"], epsilon_of(options)
    on_g = options["recurrent_dropout_on"] == "g"
    of_x = product(x, params["kernel"], names, masks.get("inputs"))
    of_h = product(h, params["recurrent_kernel"], names, None if on_g else masks.get("recurrent"))
    if scheme in ("ba2016", "addons"):  # each product over all its columns, before the bias
        of_x, of_h = normalized(of_x, params["kernel_norm"], epsilon), normalized(of_h, params["recurrent_norm"], epsilon)
    sums = columns(of_x + of_h, names)
    let = partial(gate, options, params, sums)
    i = None if options["coupled"] == "i=1-f" else let("i", c)
    f = 1 - i if options["coupled"] == "f=1-i" else let("f", c)
    i = 1 - f if options["coupled"] == "i=1-f" else i
    g = let("g", c) * (masks["recurrent"][0] if on_g and "recurrent" in masks else 1.0)
    c = f * c + i * g
    if scheme in ("tf_contrib", "addons"):  # the carried c is the normalized one
        c = normalized(c, params["state_norm"], epsilon)
    c = clipped(c, options["cell_clip"])
    o = let("o", c)
    shown = normalized(c, params["state_norm"], epsilon) if scheme == "ba2016" else c  # only what is shown is
    h = o * ACTIVATIONS[options["output_activation"] or options["activation"]][0](shown)
    if options["projection"]:
        h = h @ params["projection_kernel"] + params.get("projection_bias", 0.0)
    return clipped(h, options["projection_clip"]), c


def gate(options, params, sums, name, c):
    """Return a gate's value from its sum and the c that it sees."""
    names, total = WEIGHTED[options["coupled"]], sums[name]
    if options["peephole"] and name != "g":
        total = total + params["peephole_kernel"][names.replace("g", "").index(name)] * c
    if options["layer_norm"] in ("tf_contrib", "tflite"):  # the sum of each gate, without its bias
        scale = columns(params["gate_norm"]["scale"], names)[name]
        total = normalized(total, {"scale": scale, "offset": 0.0}, epsilon_of(options))
    if options["use_bias"]:
        total = total + columns(params["bias"], names)[name]
    function = options["activation" if name == "g" else "recurrent_activation"]
    return ACTIVATIONS[function][0](clipped(total, options["gate_clip"]))


def epsilon_of(options):
    """Return the given epsilon, or the one published with the scheme."""
    return options["layer_norm_epsilon"] or EPSILON.get(options["layer_norm"])


def clipped(a, bound):
    """Clip to ±bound."""
    return a if bound is None else np.clip(a, -bound, bound)


def columns(a, names):
    """Return the columns of each gate."""
    return dict(zip(names, np.split(a, len(names), -1), strict=True))


def product(x, kernel, names, masks):
    """Return x times each gate's columns, under that gate's mask."""
    parts = columns(kernel, names)
    masked_xs = [x if masks is None else x * masks[min(k, len(masks) - 1)] for k in range(len(names))]
    return np.concatenate([masked_x @ parts[name] for masked_x, name in zip(masked_xs, names, strict=True)], -1)


def normalized(a, weights, epsilon):
    """Normalize the last axis to mean 0 and variance 1, then apply scale and offset."""
    mean, variance = a.mean(-1, keepdims=True), a.var(-1, keepdims=True)
    return (a - mean) / np.sqrt(variance + epsilon) * weights["scale"] + weights["offset"]
