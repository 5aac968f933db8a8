"""The memory tasks are those of the literature, and the example shows which networks can remember."""

import re

import jax
import numpy as np
import pytest
import tyro

from scripts import imported

pytestmark = pytest.mark.no_cover


@pytest.fixture
def example(monkeypatch):
    """The module of 06_long_memory.py."""
    return imported(monkeypatch, "06_long_memory")


@pytest.fixture
def tasks(monkeypatch):
    """The module of memory_tasks.py."""
    return imported(monkeypatch, "common.memory_tasks")


def draw():
    return np.random.default_rng(0)


@pytest.mark.parametrize("length", [2, 7, 100])
def test_adding_asks_for_the_sum_of_two_marked_numbers(tasks, length):
    """One marked number lies in each half of the sequence."""
    xs, sums = tasks.adding(draw(), 1000, length)
    values, marks = xs[..., 0], xs[..., 1]
    assert xs.shape == (1000, length, 2)
    assert (xs.dtype, sums.dtype) == (np.float32, np.float32)
    assert ((values >= 0) & (values < 1)).all()
    half = length // 2
    np.testing.assert_array_equal(marks[:, :half].sum(1), 1)
    np.testing.assert_array_equal(marks[:, half:].sum(1), 1)
    np.testing.assert_allclose(sums, values[marks == 1].reshape(1000, 2).sum(1), rtol=1e-6)
    assert (marks.sum(0) > 0).all()


def test_who_always_says_one_errs_by_a_sixth(tasks):
    """The error is the variance of the sum of two uniform numbers."""
    _, sums = tasks.adding(draw(), 200_000, 4)
    assert np.mean((sums - 1) ** 2) == pytest.approx(1 / 6, rel=0.01)  # four standard errors of 200,000 draws


def test_copying_asks_for_the_first_ten_symbols(tasks):
    """Inputs are symbols, blanks, a signal after the given delay, and blanks during the answer."""
    xs, symbols = tasks.copy(draw(), 50, 6)
    indices = xs.argmax(-1)
    assert xs.shape == (50, 26, 10)
    np.testing.assert_array_equal(xs.sum(-1), 1)
    np.testing.assert_array_equal(indices[:, :10], symbols)
    assert set(symbols.ravel()) == set(range(8))
    np.testing.assert_array_equal(indices[:, 10:15], 8)
    np.testing.assert_array_equal(indices[:, 15], 9)
    np.testing.assert_array_equal(indices[:, 16:], 8)


def test_sequences_are_new_in_every_batch_and_the_same_again(tasks):
    """Seed, pass and index decide a batch, and the shares of several processes make it up."""
    source = tasks.Sequences(tasks.adding, 5, 4, seed=1)
    batches = [batch for number in (0, 1) for batch in source.epoch(number)]
    assert len(batches) == 2 * len(source)
    assert len({batch.examples[0].tobytes() for batch in batches}) == len(batches)
    (last,) = source.epoch(1, start=len(source) - 1)
    np.testing.assert_array_equal(last.examples[0], batches[-1].examples[0])
    halves = [next(source.epoch(1, len(source) - 1, part=(k, 2))) for k in (0, 1)]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *halves)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, joined, last)))
    reseeded = next(tasks.Sequences(tasks.adding, 5, 4, seed=2).epoch(0))
    assert not np.array_equal(reseeded.examples[0], batches[0].examples[0])


def test_units_start_with_all_time_scales(example):
    """Initial forget gates go from 1/2 to 2T / (2T + 1), input gates are 1 - f, and other biases are zero."""
    i, f, g, o = np.split(example.time_scales(50, jax.random.key(0), (4000,), "float32"), 4)
    assert f.min() == pytest.approx(0, abs=0.02)
    assert f.max() == pytest.approx(np.log(100), abs=0.02)
    assert np.median(f) == pytest.approx(np.log(100) / 2, rel=0.1)
    np.testing.assert_array_equal(i, -f)
    assert not g.any()
    assert not o.any()


def losses(printed, folder):
    """Return the losses that a run reports. Assert that its picture and its histories exist."""
    *lines, saved, last = printed.splitlines()
    figures = [re.fullmatch(r"(LSTM|RNN): test loss (\d\.\d{4}), (?:\d+\.\d)% right, \d+ s of training", line) for line in lines]
    assert [match[1] for match in figures] == ["LSTM", "RNN"]
    assert saved == f"Histories and picture are in {folder}"
    assert (folder / "picture.png").stat().st_size > 20_000
    assert all((folder / name / "history.jsonl").is_file() for name in ("lstm", "rnn"))
    assert last.startswith(f"Test loss: LSTM {figures[0][2]}, RNN {figures[1][2]}, remembering nothing ")
    return [float(word.strip(",")) for word in last.split() if word[0].isdigit()]


@pytest.mark.slow
@pytest.mark.loose
def test_copying_prints_and_saves_what_it_says(example, tmp_path, capsys):
    """Guessing among eight symbols has a loss of ln 8."""
    arguments = ["--task", "copy", "--length", "12", "--units", "6", "--steps", "2", "--batch", "4", "--out"]
    example.main(tyro.cli(example.MemoryOptions, args=[*arguments, str(tmp_path)]))
    assert losses(capsys.readouterr().out, tmp_path)[-1] == pytest.approx(np.log(8), abs=1e-4)


@pytest.mark.slow
@pytest.mark.loose
def test_the_lstm_remembers_and_keeps_its_gradient(example, tmp_path, capsys, monkeypatch):
    """A task of forty steps is learned in seconds. The LSTM then keeps more of the first state than the RNN."""
    drawn, show = [], example.draw
    monkeypatch.setattr(example, "draw", lambda path, results, options: (drawn.append(results), show(path, results, options)))
    example.main(example.MemoryOptions(length=40, units=32, steps=400, out=tmp_path))
    lstm, _, nothing = losses(capsys.readouterr().out, tmp_path)
    assert nothing == pytest.approx(1 / 6, abs=1e-4)
    assert lstm < nothing / 5
    flows = {name: flow for name, (*_, flow) in drawn[0].items()}
    assert flows["LSTM"].state[0] > 0.1
    assert flows["RNN"].state[0] < flows["LSTM"].state[0] / 3


@pytest.mark.parametrize("options", [{"length": 1}, {"units": 1}, {"lr": 0.0}, {"rnn_lr": -1.0}])
def test_numbers_that_make_no_sense_are_one_sentence(example, tmp_path, options):
    """Invalid numbers are refused before anything is written."""
    with pytest.raises(ValueError, match="--length and --units must be at least 2, --lr and --rnn-lr more than 0"):
        example.main(example.MemoryOptions(out=tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()
