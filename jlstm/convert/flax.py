"""Conversion of Flax's `LSTMCell`, `OptimizedLSTMCell` and `GRUCell`, of linen and of nnx.

An LSTM has one kernel per gate: ii, if, ig, io (features, units) for the inputs, and hi, hf, hg, ho (units, units) for h. Its
biases are beside the kernels of h. nnx writes `if_` for `if`.
The `OptimizedLSTMCell` and `GRUCell` of nnx have dense_i and dense_h with all gates, i | f | g | o and r | z | n.
A `GRUCell` has its biases at ir, iz and in. That of linen has one more at hn, which is `recurrent_bias` in jlstm.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jlstm._src import checks
from jlstm.cell import Params
from jlstm.convert import arrays, layout
from jlstm.convert.layout import Part
from jlstm.layers import Layer
from jlstm.layers.bidirectional import MERGES

_FUSED = {"LSTM": "ifgo", "GRU": "rzg"}  # the order of the gates in dense_i and dense_h
_BIASED_WHEN_FUSED = {"LSTM": "dense_h", "GRU": "dense_i"}
_SIDES = ("forward_rnn", "backward_rnn")


def load(weights: Mapping[str, Any], *, merge: str | None = "concat", **options: Any) -> tuple[Layer, Params]:
    """Return the layer and parameters of an `LSTMCell`, `OptimizedLSTMCell` or `GRUCell` of linen or nnx.

    Args:
        weights: the variables of a cell, of an `RNN` or of a `Bidirectional`: a dict of dicts of arrays, with or without "params"
            around it, for example `nnx.to_pure_dict(nnx.state(module, nnx.Param))`.
        merge: how the outputs of two directions are merged.
        **options: options of `jlstm.LSTM` or `jlstm.GRU` that the arrays do not determine: `activation` for Flax's
            `activation_fn`, `recurrent_activation` for `gate_fn`, …

    Returns:
        An RNN, or a Bidirectional of one, and its parameters as NumPy arrays.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype; or an option does not fit.

    Examples:
        >>> import numpy as np
        >>> fused = {"dense_i": {"kernel": np.zeros((3, 16))}, "dense_h": {"kernel": np.zeros((4, 16)), "bias": np.zeros(16)}}
        >>> layer, params = load({"cell": fused})
        >>> layer
        RNN(cell=LSTMCell(units=4), param_dtype='float64')
    """
    checks.one_of("merge", merge, MERGES)
    tree = _unwrap(weights, "params")
    if isinstance(tree, Mapping) and tree.keys() == set(_SIDES):
        sides = [
            _part(tree[name], options | {"reverse": backwards}) for name, backwards in zip(_SIDES, (False, True), strict=True)
        ]
        if sides[0].layer.flipped() != sides[1].layer:
            raise ValueError("weights must have two directions of one kind and size, got different ones: load them one by one")
        return layout.assemble([sides], merge)
    return layout.assemble([[_part(tree, options)]])


def _unwrap(tree: Any, name: str) -> Any:
    """Return the only entry of a dict if it has this name, and any other value unchanged."""
    return tree[name] if isinstance(tree, Mapping) and tree.keys() == {name} else tree


def _part(tree: Any, options: dict[str, Any]) -> Part:
    """Return one direction of a layer from the variables of a cell, or of an `RNN` around it."""
    tree = _unwrap(tree, "cell")
    arrays_by_name = arrays.floating("weights", dict(flat(tree)) if isinstance(tree, Mapping) else tree)
    # nnx cannot call an attribute "if", which is a keyword of Python.
    if any(name.startswith("if_.") for name in arrays_by_name) and any(name.startswith("if.") for name in arrays_by_name):
        raise ValueError(
            "weights must have the input's part of the forget gate once, got 'if' and 'if_': pass one cell's weights"
        )
    arrays_by_name = {f"if.{name[4:]}" if name.startswith("if_.") else name: value for name, value in arrays_by_name.items()}
    fused = "dense_h.kernel" in arrays_by_name
    if fused:
        units, columns = arrays.matrix("weights", arrays_by_name, "dense_h.kernel", "(units, gates·units)").shape
        features = arrays.matrix("weights", arrays_by_name, "dense_i.kernel", "(features, gates·units)").shape[0]
        kind = arrays.kind_of("weights['dense_h.kernel']", columns, units, {4: "LSTM", 3: "GRU"})
    else:
        kind = "LSTM" if "ho.kernel" in arrays_by_name else "GRU"  # a GRU has no gate o
        first = "ho" if kind == "LSTM" else "hn"
        units = arrays.matrix("weights", arrays_by_name, f"{first}.kernel", "(units, units)").shape[0]
        features = arrays.matrix("weights", arrays_by_name, f"i{first[1]}.kernel", "(features, units)").shape[0]
    arrays.fit("weights", arrays_by_name, shapes(kind, features, units, fused=fused))
    return layout.rnn(kind, units, join(kind, arrays_by_name), **options)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dicts, with their keys joined by dots.

    Args:
        tree: dicts of dicts of arrays.
        prefix: what the keys begin with.

    Returns:
        An iterator over pairs of a key and an array.
    """
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _array_names(kind: str) -> tuple[list[str], list[str], list[str]]:
    """Return the names of Flax's arrays, gate by gate, that make up the kernel, the recurrent kernel and the bias of jlstm."""
    # Flax calls the candidate n in a GRU and g in an LSTM.
    gates = layout.OURS[kind].replace("g", "n") if kind == "GRU" else layout.OURS[kind]
    biased = "h" if kind == "LSTM" else "i"
    return (
        [f"i{gate}.kernel" for gate in gates],
        [f"h{gate}.kernel" for gate in gates],
        [f"{biased}{gate}.bias" for gate in gates],
    )


