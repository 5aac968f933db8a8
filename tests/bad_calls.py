"""One good call of every public function, class and method, by module."""

import functools

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx as flax_nnx

import jlstm
import jlstm.convert as convert
import jlstm.linen
import jlstm.nnx
import parity
from jlstm import GRU, LSTM, RNN, Bidirectional, LSTMCell, Stack, cells, data, inspect, models, plot, train
from spoiled import Call

plt.switch_backend("Agg")

KEY = jax.random.key(0)
NUMBERS = "NaN, huge, negative"  # of real numbers: what comes in is what is computed with
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


LAYER, BOTH = LSTM(4, backend="scan"), Bidirectional(LSTM(4, backend="scan"))
STACK, PARAMS, XS = Stack((LAYER, LAYER)), LAYER.init(KEY, 3), floats(2, 5, 3)
CARRY, MASK = LAYER.initial_carry(PARAMS, (2,)), np.ones((2, 5), bool)
CELL_PARAMS = LSTMCell(4).init(KEY, 3)
SEQUENCES = [np.array([1, 2, 3]), np.array([4, 5])]
MINIBATCHES = data.Minibatches((floats(6, 3), floats(6)), 2)
INDEX = {"a": 1, "b": 2}
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
    for name, layer in {"RNN": LAYER, "Bidirectional": BOTH, "Stack": STACK}.items():
        params = layer.init(KEY, 3)
        carry = layer.initial_carry(params, (2,))
        calls |= {
            f"{name}.init": Call(layer.init, {"key": KEY, "features": 3}),
            f"{name}.initial_carry": Call(layer.initial_carry, {"params": params, "batch_shape": (2,)}, {"batch_shape": "empty"}),
            f"{name}.apply": Call(
                layer.apply, {"params": params, **sequence, "carry": carry}, one_batch_more | {"noise": "wrong shape"}
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
            {"layers": "empty", "skipped": "empty", "assumed": "empty", "unused": "empty"},
        )
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
    for name in ("keras", "tf1"):
        calls[f"{name}.read"] = Call(getattr(convert, name).read, {"path": folder / "model.keras"}, good=False)
    return calls


def of_data(folder):
    ragged = data.Ragged.of(SEQUENCES)
    tokens = np.arange(40, dtype=np.int32)
    buckets = {"tokens": ragged, "labels": np.array([0, 1]), "size": 2, "widths": (3,)}
    files = {"data_dir": folder / "data"}
    calls = {
        "Minibatches": Call(
            data.Minibatches,
            {"examples": (floats(6, 3), floats(6)), "size": 2},
            {"examples": "wrong shape, array", "seed": "huge"},
        ),
        "Minibatches.epoch": Call(
            lambda number, start=0, part=(0, 1): list(MINIBATCHES.epoch(number, start, part)), {"number": 0}
        ),
        "Windows": Call(data.Windows, {"tokens": tokens, "size": 2, "steps": 3}),
        "Buckets": Call(data.Buckets, buckets, {"labels": "wrong shape, wrong dtype, huge, negative", "seed": "huge"}),
        "Ragged": Call(
            data.Ragged, {"values": np.arange(5), "offsets": np.array([0, 3, 5])}, {"values": f"{NUMBERS}, wrong shape"}
        ),
        "Ragged.of": Call(data.Ragged.of, {"sequences": SEQUENCES}, {"sequences": "empty, array"}),
        "pad": Call(data.pad, {"sequences": SEQUENCES, "length": 4}, {"value": "negative, NaN", "sequences": "empty, array"}),
        "share": Call(data.share, {"size": 4, "part": (0, 2)}),
        "take": Call(
            data.take,
            {"tree": floats(4, 2), "rows": np.array([0, 2])},
            {"tree": f"{NUMBERS}, wrong shape, wrong dtype, array", "rows": "empty"},
        ),
        "words": Call(data.words, {"text": "a b"}, {"text": "empty"}),
        "vocabulary": Call(data.vocabulary, {"texts": ["a b", "b"]}, {"texts": "empty", "num_words": "huge"}),
        "encode": Call(data.encode, {"text": "a b", "index": INDEX}, {"text": "empty", "index": "empty", "num_words": "huge"}),
        "decode": Call(
            data.decode, {"tokens": np.array([4, 5]), "index": INDEX}, {"tokens": "empty", "index": "empty", "unknown": "empty"}
        ),
    }
    for name in ("mnist", "imdb", "imdb_word_index", "ptb", "shakespeare", "airline", "sunspots", "temperatures"):
        only = ("data_dir",) if name != "imdb" else None
        calls[name] = Call(getattr(data, name), files, only=only, good=False, without="None")  # it would download
    return calls


def of_inspect(folder):
    sequence = {"layer": LAYER, "params": PARAMS, "xs": XS}
    return {
        "gradient_flow": Call(inspect.gradient_flow, {**sequence, "lengths": np.array([5, 2])}, {"xs": NUMBERS}),
        "trace": Call(inspect.trace, {**sequence, "lengths": np.array([5, 2])}, {"xs": NUMBERS}),
        "saturation": Call(inspect.saturation, {"traces": inspect.trace(LAYER, PARAMS, XS)}, {"traces": "wrong shape"}),
    }


def of_plot(folder):
    record = train.Record(1, 0.5, {"loss": 1.0}, {"loss": 2.0}, 1.0, 1.0)
    trace = inspect.trace(LAYER, PARAMS, XS)
    calls = {
        "curves": Call(plot.curves, {"history": [record, record]}),
        "embeddings": Call(plot.embeddings, {"vectors": floats(5, 3), "labels": list("abcde")}, {"vectors": "huge, negative"}),
        "flow": Call(plot.flow, {"norms": {"a": np.ones(4)}}, {"norms": "wrong shape", "label": "empty"}),
        "gates": Call(plot.gates, {"trace": trace}, {"sequence": "negative"}),
        "saturation": Call(plot.saturation, {"shares": inspect.saturation(trace)}),
        "scores": Call(
            plot.scores,
            {"text": list("abc"), "values": np.array([0.1, 0.5, 0.9])},
            {"values": "huge, negative", "label": "empty"},
        ),
    }

    def closing(function):
        @functools.wraps(function)
        def drawn(**arguments):
            try:
                return function(**arguments)
            finally:
                plt.close("all")

        return drawn

    for call in calls.values():
        call.function = closing(call.function)
    return calls


def loss_fn(params, examples, key, carry):
    xs, ys = examples
    return train.Outcome((xs @ params["w"] - ys) ** 2)


OPTIMIZER = optax.sgd(0.1)


def of_train(folder):
    fitting = {"loss_fn": loss_fn, "params": {"w": floats(3)}, "batches": MINIBATCHES}
    new_folders = {"checkpoints": "missing file, directory, wrong dtype"}
    train.fit(**fitting, optimizer=OPTIMIZER, steps=1, checkpoints=folder / "run")
    return {
        "early_stopping": Call(train.early_stopping),
        "evaluate": Call(train.evaluate, fitting),
        "fit": Call(
            train.fit,
            {**fitting, "optimizer": OPTIMIZER, "steps": 1},
            new_folders | {"history": "missing file, wrong dtype", "callbacks": "empty"},
        ),
        "keras_optimizer": Call(train.keras_optimizer, {"name": "adam"}),
        "mesh": Call(train.mesh),
        "restore": Call(train.restore, {"folder": folder / "run", "like": fitting["params"]}),
        "tensorboard": Call(train.tensorboard, {"folder": folder / "board"}, {"folder": "missing file, directory"}),
    }


def of_models(folder):
    language = models.LanguageModel(7, 4, layers=1)
    tokens = np.array([[1, 2, 3]])
    params = language.init(KEY, tokens)["params"]
    classifier = models.SequenceClassifier(7, 3, LAYER)
    variables = classifier.init(KEY, tokens)
    generating = {"model": language, "params": params, "key": KEY, "prompt": tokens, "length": 2}
    return {
        "LanguageModel": Call(
            lambda **options: models.LanguageModel(**options).init(KEY, tokens),
            {"vocabulary": 7, "units": 4},
            {"forget_bias": "None, huge, negative", "init_scale": "huge"},
            only=("vocabulary", "units", "layers", "dropout", "variational", "tied", "init_scale", "forget_bias"),
        ),
        "LanguageModel.apply": Call(
            lambda tokens, carry=None, key=None: language.apply({"params": params}, tokens, carry, key=key),
            {"tokens": tokens},
            {"tokens": "empty"},
        ),
        "LanguageModel.initial_carry": Call(language.initial_carry, {"size": 2}),
        "SequenceClassifier": Call(
            lambda **options: models.SequenceClassifier(**options).init(KEY, tokens),
            {"vocabulary": 7, "features": 3, "layer": LAYER},
            {"layer": "wrong shape"},
            only=("vocabulary", "features", "layer", "classes", "dropout", "variational", "masked", "pool"),
        ),
        "SequenceClassifier.apply": Call(
            lambda tokens, key=None: classifier.apply(variables, tokens, key=key), {"tokens": tokens}, {"tokens": "empty"}
        ),
        "Uniform": Call(models.Uniform, {"scale": 0.1}),
        "generate": Call(models.generate, generating, {"prompt": "empty", "temperature": "huge"}),
        "summary": Call(models.summary, {"module": classifier}, good=False),
    }


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
        "assert_same": Call(parity.assert_same, {"problem": problem}, good=False),
        "compare": Call(parity.compare, {"problem": problem}, good=False),
        "diagnose": Call(parity.diagnose, {"problem": problem, "theirs": {}}, good=False),
    }


MODULES = {
    "jlstm": core,
    "jlstm.cells": of_cells,
    "jlstm.convert": of_convert,
    "jlstm.data": of_data,
    "jlstm.inspect": of_inspect,
    "jlstm.plot": of_plot,
    "jlstm.train": of_train,
    "jlstm.models": of_models,
    "jlstm.linen": of_linen,
    "jlstm.nnx": of_nnx,
    "parity": of_parity,
}
