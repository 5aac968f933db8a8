"""One good call of every public function, class and method, by module."""

import numpy as np
from flax import nnx as flax_nnx

import jlstm
import jlstm.convert as convert
import jlstm.linen
import jlstm.nnx
import parity
from bad_calls_training import of_data, of_inspect, of_models, of_plot, of_train
from good_arguments import BIDIRECTIONAL, CARRY, KEY, LAYER, MASK, NUMBERS, PARAMS, STACK, XS, floats
from jlstm import GRU, LSTM, RNN, Bidirectional, LSTMCell, Stack, attention, cells
from spoiled import Call

SEVERAL = dict.fromkeys(("keras", "haiku", "onnx"), "wrong shape")  # two layers, one above the other


def core(folder):
    jlstm.save(folder / "params.safetensors", PARAMS)
    jlstm.save(folder / "layer.safetensors", PARAMS, layer=LAYER)
    sequence = {"xs": XS, "carry": CARRY, "lengths": np.array([5, 2]), "resets": MASK, "key": None}
    one_batch_more = {"xs": f"{NUMBERS}", "carry": ""}
    calls = {
        "LSTM": Call(LSTM, {"units": 4}, {"forget_bias": "None, huge, negative", "cell_clip": "huge", "gate_clip": "huge"}),
        "GRU": Call(GRU, {"units": 4}),
        "RNN": Call(RNN, {"cell": LSTMCell(4)}),
        "Bidirectional": Call(Bidirectional, {"layer": LAYER}),
        "Stack": Call(Stack, {"layers": (LAYER, LAYER)}, {"layers": "wrong shape"}),
        "cell_states": Call(jlstm.cell_states, {"layer": LAYER, "params": PARAMS, **sequence}, one_batch_more),
        "explain": Call(jlstm.explain, {"layer": LAYER, "params": PARAMS, "xs": XS}, {"xs": f"{NUMBERS}, empty"}),
        "lengths_to_mask": Call(
            jlstm.lengths_to_mask, {"lengths": np.array([2, 3]), "time": 4}, {"lengths": "wrong shape, empty, array"}
        ),
        "load": Call(jlstm.load, {"path": folder / "params.safetensors", "like": PARAMS}),
        "load_layer": Call(jlstm.load_layer, {"path": folder / "layer.safetensors"}),
        "save": Call(
            jlstm.save, {"path": folder / "saved.safetensors", "params": PARAMS, "layer": LAYER}, {"path": "missing file"}
        ),
    }
    for name, layer in {"RNN": LAYER, "Bidirectional": BIDIRECTIONAL, "Stack": STACK}.items():
        params = layer.init(KEY, 3)
        carry = layer.initial_carry(params, (2,))
        calls |= {
            f"{name}.init": Call(layer.init, {"key": KEY, "features": 3}),
            f"{name}.bind": Call(layer.bind, {"params": params}),
            f"{name}.initial_carry": Call(layer.initial_carry, {"params": params, "batch_shape": (2,)}, {"batch_shape": "empty"}),
            f"{name}.apply": Call(
                layer.apply, {"params": params, **sequence, "carry": carry}, one_batch_more | {"dropout_masks": "wrong shape"}
            ),
            f"{name}.last_output": Call(layer.last_output, {"carry": carry}),
        }
        if name != "Bidirectional":
            step = {"params": params, "carry": carry, "x": XS[:, 0], "reset": MASK[:, 0]}
            calls[f"{name}.step"] = Call(layer.step, step, {"x": NUMBERS})
    return calls


def of_cells(folder):
    cell = LSTMCell(4)
    calls = {
        name: Call(getattr(cells, name), {"units": 4})
        for name in ("LSTMCell", "GRUCell", "ElmanCell", "MinGRUCell", "MinLSTMCell", "SLSTMCell", "MLSTMCell")
    }
    calls |= {name: Call(getattr(cells, name), {"cell": cell}) for name in ("Dropout", "LearnedCarry", "WeightDrop", "Zoneout")}
    calls |= {name: Call(getattr(cells, name), {"cell": cell}) for name in ("Highway", "Residual")}
    calls["ConvLSTMCell"] = Call(
        cells.ConvLSTMCell,
        {"filters": 2, "kernel_size": 3, "spatial": (6, 5)},
        dict.fromkeys(("kernel_size", "strides", "dilation"), "wrong shape"),
    )
    return calls


def of_attention(folder):
    cell = attention.Attention(LSTMCell(4), 5)
    arrays = {"query": floats(2, 3), "keys": floats(2, 5, 3), "values": floats(2, 5, 4), "lengths": np.array([5, 2])}
    numbers = dict.fromkeys(("query", "keys", "values"), NUMBERS)
    bound = {"params": jlstm.RNN(cell).init(KEY, 3), "memory": floats(2, 5, 5), "lengths": np.array([5, 2])}
    return {
        "Attention": Call(attention.Attention, {"cell": LSTMCell(4), "memory_features": 5, "attention_features": 3}),
        "additive_attention": Call(attention.additive_attention, arrays | {"scale": floats(3)}, numbers | {"scale": NUMBERS}),
        "multiplicative_attention": Call(
            attention.multiplicative_attention, arrays | {"scale": np.float32(2)}, numbers | {"scale": NUMBERS}
        ),
        "with_memory": Call(attention.with_memory, bound, {"memory": f"{NUMBERS}, wrong shape, array"}),
    }


