"""The texts of 07_translation.py are right, none for testing is learned, and the example learns to write in reverse."""

import datetime as dt
import re

import jax
import numpy as np
import pytest
import tyro

from jlstm.train import history
from problems import normal
from scripts import imported, is_picture

pytestmark = pytest.mark.no_cover
SMALL = ("--task", "reverse", "--length", "4", "--units", "16", "--steps", "2", "--batch", "8", "--test", "5", "--beams", "2")


@pytest.fixture
def example(monkeypatch):
    """The module of 07_translation.py."""
    return imported(monkeypatch, "07_translation")


@pytest.fixture
def tasks(monkeypatch):
    """The module of translation_tasks.py."""
    return imported(monkeypatch, "common.translation_tasks")


def run(example, *arguments, out):
    """Run `python 07_translation.py` with these arguments."""
    example.main(tyro.cli(example.TranslationOptions, args=[*arguments, "--out", str(out)]))


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("task", ["reverse", "dates"])
def test_pairs_are_right_and_split_by_their_content(tasks, task, held_out):
    """The target is the reverse or the day of the source, and the same pair is always on the same side of the split."""
    drawn, texts = tasks.pairs(task, np.random.default_rng(0), 300, 6, held_out=held_out)
    for k, (source, target) in enumerate(texts):
        assert tasks.text(drawn.source[k, : drawn.lengths[k]]) == source
        assert tasks.text(drawn.target[k]) == target
        assert drawn.target[k, len(target)] == tasks.END
        assert not drawn.source[k, len(source) :].any()
        assert not drawn.target[k, len(target) + 1 :].any()
        if task == "reverse":
            assert source == target[::-1]
            assert 3 <= len(source) <= 6
            assert (sum(map(tasks.LETTERS.index, source)) % 10 == 0) == held_out
        else:
            date = dt.date.fromisoformat(target)
            assert source in {tasks.written(date, number) for number in range(len(tasks.FORMATS))}
            assert ((date - dt.date(1900, 1, 1)).days % 10 == 0) == held_out
            assert date.year <= 2099


def test_dates_are_written_as_people_do(tasks):
    """Every format, for a day whose weekday is known."""
    assert [tasks.written(dt.date(1998, 3, 3), number) for number in range(len(tasks.FORMATS))] == [
        *("3 march 1998", "march 3, 1998", "3rd of march 1998", "mar 3 1998", "tuesday, 3 march 1998"),
        *("tue 03 mar 1998", "3.3.1998", "03/03/1998"),
    ]
    ordinals = [tasks.written(dt.date(2000, 1, day), 2).split()[0] for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31)]
    assert ordinals == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "30th", "31st"]


def test_a_batch_depends_on_its_place_alone(tasks):
    """A pass can be resumed at any batch, and another pass has other texts."""
    batches = tasks.Translations("dates", 0, 4, seed=1)
    later = next(batches.epoch(0, 2)).examples
    jax.tree.map(np.testing.assert_array_equal, later, [*zip(range(3), batches.epoch(0), strict=False)][2][1].examples)
    assert not np.array_equal(next(batches.epoch(1, 2)).examples.source, later.source)


@pytest.mark.slow
@pytest.mark.loose
def test_the_example_prints_and_saves_what_it_says(example, tmp_path, capsys):
    """Two steps of a tiny network: the lines, the picture, the weights, and another run that translates a text."""
    run(example, *SMALL, out=tmp_path)
    *_, saved, last = capsys.readouterr().out.splitlines()
    assert saved == f"Weights and picture are in {tmp_path}"
    assert re.fullmatch(r"Test accuracy: greedy [01]\.\d{4}, beam search [01]\.\d{4}", last)
    assert is_picture(tmp_path / "picture.png")
    assert [record.step for record in history.read(tmp_path / "history.jsonl")] == [2]
    run(example, *SMALL, "--predict", "abc", out=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    found = [float(re.fullmatch(r".* \((0\.\d{4})\)", line)[1]) for line in lines]
    assert len(found) == 2
    assert found == sorted(found, reverse=True)


@pytest.mark.slow
@pytest.mark.loose
def test_short_texts_are_learned(example, tmp_path, capsys):
    """Up to five letters are reversed after 500 steps, also those that never occurred."""
    run(example, *SMALL, "--length", "5", "--units", "48", "--steps", "500", "--batch", "64", "--test", "200", out=tmp_path)
    last = capsys.readouterr().out.splitlines()[-1]
    assert all(float(share) > 0.9 for share in re.findall(r"\d\.\d+", last)), last


@pytest.mark.loose
def test_greedy_search_repeats_what_teacher_forcing_says(example, tasks):
    """Fed with the text that a greedy search wrote, the decoder finds each of its tokens the likeliest."""
    translator = example.Translator(8, "multiplicative")
    params = normal(jax.eval_shape(translator.init, jax.random.key(0)), rng=np.random.default_rng(2), dtype=np.float32)
    drawn, _ = tasks.pairs("reverse", np.random.default_rng(0), 6, 5, held_out=False)

    @jax.jit
    def forced(params, pairs):
        beams = translator.translate(params, pairs.source, pairs.lengths, width=1, length=6)
        logits, weights = translator.logits(params, pairs._replace(target=beams.tokens[:, 0]))
        return beams, logits.argmax(-1), weights

    beams, likeliest, weights = forced(params, drawn)
    before_end = np.arange(6) <= np.asarray(beams.lengths[:, 0])[:, None]
    np.testing.assert_array_equal(np.asarray(likeliest)[before_end], np.asarray(beams.tokens[:, 0])[before_end])
    assert not np.asarray(weights)[np.broadcast_to(np.arange(5) >= drawn.lengths[:, None, None], weights.shape)].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--units", "7"), "error: --length, --beams and --test must be at least 1, --units even"),
        (("--lr", "0"), "--lr more than 0"),
        (("--predict", "3?"), r"error: a text must consist of .*, got '\?'"),
        (("--predict", "a" * 29), "error: a text must have at most 28 characters, got 29"),
        (("--predict", "1.1.2000"), "error: .*weights.safetensors"),
    ],
)
def test_a_mistake_is_one_sentence(example, tmp_path, arguments, message):
    """A mistake ends the script with one sentence."""
    with pytest.raises(SystemExit, match=message), example.one_sentence():
        run(example, *arguments, out=tmp_path)
