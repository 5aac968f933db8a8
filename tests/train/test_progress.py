"""The progress bar on a terminal, and the curves for TensorBoard."""

import io
import itertools
import re
import struct
import sys
import time
from functools import partial

import pytest

import jlstm
from jlstm.data import Minibatches
from jlstm.train import Record, fit, restore, tensorboard
from training import SGD, batches, init, loss_fn

run = partial(fit, loss_fn, init(), SGD, epochs=2, validation=batches(7))


class Slow(Minibatches):
    """Minibatches that take long enough for the bar to be drawn."""

    def epoch(self, *position):
        for batch in super().epoch(*position):
            time.sleep(0.06)
            yield batch


class Terminal(io.StringIO):
    """A terminal that records its output."""

    def isatty(self):
        return True


def test_a_terminal_shows_the_bar(monkeypatch):
    """It shows steps, time to go, loss, metrics and examples a second in 80 columns, and is cleared at the end."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    run(batches=Slow(batches().examples, 4), progress=True)
    output = terminal.getvalue()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output)
    frame = r" +(\d+)/12 0:00:\d\d loss [\d.]+  accuracy [\d.]+  (\d+) examples/s"
    steps, speeds = zip(*re.findall(frame, text), strict=True)
    assert int(steps[-1]) > int(steps[0])
    assert 0 < int(speeds[-1]) < 4 / 0.06  # examples in a batch, over the least time of a batch
    assert output.endswith("\x1b[2K")  # the line is erased


def test_elsewhere_nothing_is_shown(capfd):
    """Nothing is written if stdout is no terminal, or without a bar."""
    run(batches=batches(), progress=True)
    run(batches=batches())
    assert capfd.readouterr() == ("", "")


def restore_orbax(folder):
    """Restore a checkpoint of a version that wrote with orbax, of which only the folder's name matters here."""
    (folder / "1" / "about").mkdir(parents=True)
    restore(folder, init())


@pytest.mark.parametrize(
    ("module", "use", "beginning"),
    [
        ("rich", lambda folder: run(batches=batches(), progress=True), "the progress bar needs rich"),
        ("tensorboardX", tensorboard, "writing for TensorBoard needs tensorboardX"),
        ("orbax.checkpoint", restore_orbax, "a checkpoint of an earlier version needs orbax"),
    ],
)
def test_what_is_not_installed_gets_one_sentence(module, use, beginning, monkeypatch, tmp_path):
    """The sentence names the missing package and what installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "jlstm.train.orbax_checkpoints", raising=False)  # other tests may have imported it
    monkeypatch.delattr(jlstm.train, "orbax_checkpoints", raising=False)
    with pytest.raises(ImportError) as caught:
        use(tmp_path)
    assert str(caught.value) == f'{beginning}, which is not installed: pip install "jlstm[train]"'


def curves(folder):
    """Return TensorBoard's curves from the event files. A new session drops the points from its first step on."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    curves_by_tag = {}
    for path in sorted(folder.iterdir()):
        content, offset = path.read_bytes(), 0
        while offset < len(content):  # length, checksum, event, checksum
            (length,) = struct.unpack_from("<Q", content, offset)
            event = Event.FromString(content[offset + 12 : offset + 12 + length])
            offset += 16 + length
            if event.session_log.status == SessionLog.START:
                curves_by_tag = {
                    name: [point for point in points if point[0] < event.step] for name, points in curves_by_tag.items()
                }
            for value in event.summary.value:
                curves_by_tag.setdefault(value.tag, []).append((event.step, value.simple_value))
    return curves_by_tag


def settled(folder, count):
    """Return the curves, once the writer's thread has written so many points of the loss."""
    for _ in range(100):
        if len(curves(folder).get("train/loss", [])) >= count:
            break
        time.sleep(0.1)
    return curves(folder)


def test_tensorboard_has_every_figure(tmp_path):
    """There is a curve for each metric of the records, and a point for each record."""
    history = run(batches=batches(), every=5, callbacks=[tensorboard(tmp_path)]).history
    expected = {f"{part}/{name}" for part in ("train", "validation") for name in ("loss", "accuracy")}
    curves_by_tag = settled(tmp_path, 3)
    assert curves_by_tag.keys() == expected | {"train/grad_norm", "examples_per_second"}
    for part, name in itertools.product(("train", "validation"), ("loss", "accuracy")):
        assert curves_by_tag[f"{part}/{name}"] == [
            (record.step, pytest.approx(getattr(record, part)[name])) for record in history
        ]


def test_a_run_that_goes_on_draws_no_point_twice(tmp_path):
    """A record drawn before its checkpoint is drawn once after a restart."""

    def fail(record, params):
        if record.step == 10:
            raise ConnectionError

    go = partial(run, batches=batches(), every=5, checkpoints=tmp_path / "checkpoints")
    with pytest.raises(ConnectionError):
        go(callbacks=[tensorboard(tmp_path / "board"), fail])
    assert [step for step, _ in settled(tmp_path / "board", 2)["train/loss"]] == [5, 10]
    go(callbacks=[tensorboard(tmp_path / "board")])
    assert [step for step, _ in settled(tmp_path / "board", 3)["train/loss"]] == [5, 10, 12]


def test_other_processes_do_not_draw(tmp_path, monkeypatch):
    """Only the first of several processes writes."""
    monkeypatch.setattr("jax.process_index", lambda: 1)
    tensorboard(tmp_path)(Record(1, 1.0, {"loss": 1.0}, {}, 1.0, 1.0), {})
    assert list(tmp_path.iterdir()) == []
