"""A full, read-only or missing disk ends a run in one sentence, and the run goes on to the same bits when there is room."""

import errno
import os
import resource
import shutil
import signal
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from jlstm.train import NonFiniteError, Outcome, fit, restore
from problems import assert_equal
from training import SGD, batches, init, loss_fn

run = partial(fit, loss_fn, init(), SGD, batches(), steps=16, every=4, validation=batches(7))
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO]


def sentence(call, number):
    """Return the message of an error with this number: one short line, raised from the operating system's error."""
    with pytest.raises(OSError, match=r"(?s).") as caught:
        call()
    error = caught.value
    assert error.errno == number
    assert error.__cause__.errno == number
    assert error.__cause__.__cause__ is error.__cause__.__context__ is None
    assert "\n" not in str(error)
    assert os.strerror(number) in str(error)
    assert not str(error).startswith("[Errno")
    return str(error)


def failing(monkeypatch, number, owner, name, matches):
    """Make a function raise this error where `matches` holds for its arguments."""
    right = getattr(owner, name)

    def wrong(*args, **options):
        if matches(*args):
            raise OSError(number, os.strerror(number), "somewhere")
        return right(*args, **options)

    monkeypatch.setattr(owner, name, wrong)


def at(step, action):
    """Return a callback that calls `action` at that record."""

    def callback(record, params):
        if record.step == step:
            action()

    return callback


PLACES = {
    "making the folder": (Path, "mkdir", lambda path, *_: path.name.endswith(".part")),
    "opening": (Path, "open", lambda path, *_: path.name.startswith(".jlstm-")),
    "flushing": (os, "fsync", lambda *_: True),
    "renaming the file": (Path, "replace", lambda path, *_: path.name.startswith(".jlstm-")),
    "renaming the folder": (Path, "replace", lambda path, *_: path.name.endswith(".part")),
}


@pytest.mark.table(quick=7)
@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_that_cannot_be_written_is_one_sentence(place, number, tmp_path, monkeypatch, capfd):
    """The last two checkpoints stay, nothing is half written, and the run can go on."""
    folder = tmp_path / "run"
    with monkeypatch.context() as context:
        callback = at(12, lambda: failing(context, number, *PLACES[place]))
        message = sentence(lambda: run(checkpoints=folder, callbacks=[callback]), number)
    assert f"the checkpoint of step 12 cannot be written to {folder} (" in message
    assert message.endswith("once it can be, start again: the run goes on from step 8")
    assert sorted(path.name for path in folder.iterdir()) == ["4", "8"]
    assert capfd.readouterr() == ("", "")
    assert_equal(run(checkpoints=folder).params, run().params)


@contextmanager
def small_files(size):
    """Let no file grow beyond a size. The operating system itself then refuses to write more."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_real_limit_is_one_sentence(tmp_path):
    """A file that the system cuts short is removed. The history has its own sentence."""
    run(steps=4, checkpoints=tmp_path / "run")
    with small_files(1000):
        message = sentence(lambda: run(checkpoints=tmp_path / "run"), errno.EFBIG)
    assert "the checkpoint of step 8 cannot be written to " in message
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["4"]
    with small_files(10):
        message = sentence(lambda: run(history=tmp_path / "history.jsonl"), errno.EFBIG)
    assert message.endswith("history.jsonl cannot be written (File too large): make room, or name a file elsewhere")
    assert_equal(run(checkpoints=tmp_path / "run").params, run().params)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.jsonl", "run"]


@pytest.mark.parametrize("gone", ["run", "."])
def test_a_folder_that_vanishes_is_not_made_again(gone, tmp_path):
    """When a disk is unmounted, nothing is written to the folder beneath its mount point."""
    folder = tmp_path / "disk" / "run"
    callback = at(8, lambda: shutil.rmtree(folder if gone == "run" else folder.parent))
    message = sentence(lambda: run(checkpoints=folder, callbacks=[callback]), errno.ENOENT)
    assert "the checkpoint of step 8 cannot be written to " in message
    assert not folder.exists()


def test_a_folder_that_becomes_a_file_is_one_sentence(tmp_path):
    """`restore` raises the sentence too."""
    folder = tmp_path / "run"
    callback = at(8, lambda: (shutil.rmtree(folder), folder.touch()))
    message = sentence(lambda: run(checkpoints=folder, callbacks=[callback]), errno.ENOTDIR)
    assert "the checkpoint of step 8 cannot be written to " in message
    with pytest.raises(NotADirectoryError, match="is a file: name a folder for the checkpoints"):
        run(checkpoints=folder)


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_made_is_one_sentence(number, tmp_path, monkeypatch):
    """The sentence comes before any long computation."""
    failing(monkeypatch, number, Path, "mkdir", lambda path, *_: path.name == "run")
    message = sentence(lambda: run(checkpoints=tmp_path / "run", callbacks=[pytest.fail]), number)
    assert "checkpoints cannot be written to " in message


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO], ids=errno.errorcode.get)
def test_a_checkpoint_that_cannot_be_read_is_one_sentence(number, tmp_path, monkeypatch):
    """A missing permission is not taken for damage; an unreadable disk block is."""
    run(checkpoints=tmp_path / "run")
    failing(monkeypatch, number, Path, "read_bytes", lambda path: path.parent.name == "16")
    with pytest.raises((OSError, ValueError), match=r"(?s).") as caught:
        restore(tmp_path / "run", init())
    assert os.strerror(number) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, PermissionError if number == errno.EACCES else ValueError)
    if number == errno.EIO:
        with pytest.warns(UserWarning, match="Input/output error.*: going back to that of step 12"):
            assert_equal(run(checkpoints=tmp_path / "run").params, run().params)


def test_a_full_disk_does_not_hide_a_loss_that_is_not_finite(tmp_path, monkeypatch):
    """The error alone then has the batch."""
    loss = lambda params, examples, key, carry: Outcome(loss_fn(params, examples, key, carry).losses / jnp.zeros(()))
    failing(monkeypatch, errno.ENOSPC, *PLACES["flushing"])
    with pytest.raises(NonFiniteError, match=r"its batch is in this error's attribute batch, since .*\.npz cannot be written"):
        fit(loss, init(), SGD, batches(), epochs=1, checkpoints=tmp_path)


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", ["flushing", "opening", "renaming the file"])
def test_a_file_that_cannot_be_saved_is_one_sentence(place, number, tmp_path, monkeypatch):
    """The old file stays, and no other file is left."""
    path = tmp_path / "a.safetensors"
    jlstm.save(path, {"a": np.ones(3, np.float32)})
    content = path.read_bytes()
    with monkeypatch.context() as context:
        failing(context, number, *PLACES[place])
        message = sentence(lambda: jlstm.save(path, {"a": np.zeros(3, np.float32)}), number)
    assert message.startswith(f"{path} cannot be written (")
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.read_bytes() == content
