"""The fuzzer's own parts: its files to begin with, what it makes of them, what it takes for a finding. Atheris is not needed."""

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
    """Where a target packs parts, lengths and checksums are right: else only the refusal of those would be fuzzed."""
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
    """Why a file is not read, or nothing."""
    try:
        target.read(path)
    except ValueError as error:
        return str(error)
    return None


def reader(read):
    """A target of one's own."""
    return Target(".bin", read, lambda folder: None)


def planted(error):
    """A reader that ends so."""

    def read(path):
        raise error

    return read


@pytest.mark.parametrize(
    "error",
    [ValueError("no remedy"), ValueError("two: \n lines"), UnicodeDecodeError("utf-8", b"", 0, 1, "wrong: byte")],
    ids=repr,
)
def test_a_refusal_that_is_not_one_sentence_is_a_finding(tmp_path, error):
    """Without a remedy, in two lines, or another framework's."""
    with pytest.raises(check.FindingError, match="expected one sentence"):
        check.check(reader(planted(error)), tmp_path / "a.bin", b"x")


def test_other_exceptions_are_passed_on(tmp_path):
    """The fuzzer stops at them."""
    with pytest.raises(IndexError):
        check.check(reader(planted(IndexError())), tmp_path / "a.bin", b"x")
    check.check(reader(planted(ValueError("it is damaged: write it again"))), tmp_path / "a.bin", b"x")


def test_memory_out_of_proportion_is_a_finding(tmp_path):
    """What is touched counts, whoever takes it."""
    with pytest.raises(check.FindingError, match="a file of 1 bytes took"):
        check.check(reader(lambda path: np.ones(200 << 20, np.uint8)), tmp_path / "a.bin", b"x")


def test_changes_are_made_where_they_belong():
    """The same from the same seed; JSON stays JSON; all three ways are taken."""
    given = SEPARATOR.join([json.dumps({"a": [1, 2], "b": json.dumps({"c": 1})}).encode(), b"\0" * 64])
    made = [mutate.mutate_input(given, 200, seed, lambda _, most: b"bytes") for seed in range(300)]
    assert made == [mutate.mutate_input(given, 200, seed, lambda _, most: b"bytes") for seed in range(300)]
    assert b"bytes" in made
    assert any(len(mutated) == len(given) and mutated != given for mutated in made)
    changed = [mutated.split(SEPARATOR)[0] for mutated in made if mutated != b"bytes" and mutated.endswith(b"\0" * 64)]
    assert any(b'\\"c\\": ' in mutated and b'\\"c\\": 1' not in mutated for mutated in changed)
    assert max(map(len, made)) <= 200


def test_a_table_comes_back():
    """Names and values, with the checksum that the format asks for."""
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
    """And what it reached is told."""
    started = time.monotonic()
    run = watch([sys.executable, "-c", FUZZER.format(end="time.sleep(600)")], 600, 1)
    assert (run.inputs, run.coverage, run.status) == (2, 7, 0)
    assert time.monotonic() - started < 300


def test_a_finding_is_a_status():
    """The fuzzer's own."""
    assert watch([sys.executable, "-c", FUZZER.format(end="sys.exit(77)")], 600, 600).status == 77


def test_the_version_of_atheris_is_pinned():
    """As its page says."""
    assert "atheris==" in (Path(__file__).parents[2] / "requirements" / "fuzz.txt").read_text()
