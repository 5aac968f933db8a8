"""Flax: ii, if, ig, io kernel (features, units) of the inputs, hi, hf, hg, ho kernel (units, units) and bias of h.

nnx writes `if_`; its `OptimizedLSTMCell` and `GRUCell` have dense_i and dense_h with all gates, i | f | g | o and r | z | n.
A `GRUCell` has its biases at ir, iz, in, and linen's one more at hn, our `recurrent_bias`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jlstm import checks
from jlstm.cell import Params
from jlstm.convert import arrays, layout
from jlstm.convert.layout import Part
from jlstm.layers import Layer

_FUSED = {"LSTM": "ifgo", "GRU": "rzg"}
_SIDES = ("forward_rnn", "backward_rnn")


def load(weights: Mapping[str, Any], *, merge: str | None = "concat", **options: Any) -> tuple[Layer, Params]:
    """Return the layer and parameters of an `LSTMCell`, an `OptimizedLSTMCell` or a `GRUCell`, of linen or of nnx.

    Args:
        weights: the variables of a cell, of an `RNN` or of a `Bidirectional` of these: a dict of dicts of arrays, with or without
            "params" around it; `nnx.to_pure_dict(nnx.state(module, nnx.Param))`, say.
        merge: of two directions.
        **options: of `jlstm.LSTM` or `jlstm.GRU`, which no array tells: `activation` for `activation_fn`, `recurrent_activation`
            for `gate_fn`, …

    Raises:
        ValueError: a weight is missing, not part of such a cell, or of another shape or dtype; or an option does not fit.

    Examples:
        >>> import numpy as np
        >>> fused = {"dense_i": {"kernel": np.zeros((3, 16))}, "dense_h": {"kernel": np.zeros((4, 16)), "bias": np.zeros(16)}}
        >>> layer, params = load({"cell": fused})
        >>> layer
        RNN(cell=LSTMCell(units=4), param_dtype='float64')
    """
    tree = _inside(weights, "params")
    if isinstance(tree, Mapping) and tree.keys() == set(_SIDES):
        sides = [
            _part(tree[name], options | {"reverse": backwards}) for name, backwards in zip(_SIDES, (False, True), strict=True)
        ]
        if sides[0].layer.flipped() != sides[1].layer:
            raise ValueError("weights must have two directions of one kind and size, got different ones: load them one by one")
        return layout.assemble([sides], merge)
    return layout.assemble([[_part(tree, options)]])


def _inside(tree: Any, name: str) -> Any:
    return tree[name] if isinstance(tree, Mapping) and tree.keys() == {name} else tree


def _part(tree: Any, options: dict[str, Any]) -> Part:
    tree = _inside(tree, "cell")
    given = arrays.floating("weights", dict(_flat(tree)) if isinstance(tree, Mapping) else tree)
    if any(name.startswith("if_.") for name in given) and any(name.startswith("if.") for name in given):
        raise ValueError(
            "weights must have the input's part of the forget gate once, got 'if' and 'if_': pass one cell's weights"
        )
    given = {f"if.{name[4:]}" if name.startswith("if_.") else name: value for name, value in given.items()}
    fused = "dense_h.kernel" in given
    if fused:
        units, columns = arrays.matrix("weights", given, "dense_h.kernel", "(units, gates·units)").shape
        features = arrays.matrix("weights", given, "dense_i.kernel", "(features, gates·units)").shape[0]
        name = arrays.gates("weights['dense_h.kernel']", columns, units, {4: "LSTM", 3: "GRU"})
        bias = "dense_h.bias" if name == "LSTM" else "dense_i.bias"
        arrays.fit(
            "weights", given, {"dense_i.kernel": (features, columns), "dense_h.kernel": (units, columns), bias: (columns,)}
        )
        joined = [layout.order(given[key], _FUSED[name], layout.OURS[name]) for key in ("dense_i.kernel", "dense_h.kernel", bias)]
    else:
        name = "LSTM" if "ho.kernel" in given else "GRU"
        first = "ho" if name == "LSTM" else "hn"
        units = arrays.matrix("weights", given, f"{first}.kernel", "(units, units)").shape[0]
        features = arrays.matrix("weights", given, f"i{first[1]}.kernel", "(features, units)").shape[0]
        arrays.fit("weights", given, _by_gate(name, features, units))
        joined = [np.concatenate([given[key] for key in keys], -1) for keys in _places(name)]
    params = dict(zip(("kernel", "recurrent_kernel", "bias"), joined, strict=True))
    if name == "GRU":
        params["recurrent_bias"] = given.get("hn.bias", np.zeros_like(params["bias"][:units]))
    return layout.rnn(name, units, params, **options)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _places(name: str) -> tuple[list[str], list[str], list[str]]:
    """Where the columns of our kernel, recurrent kernel and bias are, gate by gate."""
    gates = layout.OURS[name].replace("g", "n") if name == "GRU" else layout.OURS[name]
    biased = "h" if name == "LSTM" else "i"
    return (
        [f"i{gate}.kernel" for gate in gates],
        [f"h{gate}.kernel" for gate in gates],
        [f"{biased}{gate}.bias" for gate in gates],
    )


def _by_gate(name: str, features: int, units: int) -> dict[str, tuple[int, ...]]:
    inputs, recurrent, biases = _places(name)
    biases += ["hn.bias"] if name == "GRU" else []
    return {
        **dict.fromkeys(inputs, (features, units)),
        **dict.fromkeys(recurrent, (units, units)),
        **dict.fromkeys(biases, (units,)),
    }


def dump(layer: Layer, params: Params, *, module: str = "linen") -> dict[str, Any]:
    """Return the variables of Flax' `RNN(cell)`, or of a `Bidirectional` of two; `load` takes them back to the same bits.

    Activations and directions are given to Flax' own modules. A cell always has a bias there: without one, it is zero.

    Args:
        layer: of one layer; take a Stack apart.
        params: its own.
        module: "linen" for its `LSTMCell`, `OptimizedLSTMCell` and `GRUCell`, "nnx" for its `LSTMCell` and `GRUCell`,
            "nnx.OptimizedLSTMCell" for that.

    Raises:
        ValueError: an option that Flax does not have, several layers, or parameters that are not the layer's.
    """
    checks.one_of("module", module, ("linen", "nnx", "nnx.OptimizedLSTMCell"))
    layers = layout.parts(layer, params)
    if len(layers) > 1:
        raise ValueError(f"Flax has no stack of layers, got {layer!r}: convert its layers one by one")
    trees = [{"cell": _theirs(part, module)} for part in layers[0]]
    return dict(zip(_SIDES, trees, strict=True)) if len(trees) > 1 else trees[0]


def _theirs(part: Part, module: str) -> dict[str, Any]:
    cell: Any = part.layer.cell
    layout.refuse("Flax", cell, but=("activation", "recurrent_activation"))
    name, own = layout.kind(cell), part.params
    kernels = [own["kernel"], own["recurrent_kernel"], own.get("bias", np.zeros_like(own["kernel"][0]))]
    second = own.get("recurrent_bias", np.zeros_like(kernels[2][: cell.units]))
    biased = "dense_h" if name == "LSTM" else "dense_i"
    if module == "nnx.OptimizedLSTMCell" or (module == "nnx" and name == "GRU"):
        if name == "GRU" and second.any():
            raise ValueError("Flax' nnx.GRUCell has no recurrent_bias, got one that is not zero: use module='linen'")
        inputs, recurrent, bias = (layout.order(array, layout.OURS[name], _FUSED[name]) for array in kernels)
        tree = {"dense_i": {"kernel": inputs}, "dense_h": {"kernel": recurrent}}
        tree[biased]["bias"] = bias
        return tree
    found: dict[str, Any] = {}
    for keys, array in zip(_places(name), kernels, strict=True):
        for key, block in zip(keys, np.split(array, len(keys), -1), strict=True):
            where, leaf = key.split(".")
            found.setdefault("if_" if where == "if" and module == "nnx" else where, {})[leaf] = block
    if name == "GRU":
        found["hn"]["bias"] = second
    return found
