"""The fuzzer's own parts: seed files, mutations and the definition of a finding. Atheris is not needed."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fuzz import check, mutate, table
from fuzz.__main__ import watch
from fuzz.targets import SEPARATOR, TARGETS, Target

pytestmark = [
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),  # Keras with NumPy 2
]


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("name", TARGETS)
def test_files_to_begin_with_are_read_as_they_are_and_from_their_parts(name, tmp_path):
    """Packed parts get right lengths and checksums: else only those checks are fuzzed."""
    if name in ("torch", "onnx"):
        pytest.importorskip(name)  # only CI always has them
    target = TARGETS[name]
    seed_folder, try_folder = tmp_path / "made", tmp_path / "tried"
    seed_folder.mkdir()
    try_folder.mkdir()
    target.seeds(seed_folder)
    tries = [content for file in sorted(seed_folder.glob(f"*{target.ending}")) for content in target.inputs(file)]
    separators_read = set()
    for content in tries:
        path = try_folder / f"model{target.ending}"
        check.read(target, path, content)
        if refusal(target, path) is None:
            separators_read.add(SEPARATOR in content)
    assert separators_read >= {SEPARATOR in content for content in tries} - (
        {False} if name == "checkpoint" else set()
    )  # a checkpoint has two files, so that only packed ones are read


def refusal(target, path):
    """Return why a file is refused, or None."""
    try:
        target.read(path)
    except ValueError as error:
        return str(error)
    return None


def reader(read):
    """Return a target with this reader."""
    return Target(".bin", read, lambda folder: None)


def planted(error):
    """Return a reader that ends in this way."""

    def read(path):
        raise error

    return read


@pytest.mark.parametrize(
    "error",
    [ValueError("no remedy"), ValueError("two: \n lines"), UnicodeDecodeError("utf-8", b"", 0, 1, "wrong: byte")],
    ids=repr,
)
def test_a_refusal_that_is_not_one_sentence_is_a_finding(tmp_path, error):
    """Refusals without a remedy, on two lines, or by another framework are findings."""
    with pytest.raises(check.FindingError, match="expected one sentence"):
        check.check(reader(planted(error)), tmp_path / "a.bin", b"x")


def test_other_exceptions_are_passed_on(tmp_path):
    """Other exceptions reach the fuzzer, which stops at them."""
    with pytest.raises(IndexError):
        check.check(reader(planted(IndexError())), tmp_path / "a.bin", b"x")
    check.check(reader(planted(ValueError("it is damaged: write it again"))), tmp_path / "a.bin", b"x")


def test_memory_out_of_proportion_is_a_finding(tmp_path):
    """Memory that is touched counts, whoever allocated it."""
    with pytest.raises(check.FindingError, match="a file of 1 bytes took"):
        check.check(reader(lambda path: np.ones(200 << 20, np.uint8)), tmp_path / "a.bin", b"x")


def test_changes_are_made_where_they_belong():
    """Mutations depend on the seed alone, keep JSON valid, and use all three strategies."""
    original = SEPARATOR.join([json.dumps({"a": [1, 2], "b": json.dumps({"c": 1})}).encode(), b"\0" * 64])
    mutants = [mutate.mutated(original, 200, seed, lambda _, limit: b"bytes") for seed in range(300)]
    assert mutants == [mutate.mutated(original, 200, seed, lambda _, limit: b"bytes") for seed in range(300)]
    assert b"bytes" in mutants
    assert any(len(mutant) == len(original) and mutant != original for mutant in mutants)
    first_parts = [mutant.split(SEPARATOR)[0] for mutant in mutants if mutant != b"bytes" and mutant.endswith(b"\0" * 64)]
    assert any(b'\\"c\\": ' in mutant and b'\\"c\\": 1' not in mutant for mutant in first_parts)
    assert max(map(len, mutants)) <= 200


def test_a_table_comes_back():
    """A packed table gives back its names and values, with the checksum that the format asks for."""
    parts = [b"", b"first", b"name", b"x" * 300]
    assert table.unpack(table.pack(parts)) == parts
    unmasked = (table.checksum(b"123456789") - 0xA282EAD8) & 0xFFFFFFFF
    assert (unmasked << 15 | unmasked >> 17) & 0xFFFFFFFF == 0xE3069283  # the check value of CRC-32C


FUZZER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in what a shell runs in the background
print("#1 INITED cov: 5 ft: 6 corp: 1", file=sys.stderr, flush=True)
print("#2 NEW cov: 7 ft: 9 corp: 1", file=sys.stderr, flush=True)
{end}
"""


def test_a_quiet_fuzzer_is_stopped():
    """A fuzzer that prints nothing is stopped, and its coverage is reported."""
    started = time.monotonic()
    run = watch([sys.executable, "-c", FUZZER.format(end="time.sleep(600)")], 600, 1)
    assert (run.inputs, run.coverage, run.status) == (2, 7, 0)
    assert time.monotonic() - started < 300


def test_a_finding_is_a_status():
    """A finding ends the run with the fuzzer's exit status."""
    assert watch([sys.executable, "-c", FUZZER.format(end="sys.exit(77)")], 600, 600).status == 77


def test_the_version_of_atheris_is_pinned():
    """The requirements pin a version of Atheris."""
    assert "atheris==" in (Path(__file__).parents[1] / "requirements" / "fuzz.txt").read_text()