def of_convert(folder):
    weights = {
        "torch": convert.torch.dump(LAYER, PARAMS),
        "keras": convert.keras.dump(LAYER, PARAMS),
        "tf1": convert.tf1.dump(LAYER, PARAMS),
        "flax": convert.flax.dump(LAYER, PARAMS),
        "haiku": convert.haiku.dump(LSTM(4), PARAMS),
        "equinox": convert.equinox.dump(LAYER, PARAMS),
        "onnx": convert.onnx.dump(LAYER, PARAMS),
    }
    calls = {
        "FileLayers": Call(
            convert.FileLayers,
            {"layers": {"a": (LAYER, PARAMS)}},
            {"layers": "empty", "skipped": "empty", "assumed": "empty", "unused": "empty", "other_layers": "empty"},
        ),
        "OtherLayer": Call(
            convert.OtherLayer,
            {"kind": "Dense", "arrays": {"kernel": XS[0]}, "options": {}},
            {"kind": "empty", "arrays": f"empty, wrong shape, {NUMBERS}", "options": "empty"},
        ),
        "keras.model": Call(convert.keras.model, {"path": folder / "model.keras"}, run_good_call=False),
    }
    for name, arrays in weights.items():
        module = getattr(convert, name)
        calls[f"{name}.load"] = Call(module.load, {"weights": arrays}, {"weights": SEVERAL.get(name, ""), "prefix": "empty"})
        calls[f"{name}.dump"] = Call(module.dump, {"layer": LAYER, "params": PARAMS})
    for name, suffix in {"torch": "safetensors", "onnx": "onnx"}.items():
        path = folder / f"a.{suffix}"
        module = getattr(convert, name)
        module.write(path, LAYER, PARAMS)
        calls[f"{name}.write"] = Call(module.write, {"path": path, "layer": LAYER, "params": PARAMS}, {"path": "missing file"})
        calls[f"{name}.read"] = Call(module.read, {"path": path})
    calls["onnx.model"] = Call(convert.onnx.model, {"path": folder / "a.onnx"})
    for name in ("keras", "tf1"):
        calls[f"{name}.read"] = Call(getattr(convert, name).read, {"path": folder / "model.keras"}, run_good_call=False)
    return calls


def of_linen(folder):
    module = jlstm.linen.Recurrent(LAYER)
    variables = module.init(KEY, XS)
    apply = lambda xs, carry=None, lengths=None, mask=None, resets=None, key=None: module.apply(
        variables, xs, carry, lengths=lengths, mask=mask, resets=resets, key=key
    )
    making = lambda kind: lambda layer: getattr(jlstm.linen, kind)(layer=layer).init(KEY, XS)
    return {
        "Recurrent": Call(making("Recurrent"), {"layer": LAYER}),
        "Outputs": Call(making("Outputs"), {"layer": LAYER}),
        "Recurrent.apply": Call(apply, {"xs": XS, "carry": CARRY, "lengths": np.array([5, 2]), "resets": MASK}, {"xs": NUMBERS}),
    }


def of_nnx(folder):
    rngs = flax_nnx.Rngs(0)
    making = {"layer": LAYER, "features": 3, "rngs": rngs}
    module = jlstm.nnx.Recurrent(**making)
    apply = lambda xs, carry=None, lengths=None, mask=None, resets=None, key=None: module(
        xs, carry, lengths=lengths, mask=mask, resets=resets, key=key
    )
    return {
        "Recurrent": Call(lambda layer, features, rngs: jlstm.nnx.Recurrent(layer, features, rngs=rngs), making),
        "Outputs": Call(lambda layer, features, rngs: jlstm.nnx.Outputs(layer, features, rngs=rngs), making),
        "Recurrent.__call__": Call(
            apply, {"xs": XS, "carry": CARRY, "lengths": np.array([5, 2]), "resets": MASK}, {"xs": NUMBERS}
        ),
        "Recurrent.step": Call(module.step, {"carry": CARRY, "x": XS[:, 0], "reset": MASK[:, 0]}, {"x": NUMBERS}),
        "Recurrent.initial_carry": Call(module.initial_carry, {"batch_shape": (2,)}, {"batch_shape": "empty"}),
        "Recurrent.last_output": Call(module.last_output, {"carry": CARRY}),
        "Recurrent.set_view": Call(module.set_view, {"deterministic": True}),
    }


def of_parity(folder):
    problem = parity.Problem(LAYER)
    return {
        "Problem": Call(parity.Problem, {"layer": LAYER, "xs": XS, "params": PARAMS}, {"xs": NUMBERS}),
        "assert_same_model": Call(
            parity.assert_same_model, {"ours": np.tanh, "theirs": np.tanh, "inputs": XS}, {"inputs": f"{NUMBERS}, array, empty"}
        ),
        "assert_same": Call(parity.assert_same, {"problem": problem}, run_good_call=False),
        "compare": Call(parity.compare, {"problem": problem}, run_good_call=False),
        "diagnose": Call(parity.diagnose, {"problem": problem, "theirs": {}}, run_good_call=False),
    }


MODULES = {
    "jlstm": core,
    "jlstm.attention": of_attention,
    "jlstm.cells": of_cells,
    "jlstm.convert": of_convert,
    "jlstm.data": of_data,
    "jlstm.introspect": of_inspect,
    "jlstm.plot": of_plot,
    "jlstm.train": of_train,
    "jlstm.models": of_models,
    "jlstm.linen": of_linen,
    "jlstm.nnx": of_nnx,
    "parity": of_parity,
}