def shapes(kind: str, features: int, units: int, *, fused: bool = False) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the arrays of a Flax cell.

    Args:
        kind: "LSTM" or "GRU".
        features: size of the last axis of the inputs.
        units: size of h.
        fused: whether the cell is an `OptimizedLSTMCell` or `GRUCell` of nnx, in which one kernel has all gates.

    Returns:
        A dict of shapes. A name is that of the gate and of the array, for example "hf.kernel".
    """
    if fused:
        columns, biased = len(_FUSED[kind]) * units, _BIASED_WHEN_FUSED[kind]
        return {"dense_i.kernel": (features, columns), "dense_h.kernel": (units, columns), f"{biased}.bias": (columns,)}
    inputs, recurrent, biases = _array_names(kind)
    # linen's GRU has two biases for the candidate. The product with r contains the second, so they cannot be added.
    biases += ["hn.bias"] if kind == "GRU" else []
    return {
        **dict.fromkeys(inputs, (features, units)),
        **dict.fromkeys(recurrent, (units, units)),
        **dict.fromkeys(biases, (units,)),
    }


def join(kind: str, arrays_by_name: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a jlstm cell.

    Args:
        kind: "LSTM" or "GRU".
        arrays_by_name: the arrays of a Flax cell with the names and shapes that `shapes` returns: NumPy arrays, or JAX arrays,
            which may be traced.

    Returns:
        A dict of arrays of the same kind.
    """
    if "dense_h.kernel" in arrays_by_name:
        keys = ("dense_i.kernel", "dense_h.kernel", f"{_BIASED_WHEN_FUSED[kind]}.bias")
        joined = [layout.order(arrays_by_name[key], _FUSED[kind], layout.OURS[kind]) for key in keys]
    else:
        joined = [layout.concatenate([arrays_by_name[key] for key in keys]) for keys in _array_names(kind)]
    params = dict(zip(("kernel", "recurrent_kernel", "bias"), joined, strict=True))
    # jlstm's GRU with a bias always has the second bias of the candidate, which nnx does not have.
    if kind == "GRU":
        bias_of_first_gate = params["bias"][: len(params["recurrent_kernel"])]
        zeros = bias_of_first_gate.__array_namespace__().zeros_like(bias_of_first_gate)
        params["recurrent_bias"] = arrays_by_name.get("hn.bias", zeros)
    return params


def dump(layer: Layer, params: Params, *, module: str = "linen") -> dict[str, Any]:
    """Return the variables of Flax's `RNN(cell)`, or of a `Bidirectional` of two; `load` restores the same bits.

    The variables do not contain the activations and directions: pass these to the Flax modules. Flax's cells always have a
    bias. For a layer without a bias, it is zero.

    Args:
        layer: an RNN, or a Bidirectional of one. Convert the layers of a Stack one by one.
        params: the layer's parameters.
        module: "linen" for the `LSTMCell`, `OptimizedLSTMCell` and `GRUCell` of linen, "nnx" for the `LSTMCell` and `GRUCell` of
            nnx, "nnx.OptimizedLSTMCell" for that class.

    Returns:
        A dict of dicts of arrays, without "params" around it.

    Raises:
        ValueError: the layer has an option that Flax does not have or is a Stack, or `params` do not fit it.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> weights = dump(layer, layer.init(jax.random.key(0), features=3))
        >>> sorted(weights["cell"]), weights["cell"]["hf"]["kernel"].shape
        (['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io'], (4, 4))
    """
    checks.one_of("module", module, ("linen", "nnx", "nnx.OptimizedLSTMCell"))
    layers = layout.parts(layer, params)
    if len(layers) > 1:
        raise ValueError(f"Flax has no stack of layers, got {layer!r}: convert its layers one by one")
    trees = [{"cell": _dump_direction(part, module)} for part in layers[0]]
    return dict(zip(_SIDES, trees, strict=True)) if len(trees) > 1 else trees[0]


def _dump_direction(part: Part, module: str) -> dict[str, Any]:
    """Return the arrays of one direction of one layer, by the names of `module`, which is as for `dump`.

    Raises:
        ValueError: Flax's cells lack an option of the cell. Flax takes activations as arguments of a cell, so any may be used.
    """
    cell: Any = part.layer.cell
    layout.refuse("Flax", cell, but=("activation", "recurrent_activation"))
    kind, params = layout.kind_of(cell), part.params
    kernels = [params["kernel"], params["recurrent_kernel"], params.get("bias", np.zeros_like(params["kernel"][0]))]
    recurrent_bias = params.get("recurrent_bias", np.zeros_like(kernels[2][: cell.units]))
    if module == "nnx.OptimizedLSTMCell" or (module == "nnx" and kind == "GRU"):
        if kind == "GRU" and recurrent_bias.any():
            raise ValueError("Flax nnx.GRUCell has no recurrent_bias, got one that is not zero: use module='linen'")
        inputs, recurrent, bias = (layout.order(array, layout.OURS[kind], _FUSED[kind]) for array in kernels)
        tree = {"dense_i": {"kernel": inputs}, "dense_h": {"kernel": recurrent}}
        tree[_BIASED_WHEN_FUSED[kind]]["bias"] = bias
        return tree
    tree_by_gate: dict[str, Any] = {}
    for keys, array in zip(_array_names(kind), kernels, strict=True):
        for key, block in zip(keys, np.split(array, len(keys), -1), strict=True):
            where, leaf = key.split(".")
            tree_by_gate.setdefault("if_" if where == "if" and module == "nnx" else where, {})[leaf] = block
    if kind == "GRU":
        tree_by_gate["hn"]["bias"] = recurrent_bias
    return tree_by_gate
