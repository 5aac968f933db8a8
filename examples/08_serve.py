"""Serving: the classifier of 02_sentiment.py in ONNX Runtime and in TensorFlow Lite, which need neither jlstm nor JAX.

The weights that 02_sentiment.py saved are exported, as one file for each runtime. Then each sentence is classified by both, and
the time of a call is measured. Needs `pip install "jlstm[examples,peers]"`.

    python examples/02_sentiment.py --epochs 2                               train the classifier first
    python examples/08_serve.py --texts "What a film!" "I was bored."        classify two sentences
"""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console

import jlstm
from common.options import one_sentence
from jlstm.data import encode, imdb_word_index, words
from jlstm.models import SequenceClassifier, write_onnx

Classifier = Callable[[np.ndarray], float]  # returns the logit of a sentence, whole numbers of shape (words,)


@dataclass(frozen=True)
class ServeOptions:
    """Export the classifier of 02_sentiment.py, and classify sentences with the exported files."""

    texts: tuple[str, ...] = ("A wonderful film with a great cast.", "I was bored, and it was far too long.")  # to be classified
    weights: Path = Path("results/sentiment/weights.safetensors")  # what 02_sentiment.py saved
    words: int = 10_000  # size of the vocabulary, as in training
    features: int = 64  # features of the embedding, as in training
    length: int = 24  # words kept of a sentence: the first ones. TensorFlow Lite computes as many steps for each
    rounds: int = 200  # calls that are timed for each sentence
    data_dir: Path | None = None  # folder with the words' numbers; the default is $JLSTM_DATA, or else a verified download
    out: Path = Path("results/serve")  # folder for the exported files

    def check(self) -> None:
        """Raise ValueError if a number is too small, or a text has no word."""
        for name, least in (("words", 4), ("features", 1), ("length", 2), ("rounds", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if not self.texts or not all(map(words, self.texts)):
            raise ValueError("--texts needs at least one text, each with a word")


def restored(options: ServeOptions) -> tuple[SequenceClassifier, Any]:
    """Return the model of 02_sentiment.py, and its weights."""
    sentiment = import_module("02_sentiment")
    model = sentiment.network(sentiment.SentimentOptions(words=options.words, features=options.features))
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 1), np.int32))["params"])
    return model, jlstm.load(options.weights, like=like)


def onnx_classifier(path: Path, model: SequenceClassifier, params: Any) -> Classifier:
    """Write an ONNX file for sentences of any length, and return what runs it."""
    import onnxruntime

    write_onnx(path, model, params, lengths=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a sentence is too little work to be divided
    session = onnxruntime.InferenceSession(path, options)
    return lambda tokens: float(session.run(None, {"tokens": tokens[None]})[0][0])


def lite_classifier(path: Path, model: SequenceClassifier, params: Any, length: int) -> Classifier:
    """Write a TensorFlow Lite file for sentences of up to `length` words, and return what runs it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow need not say that it finds no GPU
    import tensorflow as tf
    from jax.experimental import jax2tf

    def logits(tokens: jax.Array) -> jax.Array:
        return model.apply({"params": params}, tokens)

    with jax.enable_x64(False):  # with 64-bit counters, TensorFlow Lite returns wrong results without an error
        exported = tf.function(jax2tf.convert(logits, with_gradient=False), autograph=False)
        concrete = exported.get_concrete_function(tf.TensorSpec((1, length), tf.int32))
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], exported).convert())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interpreter is about to move to a package of its own
        interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def classify(tokens: np.ndarray) -> float:
        padded = np.zeros((1, length), np.int32)  # the model masks the number 0
        padded[0, : len(tokens)] = tokens
        interpreter.set_tensor(entry["index"], padded)
        interpreter.invoke()
        return float(interpreter.get_tensor(result["index"])[0])

    return classify


def seconds_of(classify: Classifier, tokens: np.ndarray, rounds: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        classify(tokens)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main(options: ServeOptions) -> None:
    """Export, classify each text with both runtimes, and print scores and times."""
    options.check()
    options.out.mkdir(parents=True, exist_ok=True)
    model, params = restored(options)
    index, console = imdb_word_index(options.data_dir), Console(highlight=False, soft_wrap=True)
    classifiers = {
        "ONNX Runtime": onnx_classifier(options.out / "classifier.onnx", model, params),
        "TensorFlow Lite": lite_classifier(options.out / "classifier.tflite", model, params, options.length),
    }
    for text in options.texts:
        tokens = np.asarray(encode(text, index, num_words=options.words)[: options.length], np.int32)
        console.print(text, markup=False)
        for name, classify in classifiers.items():
            score = 1 / (1 + np.exp(-classify(tokens)))
            milliseconds = 1000 * seconds_of(classify, tokens, options.rounds)
            console.print(f"  {name:<16} {'positive' if score > 0.5 else 'negative'} ({score:.3f}), {milliseconds:.2f} ms a call")
    console.print(f"The exported files are in {options.out}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(ServeOptions))
