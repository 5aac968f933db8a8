"""Bad values for every parameter of the public API end in one sentence of ours, or in a right result.

`bad_calls.py` and `bad_calls_training.py` have a good call of every public name. `spoiled.py` says which values are bad
and how an answer is judged.
"""

import inspect
from collections import Counter

import jax
import numpy as np
import pytest

import jlstm
from bad_calls import MODULES
from spoiled import Call, try_bad_values, verdict

SHARE = 0.98
TUPLES = {  # tuples of results and states: jit builds them from anything, so they check nothing
    *("LSTMCarry", "HiddenCarry", "MLSTMCarry", "SLSTMCarry", "GRUGates", "LSTMGates", "MinimalGates"),
    *("ExponentialGates", "Batch", "Bucketed", "Corpus", "Dataset", "ReviewDataset", "Reviews", "Series", "Split", "Window"),
    *("Attended", "AttentionCarry", "Beams", "Memory"),
    *("Flow", "Saturation", "Trace", "Outcome", "Record", "Result", "Comparison", "Diagnosis", "Quantity"),
}
ABSTRACT = {"Batches", "Cell", "Layer", "Wrapper"}
WITHOUT_PARAMETERS = {"COLORS", "NonFiniteError", "keep_memory", "digits"}  # no function with parameters


@pytest.mark.table(quick=4)
@pytest.mark.loose
@pytest.mark.parametrize("module", MODULES)
def test_bad_values_end_in_a_sentence(module, tmp_path, monkeypatch):
    """At least 98 % of all bad values, twelve kinds for each parameter, end in one sentence."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JLSTM_DATA", raising=False)
    calls = MODULES[module](tmp_path)
    counts, failures = Counter(), []
    with jax.disable_jit():  # avoids compilation
        for label, call in calls.items():
            if call.run_good_call:
                call.function(**call.arguments)
            call_counts, call_failures = try_bad_values(label, call, tmp_path)
            counts, failures = counts + call_counts, failures + call_failures
    print(f"{module}: {dict(counts)}")
    assert len(failures) <= (1 - SHARE) * counts.total(), f"{counts}\n" + "\n".join(failures)


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith((".convert", ".linen", ".nnx"))])
def test_every_public_name_is_tried(module, tmp_path):
    """Every public function has a good call in the table."""
    public = __import__(module, fromlist=["_"])
    tried_names = {label.partition(".")[0] for label in MODULES[module](tmp_path)}
    elsewhere = set(jlstm.cells.__all__) if module == "jlstm" else set()
    names = {name for name in public.__all__ if not inspect.ismodule(getattr(public, name))}
    assert names - tried_names - TUPLES - ABSTRACT - WITHOUT_PARAMETERS - elsewhere == set()


def test_what_counts_as_a_sentence():
    """An error of ours on one line counts; errors of NumPy, JAX or Python, and errors of several lines, do not."""

    def answer(call):
        with pytest.raises(Exception, match=r"(?s).") as caught:
            call()
        return verdict(caught.value)

    assert answer(lambda: jlstm.LSTM(0)) == "sentence"
    assert answer(lambda: jlstm.LSTM(units="a" * 1000)) == "sentence"
    assert (
        answer(lambda: jlstm._src.checks.tree("params", {}, {"a\nb": np.ones(1)}, "pass it")) == "sentence"
    )  # shown by its repr
    assert answer(lambda: jlstm._src.checks.one_of("merge", 1, ["a" * 400])) == "long"
    assert answer(lambda: jlstm._src.checks.one_of("merge", 1, None)) == "raw"
    assert answer(lambda: np.ones(3)[5]) == "raw"
    assert answer(lambda: bool(np.ones(3))) == "raw"


def test_an_accepted_value_has_to_be_right(tmp_path):
    """A bad value that is accepted is a failure, unless the table or the signature allows it."""

    def function(a, b: int | None = None, c: float = 1.0):
        return a, b, c

    counts, failures = try_bad_values("function", Call(function, {"a": 1}), tmp_path)
    assert counts == {"accepted": 33, "right": 3}
    assert len(failures) == 33
    assert try_bad_values("function", Call(function, {"a": 1}, {"a": "None, NaN"}), tmp_path)[0]["right"] == 5
