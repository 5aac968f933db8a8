"""One good call of every public function and class around the layers: data, training, models, plots and inspection."""

import functools

import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from good_arguments import INDEX, KEY, LAYER, MINIBATCHES, NUMBERS, PARAMS, SEQUENCES, XS, floats
from jlstm import data, introspect, models, plot, train
from spoiled import Call

plt.switch_backend("Agg")


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
        spoiled_parameters = ("data_dir",) if name != "imdb" else None
        calls[name] = Call(
            getattr(data, name), files, spoiled_parameters=spoiled_parameters, run_good_call=False, skipped_kind="None"
        )  # it would download
    return calls


def of_inspect(folder):
    sequence = {"layer": LAYER, "params": PARAMS, "xs": XS}
    return {
        "gradient_flow": Call(introspect.gradient_flow, {**sequence, "lengths": np.array([5, 2])}, {"xs": NUMBERS}),
        "trace": Call(introspect.trace, {**sequence, "lengths": np.array([5, 2])}, {"xs": NUMBERS}),
        "saturation": Call(introspect.saturation, {"traces": introspect.trace(LAYER, PARAMS, XS)}, {"traces": "wrong shape"}),
    }


def of_plot(folder):
    record = train.Record(1, 0.5, {"loss": 1.0}, {"loss": 2.0}, 1.0, 1.0)
    trace = introspect.trace(LAYER, PARAMS, XS)
    calls = {
        "curves": Call(plot.curves, {"history": [record, record]}),
        "embeddings": Call(plot.embeddings, {"vectors": floats(5, 3), "labels": list("abcde")}, {"vectors": "huge, negative"}),
        "flow": Call(plot.flow, {"norms": {"a": np.ones(4)}}, {"norms": "wrong shape", "label": "empty"}),
        "gates": Call(plot.gates, {"trace": trace}, {"sequence": "negative"}),
        "saturation": Call(plot.saturation, {"shares": introspect.saturation(trace)}),
        "scores": Call(
            plot.scores,
            {"text": list("abc"), "values": np.array([0.1, 0.5, 0.9])},
            {"values": "huge, negative", "label": "empty"},
        ),
    }

    def closing(function):
        @functools.wraps(function)
        def call_and_close(**arguments):
            try:
                return function(**arguments)
            finally:
                plt.close("all")

        return call_and_close

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
        "averaged": Call(train.averaged, {"optimizer": OPTIMIZER}),
        "averaged_params": Call(
            train.averaged_params,
            {"opt_state": train.averaged(OPTIMIZER).init(fitting["params"])},
            spoiled_parameters=("opt_state",),
        ),
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
            {"forget_bias": "None, huge, negative", "init_scale": "huge", "units": "wrong shape"}
            | dict.fromkeys(("layers", "features", "input_dropout", "output_dropout"), "None"),
            spoiled_parameters=(
                *("vocabulary", "units", "layers", "features", "dropout", "input_dropout", "output_dropout"),
                *("embedding_dropout", "weight_drop", "variational", "tied", "init_scale", "forget_bias"),
            ),
        ),
        "NeuralCache": Call(models.NeuralCache, {}),
        "activation_penalty": Call(
            models.activation_penalty,
            {"outputs": floats(1, 2, 3), "dropped": floats(1, 2, 3)},
            dict.fromkeys(("outputs", "dropped"), "NaN, huge, negative"),
        ),
        "LanguageModel.apply": Call(
            lambda tokens, carry=None, key=None: language.apply({"params": params}, tokens, carry, key=key),
            {"tokens": tokens},
            {"tokens": "empty"},
        ),
        "LanguageModel.initial_carry": Call(language.initial_carry, {"size": 2}),
        "NNXModel": Call(
            lambda module, params, rngs: models.NNXModel(module, params=params, rngs=rngs),
            {"module": language, "params": params, "rngs": nnx.Rngs(0)},
            {"params": "None", "rngs": "None"},
        ),
        "SequenceClassifier": Call(
            lambda **options: models.SequenceClassifier(**options).init(KEY, tokens),
            {"vocabulary": 7, "features": 3, "layer": LAYER},
            {"layer": "wrong shape"},
            spoiled_parameters=("vocabulary", "features", "layer", "classes", "dropout", "variational", "masked", "pool"),
        ),
        "SequenceClassifier.apply": Call(
            lambda tokens, key=None: classifier.apply(variables, tokens, key=key), {"tokens": tokens}, {"tokens": "empty"}
        ),
        "Uniform": Call(models.Uniform, {"scale": 0.1}),
        "write_onnx": Call(
            models.write_onnx, {"path": folder / "model.onnx", "model": language, "params": params}, {"path": "missing file"}
        ),
        "generate": Call(models.generate, generating, {"prompt": "empty", "temperature": "huge"}),
        "summary": Call(models.summary, {"module": classifier}, run_good_call=False),
    }
