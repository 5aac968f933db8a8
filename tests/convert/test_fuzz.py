"""The parts of the fuzzer: its first files, how it changes them, and what is a finding. These tests do not need Atheris."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fuzz import check, mutate, table
from fuzz.__main__ import watch
from fuzz.targets import SEPARATOR, TARGETS, Target
from tensorflow_modules import MARKS

pytestmark = [pytest.mark.no_cover, *MARKS]


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("name", TARGETS)
def test_files_to_begin_with_are_read_as_they_are_and_from_their_parts(name, tmp_path):
    """The first files of a target are valid, also those packed from parts. Otherwise only their refusal would be fuzzed."""
    if name in ("torch", "onnx"):
        pytest.importorskip(name)  # only CI always has them
    target = TARGETS[name]
    made, tried = tmp_path / "made", tmp_path / "tried"
    made.mkdir()
    tried.mkdir()
    target.seeds(made)
    tries = [given for file in sorted(made.glob(f"*{target.ending}")) for given in target.inputs(file)]
    read = set()
    for given in tries:
        path = tried / f"model{target.ending}"
        check.read(target, path, given)
        if refusal(target, path) is None:
            read.add(SEPARATOR in given)
    assert read >= {SEPARATOR in given for given in tries} - ({False} if name == "checkpoint" else set())  # of two files


def refusal(target, path):
    """Return why a target refuses a file, or None if it reads the file."""
    try:
        target.read(path)
    except ValueError as error:
        return str(error)
    return None


def reader(read):
    """Return a target that reads files by a function."""
    return Target(".bin", read, lambda folder: None)


def planted(error):
    """Return a reader that raises an error."""

    def read(path):
        raise error

    return read


@pytest.mark.parametrize(
    "error",
    [ValueError("no remedy"), ValueError("two: \n lines"), UnicodeDecodeError("utf-8", b"", 0, 1, "wrong: byte")],
    ids=repr,
)
def test_a_refusal_that_is_not_one_sentence_is_a_finding(tmp_path, error):
    """An error without a remedy, of two lines, or of Python itself is a finding."""
    with pytest.raises(check.FindingError, match="expected one sentence"):
        check.check(reader(planted(error)), tmp_path / "a.bin", b"x")


def test_other_exceptions_are_passed_on(tmp_path):
    """Errors other than ValueError reach the fuzzer, which stops. A ValueError of one sentence is no finding."""
    with pytest.raises(IndexError):
        check.check(reader(planted(IndexError())), tmp_path / "a.bin", b"x")
    check.check(reader(planted(ValueError("it is damaged: write it again"))), tmp_path / "a.bin", b"x")


def test_memory_out_of_proportion_is_a_finding(tmp_path):
    """A reader that takes far more memory than the size of its file is a finding."""
    with pytest.raises(check.FindingError, match="a file of 1 bytes took"):
        check.check(reader(lambda path: np.ones(200 << 20, np.uint8)), tmp_path / "a.bin", b"x")


def test_changes_are_made_where_they_belong():
    """A seed gives the same change each time, JSON stays JSON, and all three kinds of changes occur."""
    given = SEPARATOR.join([json.dumps({"a": [1, 2], "b": json.dumps({"c": 1})}).encode(), b"\0" * 64])
    made = [mutate.mutate_input(given, 200, seed, lambda _, most: b"bytes") for seed in range(300)]
    assert made == [mutate.mutate_input(given, 200, seed, lambda _, most: b"bytes") for seed in range(300)]
    assert b"bytes" in made
    assert any(len(mutated) == len(given) and mutated != given for mutated in made)
    changed = [mutated.split(SEPARATOR)[0] for mutated in made if mutated != b"bytes" and mutated.endswith(b"\0" * 64)]
    assert any(b'\\"c\\": ' in mutated and b'\\"c\\": 1' not in mutated for mutated in changed)
    assert max(map(len, made)) <= 200


def test_a_table_comes_back():
    """Packed names and values are unpacked again, and the checksum has the check value of CRC-32C."""
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
    """A fuzzer that prints nothing new is stopped, and its last counts are returned."""
    started = time.monotonic()
    run = watch([sys.executable, "-c", FUZZER.format(end="time.sleep(600)")], 600, 1)
    assert (run.inputs, run.coverage, run.status) == (2, 7, 0)
    assert time.monotonic() - started < 300


def test_a_finding_is_a_status():
    """The exit status of the fuzzer is returned."""
    assert watch([sys.executable, "-c", FUZZER.format(end="sys.exit(77)")], 600, 600).status == 77


def test_the_version_of_atheris_is_pinned():
    """`requirements/fuzz.txt` names one version, as the page on fuzzing says."""
    assert "atheris==" in (Path(__file__).parents[2] / "requirements" / "fuzz.txt").read_text()
